//! What is common to everything that tells of many files.

use super::super::{failure, path};
use super::convert;
use crate::error::{Error, Result};
use crate::types::{DirEntry, DirProblem};
use dunnage_bridge::v1::{FileInfo, ListProblem};
use std::ops::RangeInclusive;

/// The most problems that are reported; more say nothing new.
const MAX_PROBLEMS: usize = 1000;
/// The data directory, by its relative name.
pub(super) const DATA_DIR: &str = ".";

/// Entries and problems below a directory.
pub(super) struct Entries<'a> {
    directory: &'a str,
    pub(super) entries: Vec<DirEntry>,
    pub(super) problems: Vec<DirProblem>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(directory: &'a str) -> Self {
        Self { directory, entries: Vec::new(), problems: Vec::new() }
    }

    /// Adds what an agent told. What it says lies elsewhere is left out.
    pub(super) fn add(&mut self, infos: &[FileInfo], problems: Vec<ListProblem>) {
        let named = infos.iter().filter_map(|info| Some((info, entry_path(self.directory, &info.path)?)));
        self.entries.extend(named.map(|(info, path)| convert::from_v1(info, path)));
        self.add_problems(problems);
    }

    /// Adds places that could not be looked at.
    pub(super) fn add_problems(&mut self, problems: Vec<ListProblem>) {
        let room = MAX_PROBLEMS.saturating_sub(self.problems.len());
        for problem in problems.into_iter().take(room) {
            let path = entry_path(self.directory, &problem.path).unwrap_or_else(|| self.directory.to_owned());
            self.problems.push(DirProblem { path, message: failure::clean(&problem.message) });
        }
    }
}

/// A name that is no UTF-8 is shown with replacement characters.
pub(super) fn entry_path(directory: &str, entry: &[u8]) -> Option<String> {
    path::join_entry(directory, &String::from_utf8_lossy(entry))
}

/// INVALID_ARGUMENT for an option out of range.
pub(super) fn limit(name: &'static str, value: u32, range: RangeInclusive<u32>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("{name} is from {} to {}", range.start(), range.end());
    Err(Error::invalid_argument(message).with(name, value))
}
