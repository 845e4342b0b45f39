//! Deltas of a server that never stands still.

use super::{archiving_as, push, push_settled, recovered, text, without_checksums};
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::repository::TestRepository;

/// What replay makes of files that were read at different moments, and of others that were not read at all, is the
/// source, row by row; a crash in between changes nothing.
#[test]
fn deltas_taken_under_load_recover_to_the_rows_of_the_source() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    Load::prepare(&cluster, 2);
    push_settled(&cluster);
    for how in [Stop::Kill, Stop::Fast] {
        let load = Load::start(&cluster, 3);
        for _ in 0..3 {
            cluster.psql("vacuum pgbench_accounts; truncate pgbench_history");
            assert_eq!(text(&push(&cluster, &[]), "kind"), "delta");
        }
        drop(load);
        cluster.stop(how);
        cluster.start();
    }
    cluster.archive_all();
    oracle::assert_same_rows(&cluster, &recovered(&cluster, "copy", "LATEST"));
}
