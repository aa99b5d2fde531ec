//! Patterns of names.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use tonic::Status;

/// Most patterns of one request.
const MAX_PATTERNS: usize = 100;
/// Most bytes of one pattern.
const MAX_BYTES: usize = 1000;

/// Several patterns. One without a slash is for names at any depth, all others are for paths relative to where a walk
/// begins. `*` and `?` stay within one name, `**` does not.
#[derive(Debug, Default)]
pub(crate) struct Globs {
    set: Option<GlobSet>,
}

impl Globs {
    /// Reads them.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for one that is malformed or too long, or too many.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, Status> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        if patterns.len() > MAX_PATTERNS {
            let text = format!("at most {MAX_PATTERNS} patterns are taken: join some by {{a,b}}");
            return Err(Status::invalid_argument(text));
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let plain = pattern.strip_suffix('/').unwrap_or(pattern);
            set.add(match plain.strip_prefix('/') {
                Some(anchored) => glob(anchored)?,
                None if plain.contains('/') => glob(plain)?,
                None if plain.is_empty() => glob(plain)?,
                None => glob(&format!("**/{plain}"))?,
            });
        }
        let set = set.build().map_err(|error| malformed(&error))?;
        Ok(Self { set: Some(set) })
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_none()
    }

    /// Whether a relative path matches one of them.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_match(path))
    }
}

/// Reads one pattern for whole relative paths.
///
/// # Errors
/// `INVALID_ARGUMENT` for one that is malformed, empty or too long.
pub(crate) fn glob(pattern: &str) -> Result<Glob, Status> {
    if pattern.is_empty() {
        return Err(Status::invalid_argument("a pattern is empty: leave it out or name something"));
    }
    if pattern.len() > MAX_BYTES {
        return Err(Status::invalid_argument(format!("a pattern is over {MAX_BYTES} bytes: shorten it")));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| malformed(&error))
}

/// Reads one pattern and makes it ready to match.
///
/// # Errors
/// As [`glob`].
pub(crate) fn matcher(pattern: &str) -> Result<GlobMatcher, Status> {
    // The set is what tells of a pattern that would become too large.
    let glob = glob(pattern)?;
    GlobSetBuilder::new().add(glob.clone()).build().map_err(|error| malformed(&error))?;
    Ok(glob.compile_matcher())
}

fn malformed(error: &globset::Error) -> Status {
    let pattern = error.glob().unwrap_or_default();
    Status::invalid_argument(format!("malformed pattern {pattern:?}: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_anywhere_and_paths_where_they_are() {
        let globs = |patterns: &[&str]| {
            Globs::new(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let set = globs(&["*.rs", "docs/*.md", "/top", "target/", "**/deep/x[0-9]"]);
        for path in ["a.rs", "x/y/a.rs", "docs/a.md", "top", "x/target", "a/deep/x7", "deep/x7"] {
            assert!(set.matches(Path::new(path)), "{path}");
        }
        for path in ["a.rss", "x/docs/a.md", "docs/x/a.md", "x/top", "deep/xx", "A.RS"] {
            assert!(!set.matches(Path::new(path)), "{path}");
        }
        assert!(globs(&[]).is_empty() && !globs(&[]).matches(Path::new("x")));
        assert!(globs(&["{a,b/c}"]).matches(Path::new("b/c")));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let many = vec!["x".to_owned(); MAX_PATTERNS + 1];
        let bad: Vec<Vec<String>> = vec![
            vec!["[".into()],
            vec!["{a".into()],
            vec![String::new()],
            vec!["x".repeat(MAX_BYTES + 1)],
            many,
        ];
        for patterns in bad {
            assert_eq!(
                Globs::new(&patterns).unwrap_err().code(),
                tonic::Code::InvalidArgument,
                "{patterns:?}"
            );
        }
        let said = matcher("a[").unwrap_err();
        assert!(said.message().contains("\"a[\""), "{said:?}");
    }
}
