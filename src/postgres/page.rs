//! Pages of relations: their header and whether they are intact.

use super::bytes::{u16_at, u32_at};
use super::lsn::Lsn;
use super::page_checksum::checksum;

// Offsets in PageHeaderData, storage/bufpage.h.
const PD_LSN_HIGH: usize = 0;
const PD_LSN_LOW: usize = 4;
pub(super) const PD_CHECKSUM: usize = 8;
const PD_FLAGS: usize = 10;
const PD_LOWER: usize = 12;
const PD_UPPER: usize = 14;
const PD_SPECIAL: usize = 16;
const PAGE_HEADER_BYTES: u16 = 24;

const PD_VALID_FLAG_BITS: u16 = 0x0007;
const MAXALIGN: u16 = 8;

/// The number of a page in its relation, across all its segment files.
///
/// Source: `BlockNumber` in `storage/block.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockNumber(pub u32);

/// What a look at a page with checksums tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// Its header is sane and its checksum holds.
    Valid,
    /// It was allocated and never written: zeros only.
    New,
    /// Torn by a write in progress, misplaced, or damaged.
    Bad,
}

/// The position of the last change to `page` that was logged: all pages up to it are replayed from there.
///
/// Source: `pd_lsn`, `PageXLogRecPtrGet` in `storage/bufpage.h`.
pub fn page_lsn(page: &[u8]) -> Lsn {
    Lsn::new(u64::from(u32_at(page, PD_LSN_HIGH)) << 32 | u64::from(u32_at(page, PD_LSN_LOW)))
}

/// Looks at a page of a relation in a cluster that has checksums.
///
/// `page` is one whole page of `BLCKSZ` bytes; `block` counts from the beginning of the relation's first segment
/// file. The same judgement as the server's when it reads a page. Source: `PageIsVerified` in
/// `storage/page/bufpage.c`.
pub fn verify_page(page: &[u8], block: BlockNumber) -> PageState {
    if is_new(page) {
        return if page.iter().all(|byte| *byte == 0) { PageState::New } else { PageState::Bad };
    }
    if has_sane_header(page) && u16_at(page, PD_CHECKSUM) == checksum(page, block) {
        PageState::Valid
    } else {
        PageState::Bad
    }
}

/// Source: `PageIsNew` in `storage/bufpage.h`.
fn is_new(page: &[u8]) -> bool {
    u16_at(page, PD_UPPER) == 0
}

fn has_sane_header(page: &[u8]) -> bool {
    let field = |offset| u16_at(page, offset);
    let (lower, upper, special) = (field(PD_LOWER), field(PD_UPPER), field(PD_SPECIAL));
    field(PD_FLAGS) & !PD_VALID_FLAG_BITS == 0
        && lower >= PAGE_HEADER_BYTES
        && lower <= upper
        && upper <= special
        && usize::from(special) <= page.len()
        && special.is_multiple_of(MAXALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page 0 of `pg_database` (`global/1262`) right after `initdb -k` of 15.
    const REAL: &[u8; 8192] = include_bytes!("testdata/page.15");

    #[test]
    fn a_real_page_is_valid_in_its_place_and_nowhere_else() {
        assert_eq!(verify_page(REAL, BlockNumber(0)), PageState::Valid);
        assert_eq!(verify_page(REAL, BlockNumber(1)), PageState::Bad);
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_a_page_bad() {
        for position in (0..REAL.len() * 8).step_by(97) {
            let mut page = *REAL;
            page[position / 8] ^= 1 << (position % 8);
            assert_eq!(verify_page(&page, BlockNumber(0)), PageState::Bad, "bit {position}");
        }
    }

    #[test]
    fn half_a_page_is_bad() {
        let mut page = *REAL;
        page[4096..].fill(0);
        assert_eq!(verify_page(&page, BlockNumber(0)), PageState::Bad);
    }

    #[test]
    fn zeros_are_a_new_page_and_nothing_else_is() {
        let mut page = [0; 8192];
        assert_eq!(verify_page(&page, BlockNumber(7)), PageState::New);
        page[8000] = 1;
        assert_eq!(verify_page(&page, BlockNumber(7)), PageState::Bad);
    }

    #[test]
    fn a_page_knows_its_last_logged_change() {
        let mut page = [0; 8192];
        page[..4].copy_from_slice(&0x16_u32.to_ne_bytes());
        page[4..8].copy_from_slice(&0xB374_D848_u32.to_ne_bytes());
        assert_eq!(page_lsn(&page).to_string(), "16/B374D848");
    }
}
