//! One page of a tree.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;

use super::entry;
use super::globs::Globs;
use super::scan::{Choice, Scan, Step};
use crate::consts::MAX_PAGE;
use crate::v1::{ListProblem, WalkRequest, WalkResponse};

/// How long a page may take: one that has not ended by then ends where it is.
const LIMIT: Duration = Duration::from_secs(2);
/// Bytes after which a page ends.
const MAX_BYTES: usize = 8 << 20;
/// Most problems of one page; more say nothing new.
const MAX_PROBLEMS: usize = 1000;

/// Makes the page that a request asks for.
///
/// # Errors
/// Those of [`Scan::new`], and `INVALID_ARGUMENT` for bad patterns or limits.
pub(crate) fn page(root: &Path, request: &WalkRequest) -> Result<WalkResponse, Status> {
    if !(1..=MAX_PAGE).contains(&request.limit) {
        return Err(Status::invalid_argument(format!("a page has 1 to {MAX_PAGE} entries")));
    }
    let (include, exclude) = (Globs::new(&request.include)?, Globs::new(&request.exclude)?);
    let choose = move |path: &Path, _: bool| {
        if exclude.matches(path) {
            return Choice::default();
        }
        Choice { tell: include.is_empty() || include.matches(path), enter: true }
    };
    let after = Path::new(std::ffi::OsStr::from_bytes(&request.after));
    let max_depth = usize::try_from(request.max_depth).unwrap_or(usize::MAX);
    let mut scan = Scan::new(root, max_depth, after, Box::new(choose))?;
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let (begun, mut bytes, mut page) = (Instant::now(), 0, WalkResponse::default());
    loop {
        let full = page.entries.len() >= limit || bytes >= MAX_BYTES;
        let at = full.then(|| scan.place().to_owned());
        let Some(step) = scan.next() else { return Ok(page) };
        match step {
            // There is one more: the page before it is whole.
            Step::Found(_) if full => {
                page.next = place(&at.unwrap_or_default());
                return Ok(page);
            }
            Step::Found(found) => {
                let info = entry::full(found.path.as_os_str(), &found.stat, found.link_target.as_deref());
                bytes += info.encoded_len();
                page.entries.push(info);
            }
            Step::Problem(path, message) if page.problems.len() < MAX_PROBLEMS => {
                page.problems.push(ListProblem { path: place(&path), message });
            }
            Step::Problem(..) | Step::Read => {}
        }
        if begun.elapsed() > LIMIT && !scan.place().as_os_str().is_empty() {
            page.next = place(scan.place());
            return Ok(page);
        }
    }
}

fn place(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_put_together_are_the_whole_tree() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..40 {
            std::fs::create_dir_all(dir.path().join(format!("d{}", n % 4))).unwrap();
            std::fs::write(dir.path().join(format!("d{}/f{n:02}.{}", n % 4, ["rs", "o"][n % 2])), "")
                .unwrap();
        }
        for limit in [1, 3, 11, 44, 100] {
            let mut request = WalkRequest { limit, ..Default::default() };
            let (mut all, mut pages) = (Vec::new(), 0);
            loop {
                let page = page(dir.path(), &request).unwrap();
                assert!(page.entries.len() <= limit as usize && page.problems.is_empty());
                all.extend(page.entries.into_iter().map(|entry| entry.path));
                pages += 1;
                if page.next.is_empty() {
                    break;
                }
                request.after = page.next;
            }
            assert_eq!((all.len(), pages), (44, 44_usize.div_ceil(limit as usize)), "{limit}");
            assert!(all.is_sorted());
        }
    }

    #[test]
    fn patterns_choose_and_bad_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["src/deep/a.rs", "src/a.o", "target/b.rs"] {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), "").unwrap();
        }
        let request = |include: &str, exclude: &str| WalkRequest {
            limit: 10,
            include: vec![include.to_owned()],
            exclude: vec![exclude.to_owned()],
            ..Default::default()
        };
        let found = page(dir.path(), &request("*.rs", "target")).unwrap();
        let paths: Vec<_> = found.entries.iter().map(|entry| entry.path.as_ref()).collect();
        assert_eq!(paths, [b"src/deep/a.rs"]);
        let bad = [request("[", "x"), request("x", "{"), WalkRequest::default()];
        for request in bad {
            let refused = page(dir.path(), &request).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{request:?}");
        }
    }
}
