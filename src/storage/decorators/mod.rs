//! What is put around a driver: retries, and a weaker promise for stores without conditional create.
//!
//! Every decorator is a [`super::Storage`] again. Drivers try once; nothing between them and the commands tries
//! again.

mod retrying;
mod same;
mod single_writer;

pub use retrying::Retrying;
pub use single_writer::SingleWriter;
