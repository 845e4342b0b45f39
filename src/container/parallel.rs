//! Independent pieces of work on all cores, for one object at a time.

use std::iter::Enumerate;
use std::num::NonZeroUsize;
use std::sync::{Mutex, OnceLock};
use std::{panic, thread};

use crate::error::Result;

/// The number of threads that share the chunks of one object.
pub(super) fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    // Asking reads control group files, which costs as much as hashing a segment.
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Does `work` on all `items`, on at most [`threads`] threads; the results are in the order of the items.
///
/// The first error in that order wins. A panic in `work` goes on in the caller.
pub(super) fn map<I, T, F>(items: I, work: F) -> Result<Vec<T>>
where
    I: ExactSizeIterator + Send,
    I::Item: Send,
    T: Send,
    F: Fn(I::Item) -> Result<T> + Sync,
{
    let helpers = threads().min(items.len()).saturating_sub(1);
    if helpers == 0 {
        return items.map(work).collect();
    }
    let queue = Mutex::new(items.enumerate());
    let mut results = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| drain(&queue, &work))).collect();
        let mut results = drain(&queue, &work);
        for helper in helpers {
            results.extend(helper.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn drain<I: Iterator, T>(
    queue: &Mutex<Enumerate<I>>,
    work: &impl Fn(I::Item) -> Result<T>,
) -> Vec<(usize, Result<T>)> {
    let mut results = Vec::new();
    loop {
        let next = queue.lock().expect("taking an item does not panic").next();
        let Some((index, item)) = next else { return results };
        let result = work(item);
        let failed = result.is_err();
        results.push((index, result));
        // What nobody has taken comes after this item, so its result cannot matter any more.
        if failed {
            return results;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let doubled = map((0..1000).collect::<Vec<_>>().into_iter(), |item| Ok(item * 2)).unwrap();
        assert_eq!(doubled, (0..1000).map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_error_wins() {
        let failing = |item: usize| {
            if item % 10 == 3 { Err(Error::bug(format!("item {item}"))) } else { Ok(item) }
        };
        assert_eq!(map(0..100, failing).unwrap_err().to_string(), "item 3");
    }

    /// E1
    #[test]
    #[should_panic(expected = "broken worker")]
    fn a_panic_goes_on_in_the_caller() {
        let _ = map(0..4, |item: usize| -> Result<()> { panic!("broken worker {item}") });
    }
}
