//! How large the parts of an upload are.
//!
//! Amazon's limits (user guide, "Amazon S3 multipart upload limits"): 10,000 parts of 5 MiB to 5 GiB, the last of any size. An
//! archive's size is not known before its end, so the parts begin small and grow with what has been sent.

use crate::error::{Error, ErrorKind, Result};

const MIB: u64 = 1 << 20;
/// The smallest part but the last.
pub(super) const SMALLEST: u64 = 5 * MIB;
/// The largest part, and the largest object that goes by one request.
pub(super) const LARGEST: u64 = 5 << 30;
/// The most parts.
const MOST: usize = 10_000;
/// A part is not larger than this share of what is sent already: with the smallest first part, 10,000 parts hold more than 5 TiB.
const SHARE: u64 = 1_250;

/// How many bytes the next part gets, given the first one's, and how many parts and bytes there are before it.
///
/// # Errors
/// Unsupported when there may be no more parts.
pub(super) fn next(first: u64, parts: usize, sent: u64) -> Result<u64> {
    if parts >= MOST {
        let message =
            format!("the archive is too large: S3 takes {MOST} parts and it has more; make the parts larger");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(first.max((sent / SHARE).next_multiple_of(MIB)).min(LARGEST))
}

/// How many parts may be under way at once, so that together they take no more memory than parts of the first size would.
pub(super) fn at_once(first: u64, most: usize, size: u64) -> usize {
    usize::try_from(first.saturating_mul(most as u64) / size.max(1)).unwrap_or(most).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, MIB, MOST, SMALLEST, at_once, next};

    /// What 10,000 parts hold.
    fn capacity(first: u64) -> u64 {
        let mut sent = 0;
        for parts in 0..MOST {
            let size = next(first, parts, sent).unwrap();
            assert!((SMALLEST..=LARGEST).contains(&size));
            sent += size;
        }
        assert!(next(first, MOST, sent).is_err());
        sent
    }

    #[test]
    fn the_largest_object_fits() {
        for first in [SMALLEST, 8 * MIB, 64 * MIB, LARGEST] {
            assert!(capacity(first) >= 5 << 40, "{first}");
        }
    }

    #[test]
    fn small_archives_have_small_parts() {
        let first = 8 * MIB;
        assert_eq!(next(first, 1000, 1000 * first).unwrap(), first);
        // A hundred gibibytes.
        assert_eq!(next(first, 5000, 100 << 30).unwrap(), 82 * MIB);
        assert_eq!(at_once(first, 3, first), 3);
        assert_eq!(at_once(first, 3, 12 * MIB), 2);
        assert_eq!(at_once(first, 3, LARGEST), 1);
    }
}
