//! The S3 driver, on the AWS SDK, for AWS and for servers that speak its protocol.
//!
//! Owns what requests are sent and what answers mean. Does not own retries (`decorators/retrying.rs`); the SDK's own
//! are off.

mod options;

pub use options::{Addressing, S3Options, ServerSideEncryption, StaticCredentials};
