use crate::error::{Error, ErrorKind, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Which entries of a tree are packed.
pub(crate) struct Patterns {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Patterns {
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let include = if include.is_empty() { None } else { Some(set(include)?) };
        Ok(Self { include, exclude: set(exclude)? })
    }

    /// Whether an entry, and all that is below it, stays out.
    pub(crate) fn leaves_out(&self, path: &[u8]) -> bool {
        self.exclude.is_match(Path::new(OsStr::from_bytes(path)))
    }

    /// Whether an entry is asked for: by its own name, or by that of a directory above.
    pub(crate) fn asks_for(&self, path: &[u8]) -> bool {
        let Some(include) = &self.include else { return true };
        Path::new(OsStr::from_bytes(path)).ancestors().any(|above| include.is_match(above))
    }
}

fn set(patterns: &[String]) -> Result<GlobSet> {
    let bad = |pattern: &str, error: globset::Error| {
        Error::new(ErrorKind::Invalid, format!("malformed pattern {pattern:?}: {}", error.kind()))
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let trimmed = pattern.trim_start_matches("./").trim_matches('/');
        // A name without a slash counts at any depth.
        let anchored = if trimmed.contains('/') || pattern.starts_with('/') {
            trimmed.to_owned()
        } else {
            format!("**/{trimmed}")
        };
        let glob = GlobBuilder::new(&anchored).literal_separator(true).backslash_escape(true).build();
        set.add(glob.map_err(|e| bad(pattern, e))?);
    }
    set.build().map_err(|e| bad(&patterns.join(" "), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_anywhere_and_paths_from_the_root() {
        let of = |text: &[&str]| text.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let patterns = Patterns::new(&of(&["src", "/top.txt"]), &of(&["*.o", "a/*/tmp", "b/**"])).unwrap();
        for (path, out, asked) in [
            ("src", false, true),
            ("x/src/deep/file", false, true),
            ("src/main.o", true, true),
            ("top.txt", false, true),
            ("x/top.txt", false, false),
            ("a/1/tmp", true, false),
            ("a/1/2/tmp", false, false),
            ("b/anything/below", true, false),
            ("b", false, false),
        ] {
            assert_eq!(patterns.leaves_out(path.as_bytes()), out, "{path}");
            assert_eq!(patterns.asks_for(path.as_bytes()), asked, "{path}");
        }
        assert!(Patterns::new(&[], &[]).unwrap().asks_for(b"\xff"));
        assert_eq!(Patterns::new(&of(&["[a"]), &[]).err().unwrap().kind(), ErrorKind::Invalid);
    }
}
