use crate::error::{Error, Result};
use crate::inflate::{Bounds, Failed, inflating};
use crate::reader::Reader;
use crate::unpack::{Limits, Unpacked, nothing_more, reading};
use crate::watch::Watch;
use std::io::Read;

/// Reads an archive to its end as [`unpack()`](crate::unpack()) does, and makes nothing of it. It tells that the archive
/// is whole and can be read, not that each entry can be made.
///
/// # Errors
/// Corrupt, Limit, Unsupported, Source, Cancelled.
pub fn verify<R: Read + Send>(source: R, limits: &Limits, watch: &Watch) -> Result<Unpacked> {
    let failed = Failed::default();
    let bounds = Bounds { ratio: limits.ratio, free: limits.ratio_free };
    std::thread::scope(|scope| {
        let inflated = inflating(scope, source, &failed, watch, bounds)?;
        let mut archive = Reader::new(inflated);
        let mut found = Unpacked::default();
        let mut all = || {
            while let Some(entry) = archive.next().map_err(reading)? {
                watch.check()?;
                found.entries += 1;
                found.bytes += match &entry.sparse {
                    Some(pieces) => pieces.iter().map(|(_, length)| length).sum(),
                    None => entry.size,
                };
                watch.entry();
            }
            Ok::<(), Error>(())
        };
        let read = all();
        // A decoder only sees that its source has ended.
        if let Some(error) = failed.take() {
            return Err(Error::source(error, "cannot read the archive"));
        }
        read?;
        if !archive.is_marked() {
            return Err(Error::corrupt("the archive ends without its end marker: it was cut off"));
        }
        nothing_more(archive.into_inner())?;
        Ok(Unpacked { packed: watch.packed(), ..found })
    })
}
