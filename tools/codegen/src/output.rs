//! The files that the emitters make: written where they belong, or compared with what is there.

use std::fs;
use std::path::{Path, PathBuf};

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its path below the repository's root.
    pub path: String,
    /// All of its text.
    pub text: String,
}

impl Output {
    /// A file of this text; the text ends in one line break.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.trim_end().len());
        text.push('\n');
        Self { path: path.into(), text }
    }

    /// Whether the file on disk is another.
    pub(crate) fn differs(&self, root: &Path) -> bool {
        fs::read_to_string(root.join(&self.path)).ok().as_deref() != Some(&self.text)
    }

    /// Writes it, unless it is there already: a build that looks at times stays fresh.
    ///
    /// # Errors
    /// When it cannot be written; the message names it.
    pub(crate) fn write(&self, root: &Path) -> Result<bool, String> {
        if !self.differs(root) {
            return Ok(false);
        }
        let path = root.join(&self.path);
        let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        fs::write(&path, &self.text).map_err(failed)?;
        Ok(true)
    }
}

/// Files in a wholly generated directory that no emitter makes any more.
///
/// # Errors
/// When the directory is there and cannot be read.
pub(crate) fn strays(root: &Path, dir: &str, outputs: &[Output]) -> Result<Vec<PathBuf>, String> {
    let path = root.join(dir);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let mut strays = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let relative = format!("{dir}/{}", name.to_string_lossy());
        if !outputs.iter().any(|o| o.path == relative) {
            strays.push(PathBuf::from(relative));
        }
    }
    strays.sort();
    Ok(strays)
}
