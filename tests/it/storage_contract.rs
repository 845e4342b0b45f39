//! What every driver promises, told once and held against a real directory and a real S3 server.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use walrs::deadline::Deadline;
use walrs::storage::{
    Body, ByteRange, ConnectOptions, FsStorage, PutMode, S3Options, StaticCredentials, Storage,
    StorageErrorKind, connect,
};

use crate::support::s3_server::S3Server;
use crate::support::scratch::Scratch;
use crate::support::stored::{get, key, keys, pattern, prefix, put};

/// A store to hold the claims against, and what keeps it alive.
struct Store {
    storage: Arc<dyn Storage>,
    _keep: Box<dyn std::any::Any + Send>,
}

async fn directory() -> Store {
    let scratch = Scratch::new();
    let storage = FsStorage::new(scratch.create_directory("repository"));
    Store { storage: Arc::new(storage), _keep: Box::new(scratch) }
}

async fn s3() -> Store {
    let server = S3Server::start();
    let storage = connect(&server.options("contract/main")).await.expect("usable options");
    Store { storage, _keep: Box::new(server) }
}

/// A server of your own: run `cargo test storage_contract::another_server -- --ignored` with its variables set.
///
/// On Garage 2.5, which ignores the condition of a creation, two claims of S4 fail and all others hold.
async fn another_server() -> Store {
    #[expect(clippy::disallowed_methods, reason = "whose server it is, only the environment knows")]
    let set = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("set `{name}`"));
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let prefix = format!("walrs-contract-{}", run.as_nanos());
    let s3 = S3Options {
        endpoint: Some(set("WALRS_TEST_S3_ENDPOINT")),
        region: Some(set("WALRS_TEST_S3_REGION")),
        credentials: Some(StaticCredentials::new(
            set("WALRS_TEST_S3_ACCESS_KEY"),
            set("WALRS_TEST_S3_SECRET_KEY"),
        )),
        ..S3Options::default()
    };
    let url = format!("s3://{}/{prefix}", set("WALRS_TEST_S3_BUCKET"));
    let url = url.parse().expect("a valid URL");
    let deadline = Deadline::after(Duration::from_mins(5));
    let storage = connect(&ConnectOptions { url, s3, deadline }).await.expect("usable options");
    Store { storage, _keep: Box::new(()) }
}

macro_rules! every_driver {
    ($($(#[doc = $text:literal])+ $claim:ident)*) => {
        every_driver!(@of directory: #[doc = "A directory."] $($claim)*);
        every_driver!(@of s3: #[doc = "A server of the tests."] $($claim)*);
        every_driver!(@of another_server: #[ignore = "needs a server of your own"] $($claim)*);
    };
    (@of $driver:ident: #[$attribute:meta] $($claim:ident)*) => {
        mod $driver {
            $(
                #[$attribute]
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    let store = super::$driver().await;
                    super::$claim(&store.storage).await;
                }
            )*
        }
    };
}

every_driver! {
    /// S2
    what_was_put_is_read_back_whole
    /// S2
    an_empty_object_is_an_object
    /// S2, S9 (on S3 by multipart)
    a_streamed_body_is_stored_whole
    /// S1
    a_body_that_fails_halfway_stores_nothing
    /// S4
    creating_over_an_object_is_refused_and_changes_nothing
    /// S4
    of_many_creators_at_once_exactly_one_wins
    /// S4
    overwriting_replaces_the_object
    /// S8
    an_absent_object_is_not_found
    /// S6
    a_range_reads_exactly_its_bytes
    /// S6
    a_range_past_the_end_is_refused
    /// S7
    a_listing_is_in_byte_order_of_whole_keys
    /// S7
    a_listing_goes_on_behind_a_key
    /// S7
    a_listing_of_a_prefix_shows_what_lies_below_it
    /// S7
    a_listing_of_more_than_a_thousand_objects_is_complete
    /// G6
    deleting_an_absent_object_is_no_error
    /// G5
    the_store_has_a_clock
    /// S1, S9
    what_a_dead_writer_left_behind_is_removed_and_nothing_else
}

async fn what_was_put_is_read_back_whole(storage: &Arc<dyn Storage>) {
    let content = pattern(3_500_000);
    put(storage, "wal/69d3/000000010000000000000042", &content).await.expect("stored");
    let read = get(storage, "wal/69d3/000000010000000000000042", ByteRange::Full).await;
    assert!(read.expect("readable") == content, "other bytes came back");
    let info = storage.head(&key("wal/69d3/000000010000000000000042")).await.expect("there");
    assert_eq!(info.size, 3_500_000);
}

async fn an_empty_object_is_an_object(storage: &Arc<dyn Storage>) {
    put(storage, "backups/b/alive/1", b"").await.expect("stored");
    assert_eq!(get(storage, "backups/b/alive/1", ByteRange::Full).await.expect("there"), "");
    assert_eq!(storage.head(&key("backups/b/alive/1")).await.expect("there").size, 0);
    assert_eq!(keys(storage, "backups/", None).await, ["backups/b/alive/1"]);
}

async fn a_streamed_body_is_stored_whole(storage: &Arc<dyn Storage>) {
    let content = pattern(40_000_000);
    let streamed = content.clone();
    let body = Body::source(move || {
        let parts: Vec<_> = streamed.chunks(777_777).map(Bytes::copy_from_slice).map(Ok).collect();
        futures::stream::iter(parts).boxed()
    });
    storage.put(&key("packs/1"), body, PutMode::Create).await.expect("stored");
    let read = get(storage, "packs/1", ByteRange::Full).await.expect("readable");
    assert!(read == content, "other bytes came back");
}

async fn a_body_that_fails_halfway_stores_nothing(storage: &Arc<dyn Storage>) {
    for good_bytes in [0, 1_000, 40_000_000] {
        let body = Body::source(move || {
            let good = Ok(Bytes::from(vec![7; good_bytes]));
            let bad = Err(std::io::Error::other("the disk that feeds it broke"));
            futures::stream::iter([good, bad]).boxed()
        });
        let failure = storage.put(&key("packs/1"), body, PutMode::Create).await;
        let failure = failure.expect_err("the body failed");
        assert_eq!(failure.kind(), StorageErrorKind::Invalid, "{failure}");
    }
    assert_eq!(keys(storage, "", None).await, [""; 0]);
    put(storage, "packs/1", b"whole").await.expect("the name is free");
}

async fn creating_over_an_object_is_refused_and_changes_nothing(storage: &Arc<dyn Storage>) {
    put(storage, "a/b", b"first").await.expect("stored");
    for second in ["other", "first"] {
        let refused = put(storage, "a/b", second.as_bytes()).await.expect_err("the name is taken");
        assert!(refused.is_already_exists(), "{refused}");
    }
    assert_eq!(get(storage, "a/b", ByteRange::Full).await.expect("there"), "first");
}

async fn of_many_creators_at_once_exactly_one_wins(storage: &Arc<dyn Storage>) {
    for round in 0..10 {
        let name = format!("race/{round}");
        let attempts = (0..8_u8).map(|writer| {
            let (storage, name) = (Arc::clone(storage), name.clone());
            async move { (writer, put(&storage, &name, &[writer; 1000]).await) }
        });
        let results = futures::future::join_all(attempts).await;
        let winners: Vec<_> = results
            .iter()
            .filter(|(_, result)| result.is_ok())
            .map(|(writer, _)| *writer)
            .collect();
        let losers = results.iter().filter_map(|(_, result)| result.as_ref().err());
        losers.for_each(|loser| assert!(loser.is_already_exists(), "{loser}"));
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = get(storage, &name, ByteRange::Full).await.expect("there");
        assert!(stored == vec![winners[0]; 1000], "the winner's bytes are not the stored ones");
    }
}

async fn overwriting_replaces_the_object(storage: &Arc<dyn Storage>) {
    for content in ["first", "the second"] {
        let body = Bytes::from(content).into();
        storage.put(&key("a"), body, PutMode::Overwrite).await.expect("stored");
        assert_eq!(get(storage, "a", ByteRange::Full).await.expect("there"), content);
    }
}

async fn an_absent_object_is_not_found(storage: &Arc<dyn Storage>) {
    put(storage, "a/b/c", b"x").await.expect("stored");
    for absent in ["a/b", "a/b/d", "z", "a/b/c-and-more", "z/y/x"] {
        let read = get(storage, absent, ByteRange::Full).await.expect_err("absent");
        assert!(read.is_not_found(), "{read}");
        let range = ByteRange::Span { offset: 1, length: 1 };
        assert!(get(storage, absent, range).await.expect_err("absent").is_not_found());
        let asked = storage.head(&key(absent)).await.expect_err("absent");
        assert!(asked.is_not_found(), "{asked}");
    }
}

async fn a_range_reads_exactly_its_bytes(storage: &Arc<dyn Storage>) {
    let content = pattern(2_500_000);
    put(storage, "a", &content).await.expect("stored");
    for (offset, length) in
        [(0, 1), (0, 2_500_000), (1, 1_048_576), (2_499_999, 1), (1_000_000, 1_500_000)]
    {
        let range = ByteRange::Span { offset: offset as u64, length: length as u64 };
        let read = get(storage, "a", range).await.expect("readable");
        assert!(read == content[offset..offset + length], "{offset} + {length}");
    }
    let over = ByteRange::Span { offset: 2_499_990, length: 1_000_000 };
    assert!(get(storage, "a", over).await.expect("readable") == content[2_499_990..]);
}

async fn a_range_past_the_end_is_refused(storage: &Arc<dyn Storage>) {
    put(storage, "a", b"0123456789").await.expect("stored");
    for offset in [10, 11, 1 << 40] {
        let range = ByteRange::Span { offset, length: 1 };
        let refused = get(storage, "a", range).await.expect_err("nothing is there");
        assert_eq!(refused.kind(), StorageErrorKind::Invalid, "{refused}");
    }
}

async fn a_listing_is_in_byte_order_of_whole_keys(storage: &Arc<dyn Storage>) {
    // `-` and `.` are less than `/`, digits and letters are more.
    let sorted = ["a-/z", "a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "aa/b", "b"];
    for name in ["b", "a/c/d", "a0", "a-b", "a/b-c", "aa/b", "a.b", "a-/z", "a/b"] {
        put(storage, name, b"x").await.expect("stored");
    }
    assert_eq!(keys(storage, "", None).await, sorted);
}

async fn a_listing_goes_on_behind_a_key(storage: &Arc<dyn Storage>) {
    let sorted = ["a-b", "a/b", "a/b-c", "a/c/d", "a0"];
    for name in sorted {
        put(storage, name, b"x").await.expect("stored");
    }
    for (position, after) in sorted.iter().enumerate() {
        assert_eq!(keys(storage, "", Some(after)).await, sorted[position + 1..], "after {after}");
    }
    assert_eq!(keys(storage, "", Some("a/bb")).await, ["a/c/d", "a0"]);
    assert_eq!(keys(storage, "a/", Some("a/b")).await, ["a/b-c", "a/c/d"]);
}

async fn a_listing_of_a_prefix_shows_what_lies_below_it(storage: &Arc<dyn Storage>) {
    for name in ["wal/1/a", "wal/1/b/c", "wal/10/a", "wal/1-", "wam"] {
        put(storage, name, b"x").await.expect("stored");
    }
    assert_eq!(keys(storage, "wal/1/", None).await, ["wal/1/a", "wal/1/b/c"]);
    assert_eq!(keys(storage, "wal/2/", None).await, [""; 0]);
    let listed = storage.list(&prefix("wam/"), None).try_collect::<Vec<_>>().await;
    assert_eq!(listed.expect("an object is no directory, and no failure").len(), 0);
}

async fn a_listing_of_more_than_a_thousand_objects_is_complete(storage: &Arc<dyn Storage>) {
    let names: Vec<_> = (0..2_100).map(|number| format!("n/{number:08}")).collect();
    let puts = names.iter().map(|name| put(storage, name, b"x"));
    futures::stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await.expect("stored");
    assert_eq!(keys(storage, "n/", None).await, names);

    let doomed: Vec<_> = names.iter().map(|name| key(name)).collect();
    storage.delete(&doomed).await.expect("deleted");
    assert_eq!(keys(storage, "", None).await, [""; 0]);
}

async fn deleting_an_absent_object_is_no_error(storage: &Arc<dyn Storage>) {
    put(storage, "a/b", b"x").await.expect("stored");
    let keys = [key("a/b"), key("a/c"), key("z/z")];
    storage.delete(&keys).await.expect("absent is fine");
    storage.delete(&keys).await.expect("absent is fine again");
    storage.delete(&[]).await.expect("nothing is fine");
    assert!(get(storage, "a/b", ByteRange::Full).await.expect_err("deleted").is_not_found());
    put(storage, "a/b", b"y").await.expect("the name is free again");
}

async fn the_store_has_a_clock(storage: &Arc<dyn Storage>) {
    let before = storage.now().await.expect("a clock");
    put(storage, "a", b"x").await.expect("stored");
    let modified = storage.head(&key("a")).await.expect("there").modified;
    let after = storage.now().await.expect("a clock");
    // HTTP dates have whole seconds.
    let second = Duration::from_secs(1);
    assert!(before <= modified + second && modified <= after + second, "{before:?} {after:?}");
    assert_eq!(keys(storage, "", None).await, ["a"]);
}

async fn what_a_dead_writer_left_behind_is_removed_and_nothing_else(storage: &Arc<dyn Storage>) {
    put(storage, "a", b"content").await.expect("stored");
    let writer = Arc::clone(storage);
    // The writer's whole runtime goes with it, so that nothing it left to be done is done.
    let death = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let body = Body::source(|| {
                let begun = Ok(Bytes::from(pattern(20_000_000)));
                futures::stream::iter([begun]).chain(futures::stream::pending()).boxed()
            });
            let name = key("b");
            let put = writer.put(&name, body, PutMode::Create);
            tokio::time::timeout(Duration::from_secs(3), put).await.expect_err("it never ends");
        });
    });
    tokio::task::block_in_place(|| death.join()).expect("it ended");
    let removed = storage.remove_leftovers(Duration::ZERO).await.expect("cleaned");
    println!("{removed} leftovers of the dead writer");
    assert_eq!(storage.remove_leftovers(Duration::ZERO).await.expect("cleaned"), 0);
    assert_eq!(keys(storage, "", None).await, ["a"]);
}
