//! What is searched for, and where.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use ignore::WalkBuilder;
use prost::bytes::Bytes;
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use tonic::Status;

use super::super::errors::{At, reason};
use super::super::globs::Globs;
use crate::v1::{GrepRequest, ListProblem};

/// Most bytes of a pattern.
const MAX_PATTERN: usize = 16 << 10;
/// Most bytes that a pattern may take when it is ready.
const MAX_COMPILED: usize = 8 << 20;
/// Limits of the limits: matches, lines of context, bytes of a line.
const MAX_MATCHES: u32 = 10_000;
const MAX_CONTEXT: u32 = 50;
const MAX_LINE: u32 = 10_000;

/// What is searched for, and where.
pub(super) struct Query {
    pub(super) root: PathBuf,
    pub(super) matcher: RegexMatcher,
    include: Globs,
    exclude: Globs,
    hidden: bool,
    respect_ignore: bool,
    pub(super) max_matches: usize,
    /// Most matches of one file; one more than all may have, so that it is seen when there are more.
    pub(super) max_per_file: u64,
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) max_line: usize,
    is_file: bool,
}

impl Query {
    /// Checks a request and looks at where it is to search.
    pub(super) fn new(root: PathBuf, request: GrepRequest) -> Result<Self, Status> {
        let within = |name: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
            if range.contains(&value) {
                return Ok(usize::try_from(value).unwrap_or(usize::MAX));
            }
            let text = format!("{name} is from {} to {}", range.start(), range.end());
            Err(Status::invalid_argument(text))
        };
        let max_matches = within("max_matches", request.max_matches, 1..=MAX_MATCHES)?;
        let before = within("context_before", request.context_before, 0..=MAX_CONTEXT)?;
        let after = within("context_after", request.context_after, 0..=MAX_CONTEXT)?;
        let max_line = within("max_line_bytes", request.max_line_bytes, 1..=MAX_LINE)?;
        let all = u64::from(request.max_matches) + 1;
        let max_per_file = match request.max_matches_per_file {
            0 => all,
            some => all.min(u64::from(some)),
        };
        let matcher = matcher(&request)?;
        let (include, exclude) = (Globs::new(&request.include)?, Globs::new(&request.exclude)?);
        let found = rustix::fs::stat(&root).at("search", &root)?;
        let is_file = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => false,
            FileType::RegularFile => true,
            _ => {
                let text = format!("cannot search {}: it is neither a directory nor a file", root.display());
                return Err(Status::failed_precondition(text));
            }
        };
        let (hidden, respect_ignore) = (request.hidden, request.respect_ignore);
        Ok(Self {
            root,
            matcher,
            include,
            exclude,
            hidden,
            respect_ignore,
            max_matches,
            max_per_file,
            before,
            after,
            max_line,
            is_file,
        })
    }

    /// Whether one file is searched, and no directory.
    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// A path relative to where the search begins.
    pub(super) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The files to search, in the order of their paths. What cannot be read is told.
    pub(super) fn files(self: &Arc<Self>, tell: impl Fn(ListProblem)) -> impl Iterator<Item = PathBuf> {
        let kernel = ["/proc", "/sys"].map(PathBuf::from);
        let inside = kernel.iter().any(|made_up| self.root.starts_with(made_up));
        let query = Arc::clone(self);
        let walk = WalkBuilder::new(&self.root)
            .hidden(!self.hidden)
            .parents(self.respect_ignore)
            .ignore(self.respect_ignore)
            .git_ignore(self.respect_ignore)
            .git_exclude(self.respect_ignore)
            .git_global(false)
            .require_git(false)
            .sort_by_file_name(|a, b| a.cmp(b))
            .filter_entry(move |entry| {
                let path = entry.path();
                entry.depth() == 0
                    || (!query.exclude.matches(query.relative(path))
                        && (inside || !kernel.iter().any(|made_up| made_up == path)))
            })
            .build();
        let query = Arc::clone(self);
        walk.filter_map(move |entry| match entry {
            Ok(entry) => {
                let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
                let wanted = is_file
                    && (query.include.is_empty() || query.include.matches(query.relative(entry.path())));
                wanted.then(|| entry.into_path())
            }
            Err(error) => {
                if let Some(problem) = problem(&query, &error) {
                    tell(problem);
                }
                None
            }
        })
    }
}

/// What to say about a place that could not be read; nothing about one that has gone.
fn problem(query: &Query, error: &ignore::Error) -> Option<ListProblem> {
    let system = error.io_error()?;
    if system.kind() == std::io::ErrorKind::NotFound {
        return None;
    }
    let path = query.relative(path_of(error).unwrap_or(&query.root));
    Some(ListProblem { path: Bytes::copy_from_slice(path.as_os_str().as_bytes()), message: reason(system) })
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

fn matcher(request: &GrepRequest) -> Result<RegexMatcher, Status> {
    if request.pattern.is_empty() || request.pattern.len() > MAX_PATTERN {
        return Err(Status::invalid_argument(format!("a pattern has 1 to {MAX_PATTERN} bytes")));
    }
    RegexMatcherBuilder::new()
        .multi_line(true)
        .case_insensitive(request.ignore_case)
        .fixed_strings(request.fixed_strings)
        .word(request.word)
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(100)
        .build(&request.pattern)
        .map_err(|error| Status::invalid_argument(format!("malformed pattern: {error}")))
}
