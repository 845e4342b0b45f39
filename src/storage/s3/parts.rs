//! Cutting a body of any length into parts of one size.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

/// The body in parts of exactly `size` bytes, save the last; an empty body has no part.
pub(super) fn of(
    body: BoxStream<'static, io::Result<Bytes>>,
    size: usize,
) -> BoxStream<'static, io::Result<Bytes>> {
    let cutter = Cutter { body, waiting: Bytes::new(), size };
    futures::stream::try_unfold(cutter, |mut cutter| async move {
        let part = cutter.next_part().await?;
        Ok((!part.is_empty()).then_some((part, cutter)))
    })
    .boxed()
}

struct Cutter {
    body: BoxStream<'static, io::Result<Bytes>>,
    /// What the body has given beyond the last part.
    waiting: Bytes,
    size: usize,
}

impl Cutter {
    async fn next_part(&mut self) -> io::Result<Bytes> {
        if self.waiting.len() >= self.size {
            return Ok(self.waiting.split_to(self.size));
        }
        // All of it at once: a buffer that grows ends up twice as large as its part.
        let mut part = BytesMut::with_capacity(self.size);
        part.extend_from_slice(&std::mem::take(&mut self.waiting));
        while part.len() < self.size {
            let Some(mut given) = self.body.try_next().await? else { break };
            let missing = (self.size - part.len()).min(given.len());
            part.extend_from_slice(&given.split_to(missing));
            self.waiting = given;
        }
        Ok(part.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_body_cut_at_every_size(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            size in 1..30_usize,
        ) {
            let whole = pieces.concat();
            let body = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
            let parts: Vec<_> = futures::executor::block_on(of(body.boxed(), size).try_collect()).unwrap();
            let expected: Vec<_> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(parts, expected);
        }
    }
}
