use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// A file in more pieces is stored whole: readers keep the map in memory.
const MOST: usize = 1 << 16;

/// Where a file of this length has data; none when it has no holes, too many, or the file system does not tell.
pub(crate) fn pieces(file: BorrowedFd<'_>, size: u64) -> rustix::io::Result<Option<Vec<(u64, u64)>>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            start => start?.min(size),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Err(Errno::NXIO) => break,
            end => end?.min(size),
        };
        if (start, end) == (0, size) || pieces.len() == MOST {
            rustix::fs::seek(file, SeekFrom::Start(0))?;
            return Ok(None);
        }
        if end > start {
            pieces.push((start, end - start));
        }
        at = end.max(at + 1);
    }
    // As GNU tar has it: a hole at the end is told by an empty piece after it.
    if pieces.last().is_none_or(|(offset, length)| offset + length < size) {
        pieces.push((size, 0));
    }
    Ok(Some(pieces))
}
