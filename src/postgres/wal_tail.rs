//! The empty end of a segment: left by a switch to the next segment, or by WAL that never arrived.

use crc_fast::CrcAlgorithm;

use super::bytes::{u32_at, u64_at};
use super::wal_header::{LONG_HEADER_BYTES, SHORT_HEADER_BYTES};

// XLogRecord, access/xlogrecord.h: xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, two bytes of padding, xl_crc.
const RECORD_HEADER_BYTES: usize = 24;
const XL_INFO: usize = 16;
const XL_RMID: usize = 17;
const XL_CRC: usize = 20;

const XLOG_SWITCH: u8 = 0x40;
const RM_XLOG_ID: u8 = 0;

// Offset of xlp_rem_len in XLogPageHeaderData, access/xlog_internal.h.
const XLP_REM_LEN: usize = 16;

/// The last pages before an empty one: what is needed to find the record that ends there.
pub(super) struct Tail<'a> {
    /// The last two pages, or the only one.
    pub(super) bytes: &'a [u8],
    /// Where they begin in the segment.
    pub(super) position: usize,
    /// The bytes of a page.
    pub(super) block_size: usize,
}

impl Tail<'_> {
    /// Whether the last record before the empty page is a switch to the next segment.
    ///
    /// A switch fills its segment with zeros, page headers included (`CopyXLogRecordToWAL` in
    /// `access/transam/xlog.c`).
    pub(super) fn ends_with_a_switch(&self) -> bool {
        // Records begin at multiples of 8, and the last 8 bytes of a switch record are never all zero.
        let last = self.bytes.chunks_exact(8).rposition(|word| u64_at(word, 0) != 0);
        last.is_some_and(|word| self.has_switch_record_at(self.position + (word + 1) * 8))
    }

    /// Whether the record that ends at `end` of the segment is a switch: a header without data.
    fn has_switch_record_at(&self, end: usize) -> bool {
        let page = (end - 1) / self.block_size * self.block_size;
        let header = if page == 0 { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        let Some(on_page) = end.checked_sub(page + header) else { return false };
        let here = on_page.min(RECORD_HEADER_BYTES);
        let before = RECORD_HEADER_BYTES - here;
        let (page, end) = (page - self.position, end - self.position);
        if before > page {
            return continues_a_switch(self.bytes, end, here);
        }
        let mut record = [0; RECORD_HEADER_BYTES];
        record[..before].copy_from_slice(&self.bytes[page - before..page]);
        record[before..].copy_from_slice(&self.bytes[end - here..end]);
        names_a_switch(&record) && u32_at(&record, 0) as usize == RECORD_HEADER_BYTES && {
            let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &record[..XL_CRC]);
            crc == u64::from(u32_at(&record, XL_CRC))
        }
    }
}

/// Whether the last `here` bytes of a record that began in the segment before are those of a switch.
fn continues_a_switch(segment: &[u8], end: usize, here: usize) -> bool {
    let mut record = [0; RECORD_HEADER_BYTES];
    record[RECORD_HEADER_BYTES - here..].copy_from_slice(&segment[end - here..end]);
    here > 0 && u32_at(segment, XLP_REM_LEN) as usize == here && names_a_switch(&record)
}

fn names_a_switch(record: &[u8; RECORD_HEADER_BYTES]) -> bool {
    // The lower half of xl_info holds flags of the insertion.
    record[XL_INFO] & 0xF0 == XLOG_SWITCH && record[XL_RMID] == RM_XLOG_ID
}
