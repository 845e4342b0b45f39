//! Claims about segment checks, on segments of 1 MiB built page by page.

use super::*;

const BLOCK: usize = 8192;

fn cluster() -> ExpectedCluster {
    ExpectedCluster {
        system_identifier: SystemIdentifier::new(7_710_222_068_189_143_072),
        segment_size: SegmentSize::MIN,
    }
}

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn name() -> SegmentName {
    "000000020000000300000042".parse().unwrap()
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// The segment `name()` of the cluster, every page begun on `timeline`.
fn segment(timeline: u32) -> Vec<u8> {
    let cluster = cluster();
    let mut bytes = vec![0xAA; cluster.segment_size.bytes() as usize];
    for (index, page) in bytes.chunks_exact_mut(BLOCK).enumerate() {
        let address = name().start(cluster.segment_size).get() + (index * BLOCK) as u64;
        page[..SHORT_HEADER_BYTES].fill(0);
        put(page, XLP_MAGIC, &0xD110_u16.to_ne_bytes());
        put(page, XLP_TLI, &timeline.to_ne_bytes());
        put(page, XLP_PAGEADDR, &address.to_ne_bytes());
    }
    put(&mut bytes, XLP_INFO, &XLP_LONG_HEADER.to_ne_bytes());
    put(&mut bytes, XLP_SYSID, &cluster.system_identifier.get().to_ne_bytes());
    put(&mut bytes, XLP_SEG_SIZE, &u32::from(cluster.segment_size).to_ne_bytes());
    put(&mut bytes, XLP_XLOG_BLCKSZ, &(BLOCK as u32).to_ne_bytes());
    bytes
}

fn check(bytes: &[u8]) -> Result<LongHeader, SegmentDefect> {
    check_segment(name(), bytes.len() as u64, bytes, &cluster())
}

fn check_pages(bytes: &[u8]) -> Result<LongHeader, SegmentDefect> {
    check_every_page(name(), bytes, &cluster())
}

/// A switch record and then zeros, from `offset` on; `offset` counts bytes of records, as the log does.
fn switch_at(bytes: &mut [u8], offset: usize) {
    let mut record = [0; 24];
    put(&mut record, 0, &24_u32.to_ne_bytes());
    put(&mut record, 8, &7_u64.to_ne_bytes());
    record[16] = 0x40;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &record[..20]) as u32;
    put(&mut record, 20, &crc.to_ne_bytes());
    let on_page = (BLOCK - offset % BLOCK).min(24);
    put(bytes, offset, &record[..on_page]);
    let mut end = offset + on_page;
    if on_page < 24 {
        end += SHORT_HEADER_BYTES;
        put(bytes, end, &record[on_page..]);
        end += 24 - on_page;
    }
    bytes[end..].fill(0);
}

/// W7
#[test]
fn a_segment_is_accepted_under_its_own_name() {
    let header = check(&segment(2)).unwrap();
    assert_eq!(header.cluster(), cluster());
    assert_eq!(header.page.magic.major_version(), Some(15));
    assert!(check_pages(&segment(2)).is_ok());
}

/// W7
#[test]
fn a_segment_copied_from_the_parent_timeline_is_accepted() {
    assert_eq!(check(&segment(1)).unwrap().page.timeline, timeline(1));
}

/// W7
#[test]
fn a_segment_of_a_later_timeline_than_its_name_is_refused() {
    let defect =
        SegmentDefect::TimelineAboveName { offset: 0, found: timeline(3), name: timeline(2) };
    assert_eq!(check(&segment(3)), Err(defect));
}

/// W7
#[test]
fn half_a_segment_is_refused() {
    let bytes = segment(2);
    let defect = check(&bytes[..bytes.len() / 2]).unwrap_err();
    assert!(matches!(defect, SegmentDefect::WrongLength { length: 524_288, .. }), "{defect}");
}

/// W7
#[test]
fn an_empty_file_and_an_empty_first_page_are_refused() {
    assert_eq!(check(&[]), Err(SegmentDefect::NoHeader { length: 0 }));
    let zeros = vec![0; SegmentSize::MIN.bytes() as usize];
    assert_eq!(check(&zeros), Err(SegmentDefect::ZeroPage { offset: 0 }));
}

/// W7
#[test]
fn a_file_that_is_no_wal_is_refused() {
    let mut bytes = segment(2);
    bytes[XLP_MAGIC + usize::from(cfg!(target_endian = "little"))] = 0x7F;
    assert!(matches!(check(&bytes), Err(SegmentDefect::WrongMagic { offset: 0, .. })));
}

/// W7
#[test]
fn a_segment_of_another_cluster_is_refused() {
    let mut bytes = segment(2);
    put(&mut bytes, XLP_SYSID, &1_u64.to_ne_bytes());
    assert!(matches!(check(&bytes), Err(SegmentDefect::ForeignSystem { .. })));
}

/// W7
#[test]
fn a_segment_under_its_neighbours_name_is_refused() {
    let bytes = segment(2);
    let neighbour = name().next(SegmentSize::MIN).unwrap();
    let result = check_segment(neighbour, bytes.len() as u64, &bytes, &cluster());
    assert!(matches!(result, Err(SegmentDefect::WrongAddress { offset: 0, .. })));
}

/// W7
#[test]
fn a_segment_of_another_size_is_refused() {
    let mut bytes = segment(2);
    put(&mut bytes, XLP_SEG_SIZE, &u32::from(SegmentSize::DEFAULT).to_ne_bytes());
    assert!(matches!(check(&bytes), Err(SegmentDefect::ForeignSegmentSize { .. })));
    put(&mut bytes, XLP_SEG_SIZE, &12_345_u32.to_ne_bytes());
    assert!(matches!(check(&bytes), Err(SegmentDefect::ImpossibleSizes { .. })));
}

/// W7
#[test]
fn a_page_from_the_middle_of_a_segment_is_no_beginning() {
    let mut bytes = segment(2);
    put(&mut bytes, XLP_INFO, &0_u16.to_ne_bytes());
    assert_eq!(check(&bytes), Err(SegmentDefect::NoLongHeader));
}

#[test]
fn a_magic_number_of_a_future_version_is_accepted_as_unknown() {
    let mut bytes = segment(2);
    put(&mut bytes, XLP_MAGIC, &0xD1F0_u16.to_ne_bytes());
    assert_eq!(check(&bytes).unwrap().page.magic.major_version(), None);
}

#[test]
fn a_recycled_file_with_old_pages_at_its_end_is_found() {
    let mut bytes = segment(2);
    let old = Lsn::new(0x4200_0000);
    put(&mut bytes, 100 * BLOCK + XLP_PAGEADDR, &old.get().to_ne_bytes());
    let offset = 100 * BLOCK as u64;
    assert!(check(&bytes).is_ok());
    assert!(
        matches!(check_pages(&bytes), Err(SegmentDefect::WrongAddress { offset: at, found, .. }) if at == offset && found == old)
    );
}

#[test]
fn wal_that_never_arrived_is_no_end_of_a_segment() {
    let mut bytes = segment(2);
    bytes[100 * BLOCK..].fill(0);
    assert_eq!(check_pages(&bytes), Err(SegmentDefect::ZeroPage { offset: 100 * BLOCK as u64 }));
}

#[test]
fn the_zeros_after_a_segment_switch_are_its_end() {
    for offset in
        [40, 5 * BLOCK + 24, 5 * BLOCK + 800, 6 * BLOCK - 24, 6 * BLOCK - 16, 6 * BLOCK - 8]
    {
        let mut bytes = segment(2);
        switch_at(&mut bytes, offset);
        assert!(check_pages(&bytes).is_ok(), "switch at {offset}");
    }
}

#[test]
fn a_switch_record_with_a_flipped_bit_ends_nothing() {
    let mut bytes = segment(2);
    switch_at(&mut bytes, 5 * BLOCK + 800);
    bytes[5 * BLOCK + 808] ^= 1;
    assert_eq!(check_pages(&bytes), Err(SegmentDefect::ZeroPage { offset: 6 * BLOCK as u64 }));
}

#[test]
fn a_switch_record_that_began_in_the_segment_before_is_recognised() {
    let mut bytes = segment(2);
    bytes[LONG_HEADER_BYTES..].fill(0);
    put(&mut bytes, LONG_HEADER_BYTES, &[0x40, 0, 0, 0, 1, 2, 3, 4]);
    put(&mut bytes, XLP_REM_LEN, &8_u32.to_ne_bytes());
    assert!(check_pages(&bytes).is_ok());
    put(&mut bytes, XLP_REM_LEN, &80_u32.to_ne_bytes());
    assert_eq!(check_pages(&bytes), Err(SegmentDefect::ZeroPage { offset: BLOCK as u64 }));
}

#[test]
fn timelines_within_a_segment_never_go_back() {
    let mut bytes = segment(2);
    put(&mut bytes, 9 * BLOCK + XLP_TLI, &1_u32.to_ne_bytes());
    let defect = SegmentDefect::TimelineWentBack { offset: 9 * BLOCK as u64, found: timeline(1) };
    assert_eq!(check_pages(&bytes), Err(defect));
}
