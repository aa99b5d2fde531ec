//! What matches a pattern of names.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use globset::GlobMatcher;
use prost::bytes::Bytes;
use tonic::Status;

use super::entry;
use super::globs;
use super::scan::{Choice, Choose, Scan, Step};
use crate::v1::{GlobRequest, GlobResponse, ListProblem};

/// Entries of one message.
const BATCH: usize = 512;
/// How long a message may be in the making, so that the caller hears something.
const LIMIT: Duration = Duration::from_millis(500);

/// A search under way.
pub(crate) struct Search {
    scan: Scan,
    /// Where the scan began, below where the search did.
    prefix: PathBuf,
    left: usize,
    ended: bool,
}

impl Search {
    /// Begins a search for `request.pattern` below `root`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed pattern, and those of [`Scan::new`]; a directory that only the pattern names may be
    /// missing.
    pub(crate) fn new(root: &Path, request: &GlobRequest) -> Result<Self, Status> {
        let pattern = Pattern::new(&request.pattern, request.hidden)?;
        // Refuses a root that is none, whatever the pattern says.
        let mut scan = Scan::new(root, 1, Path::new(""), Box::new(|_, _| Choice::default()))?;
        let prefix = pattern.prefix.clone();
        let below = root.join(&prefix);
        let mut ended = false;
        // What leads through a link or to nothing has no matches: links are not followed.
        let real =
            below.symlink_metadata().is_ok_and(|found| found.is_dir()) || prefix.as_os_str().is_empty();
        if real {
            let kernel = ["/proc", "/sys"].map(PathBuf::from);
            let inside = kernel.iter().any(|made_up| below.starts_with(made_up));
            let (depth, base) = (pattern.depth, below.clone());
            let choose: Choose = Box::new(move |path, may_be_dir| {
                let mut choice = pattern.choose(path);
                choice.enter &= may_be_dir && (inside || !kernel.contains(&base.join(path)));
                choice
            });
            scan = Scan::new(&below, depth, Path::new(""), choose)?;
        } else {
            ended = true;
        }
        Ok(Self { scan, prefix, left: usize::try_from(request.limit).unwrap_or(usize::MAX), ended })
    }

    /// The next message; `None` after the last. It may be empty.
    pub(crate) fn batch(&mut self) -> Option<GlobResponse> {
        if self.ended {
            return None;
        }
        let (begun, mut batch) = (Instant::now(), GlobResponse::default());
        while batch.entries.len() + batch.problems.len() < BATCH && begun.elapsed() < LIMIT {
            match self.scan.next() {
                None => {
                    self.ended = true;
                    break;
                }
                Some(Step::Found(_)) if self.left == 0 => {
                    batch.truncated = true;
                    self.ended = true;
                    break;
                }
                Some(Step::Found(found)) => {
                    self.left -= 1;
                    let path = self.prefix.join(&found.path);
                    batch.entries.push(entry::full(
                        path.as_os_str(),
                        &found.stat,
                        found.link_target.as_deref(),
                    ));
                }
                Some(Step::Problem(path, message)) => {
                    let path = Bytes::copy_from_slice(self.prefix.join(path).as_os_str().as_bytes());
                    batch.problems.push(ListProblem { path, message });
                }
                Some(Step::Read) => {}
            }
        }
        Some(batch)
    }
}

/// A pattern, taken apart so that a search looks only where matches can be.
struct Pattern {
    /// Directories that the pattern names, where the search begins.
    prefix: PathBuf,
    /// Matches paths below the prefix.
    rest: GlobMatcher,
    /// Matches the names at the first depths; further down any name leads on.
    parts: Vec<GlobMatcher>,
    /// How deep matches can be; 0 for any depth.
    depth: usize,
    /// Parts that name a leading dot, and whether something may be below them.
    dots: Vec<(GlobMatcher, bool)>,
    hidden: bool,
}

impl Pattern {
    fn new(pattern: &str, hidden: bool) -> Result<Self, Status> {
        let refuse = |text: &str| Err(Status::invalid_argument(text.to_owned()));
        let plain = pattern.strip_prefix("./").unwrap_or(pattern);
        // The whole is what an error tells of.
        globs::matcher(plain)?;
        if plain.starts_with('/') {
            return refuse("a pattern is relative to the path: leave its leading slash out");
        }
        let parts = parts(plain);
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return refuse("a pattern has no empty parts, `.` or `..`: name a path to begin at");
        }
        let literal = parts.iter().take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).count();
        // The last part is what is looked for, literal or not.
        let literal = literal.min(parts.len() - 1);
        let (prefix, rest) = parts.split_at(literal);
        let any_depth =
            rest.iter().any(|part| part.contains("**")) || rest.iter().any(|part| part.contains('/'));
        let leading = if any_depth {
            rest.iter().take_while(|p| !p.contains("**") && !p.contains('/')).count()
        } else {
            rest.len()
        };
        let names_dot = |part: &str| {
            part.starts_with('.')
                || part.starts_with("[.")
                || (part.contains('{') && (part.contains("{.") || part.contains(",.")))
        };
        let dotted = rest.iter().enumerate().filter(|(_, part)| names_dot(part));
        let dots = dotted
            .map(|(at, part)| Ok((globs::matcher(part)?, at + 1 < rest.len())))
            .collect::<Result<_, Status>>()?;
        Ok(Self {
            prefix: prefix.iter().collect(),
            rest: globs::matcher(&rest.join("/"))?,
            parts: rest.iter().take(leading).map(|part| globs::matcher(part)).collect::<Result<_, _>>()?,
            depth: if any_depth { 0 } else { rest.len() },
            dots,
            hidden,
        })
    }

    fn choose(&self, path: &Path) -> Choice {
        let Some(name) = path.file_name() else { return Choice::default() };
        let mut choice = Choice { tell: true, enter: true };
        if !self.hidden && name.as_bytes().starts_with(b".") {
            let fitting = self.dots.iter().filter(|(dot, _)| dot.is_match(name));
            let below: Vec<bool> = fitting.map(|(_, below)| *below).collect();
            choice = Choice { tell: !below.is_empty(), enter: below.contains(&true) };
        }
        choice.tell &= self.rest.is_match(path);
        let depth = path.components().count();
        // The directories above have led here, so that only this name is to be looked at.
        choice.enter &= self.parts.get(depth - 1).is_none_or(|part| part.is_match(name));
        choice
    }
}

/// Parts a pattern at its slashes, but for those within braces or brackets.
fn parts(pattern: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut braces, mut escaped) = (Vec::new(), 0, 0_usize, false);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => braces += 1,
            b'}' => braces = braces.saturating_sub(1),
            b'/' if braces == 0 => {
                parts.push(&pattern[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "a.rs",
            "b.txt",
            "B.txt",
            ".hidden",
            "src/main.rs",
            "src/lib/one.rs",
            "src/lib/two.txt",
            ".git/config",
            ".git/hooks/run",
            "docs/x1",
            "docs/x2",
            "docs/.secret/x1",
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("src", dir.path().join("link")).unwrap();
        dir
    }

    fn search(root: &Path, pattern: &str, hidden: bool, limit: u32) -> Result<(Vec<String>, bool), Status> {
        let request = GlobRequest { pattern: pattern.to_owned(), hidden, limit, ..Default::default() };
        let mut search = Search::new(root, &request)?;
        let (mut found, mut truncated) = (Vec::new(), false);
        while let Some(batch) = search.batch() {
            assert!(batch.problems.is_empty());
            truncated |= batch.truncated;
            found.extend(batch.entries.iter().map(|e| String::from_utf8(e.path.to_vec()).unwrap()));
        }
        Ok((found, truncated))
    }

    #[test]
    fn patterns_find_what_they_say() {
        let dir = tree();
        let cases: &[(&str, bool, &[&str])] = &[
            ("*.rs", false, &["a.rs"]),
            ("**/*.rs", false, &["a.rs", "src/lib/one.rs", "src/main.rs"]),
            ("src/**", false, &["src/lib", "src/lib/one.rs", "src/lib/two.txt", "src/main.rs"]),
            ("src/*/*.{rs,txt}", false, &["src/lib/one.rs", "src/lib/two.txt"]),
            ("docs/x[1-9]", false, &["docs/x1", "docs/x2"]),
            ("{a.rs,src/lib/one.rs}", false, &["a.rs", "src/lib/one.rs"]),
            ("?.txt", false, &["B.txt", "b.txt"]),
            ("b.*", false, &["b.txt"]),
            ("*", false, &["B.txt", "a.rs", "b.txt", "docs", "link", "src"]),
            (".*", false, &[".git", ".hidden"]),
            ("**/x1", false, &["docs/x1"]),
            ("**/x1", true, &["docs/.secret/x1", "docs/x1"]),
            (".git/*", false, &[".git/config", ".git/hooks"]),
            ("**/.git/**", false, &[".git/config", ".git/hooks", ".git/hooks/run"]),
            ("{.git,src}/*", false, &[".git/config", ".git/hooks", "src/lib", "src/main.rs"]),
            ("src/main.rs", false, &["src/main.rs"]),
            ("./src/main.rs", false, &["src/main.rs"]),
            ("link/*", false, &[]),
            ("nowhere/*", false, &[]),
            ("a.rs/*", false, &[]),
        ];
        for (pattern, hidden, expected) in cases {
            let (found, truncated) = search(dir.path(), pattern, *hidden, 100).unwrap();
            assert_eq!(
                (found.as_slice(), truncated),
                (&expected.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()[..], false),
                "{pattern}"
            );
        }
    }

    #[test]
    fn the_limit_is_told_and_bad_patterns_are_refused() {
        let dir = tree();
        assert!(search(dir.path(), "**/*.rs", false, 2).unwrap().1);
        assert!(!search(dir.path(), "**/*.rs", false, 3).unwrap().1);
        for bad in ["", "[", "/etc/*", "../x", "a//b", "x/./y"] {
            let refused = search(dir.path(), bad, false, 1).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{bad}");
        }
        let missing = search(&dir.path().join("none"), "*", false, 1).unwrap_err();
        assert_eq!(missing.code(), tonic::Code::NotFound);
    }
}
