//! Tables of more than one file.

use super::super::number;
use super::{archiving_as, assert_skipping_delta_is_right, push_settled, without_checksums};
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::repository::TestRepository;

/// Bytes of a file of a relation. Source: `RELSEG_SIZE`, 131072 blocks of 8 KiB.
const SEGMENT_BYTES: u64 = 1 << 30;

#[test]
fn a_table_that_grows_into_a_second_file_and_out_of_it_again_is_in_the_deltas() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    cluster.psql("create table large (i int, filler text); insert into large values (0, 'first')");
    push_settled(&cluster);
    let path = cluster.data().join(cluster.psql("select pg_relation_filepath('large')"));
    cluster.stop(Stop::Fast);
    // Pages of zeros are valid: a table looks so after a crash while it was extended.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(SEGMENT_BYTES - 10 * 8192).unwrap();
    cluster.start();
    cluster.psql("insert into large select i, repeat('x', 1500) from generate_series(1, 6000) i");
    let second = path.with_extension("1");
    let lengths = [&path, &second].map(|path| path.metadata().unwrap().len());
    assert!(lengths[0] == SEGMENT_BYTES && lengths[1] > 8192, "{lengths:?}");
    let grown = assert_skipping_delta_is_right(&mut cluster, "grown");
    assert!(number(&grown.shown, "new_bytes") < 16 << 20, "{}", grown.shown);
    cluster.psql("delete from large where i > 0; vacuum large");
    assert_eq!(second.metadata().unwrap().len(), 0);
    assert_skipping_delta_is_right(&mut cluster, "shrunk");
}
