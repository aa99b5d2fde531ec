//! One file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use grep_matcher::Matcher;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use prost::bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use super::super::errors::reason;
use super::super::raw;
use super::query::Query;
use super::told::{Found, Stop};
use crate::v1::{GrepLine, GrepMatch};

/// Most bytes of one line that is searched.
const MAX_HEAP: usize = 4 << 20;
/// Bytes of what was found after which a file is left.
const MAX_FOUND: usize = 1 << 20;
/// What a line takes besides its text.
const LINE_COST: usize = 64;

/// Searches files, one after another.
pub(super) struct Searching<'a> {
    query: &'a Query,
    stop: &'a Stop,
    searcher: Searcher,
}

impl<'a> Searching<'a> {
    pub(super) fn new(query: &'a Query, stop: &'a Stop) -> Self {
        let searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .line_number(true)
            .before_context(query.before)
            .after_context(query.after)
            .heap_limit(Some(MAX_HEAP))
            .max_matches(Some(query.max_per_file))
            .build();
        Self { query, stop, searcher }
    }

    /// Searches one file. A binary one has no matches; one that has gone was not searched.
    pub(super) fn file(&mut self, path: &Path) -> Found {
        let named = Bytes::copy_from_slice(self.query.relative(path).as_os_str().as_bytes());
        let mut found = Found::new(named);
        let file = match self.open(path) {
            Ok(Some(file)) => file,
            Ok(None) => return found,
            Err(why) => {
                found.problem = Some(why);
                return found;
            }
        };
        found.searched = true;
        let reader = Stoppable { file, stop: self.stop };
        let mut lines = Lines { query: self.query, found, recent: VecDeque::new(), binary: false };
        let searched = self.searcher.search_reader(&self.query.matcher, reader, &mut lines);
        let Lines { mut found, binary, .. } = lines;
        if binary {
            return Found { matches: Vec::new(), bytes: 0, more: false, ..found };
        }
        if let Err(error) = searched
            && !self.stop.is_so()
        {
            found.problem = Some(match error.raw_os_error() {
                Some(_) => reason(&error),
                None => format!("a line is over {} MiB", MAX_HEAP >> 20),
            });
        }
        found
    }

    /// Opens a regular file; none where there is another thing by now.
    fn open(&self, path: &Path) -> Result<Option<File>, String> {
        if self.query.is_file() {
            return raw::open(path).map(Some).map_err(|status| status.message().to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(reason(&error.into())),
        };
        let stat = fstat(&fd).map_err(|error| reason(&error.into()))?;
        Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| fd.into()))
    }
}

/// A file that comes to its end when the search does.
struct Stoppable<'a> {
    file: File,
    stop: &'a Stop,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_so() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.file.read(buffer)
    }
}

/// Takes the lines of one file.
struct Lines<'a> {
    query: &'a Query,
    found: Found,
    /// The last lines that were told, for the context of what follows.
    recent: VecDeque<(u64, GrepLine)>,
    binary: bool,
}

impl Lines<'_> {
    /// A line that follows what was found before.
    fn pass(&mut self, number: u64, line: &GrepLine) {
        let after = self.query.after as u64;
        let near = self.found.matches.iter_mut().rev().take_while(|found| number <= found.line + after);
        for found in near {
            found.after.push(line.clone());
            self.found.bytes += line.text.len() + LINE_COST;
        }
        if self.query.before > 0 {
            if self.recent.len() == self.query.before {
                self.recent.pop_front();
            }
            self.recent.push_back((number, line.clone()));
        }
    }

    fn has_room(&mut self) -> bool {
        self.found.more |= self.found.bytes > MAX_FOUND;
        !self.found.more
    }

    fn line(&self, bytes: &[u8]) -> GrepLine {
        let limit = self.query.max_line;
        if bytes.len() <= limit {
            return GrepLine { text: Bytes::copy_from_slice(bytes), truncated: false };
        }
        // Not within a character.
        let mut end = limit;
        while end > limit.saturating_sub(3) && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        GrepLine { text: Bytes::copy_from_slice(&bytes[..end]), truncated: true }
    }
}

/// A line without its end.
fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _searcher: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        let number = found.line_number().unwrap_or_default();
        let text = bare(found.bytes());
        // What matches the end of the line alone matches after its last byte.
        let start = self.query.matcher.find(text)?.map_or(text.len(), |range| range.start());
        let line = self.line(text);
        let first = number.saturating_sub(self.query.before as u64);
        let near = self.recent.iter().filter(|(number, _)| *number >= first);
        let before: Vec<GrepLine> = near.map(|(_, line)| line.clone()).collect();
        self.pass(number, &line);
        let cost = before.iter().chain([&line]).map(|line| line.text.len() + LINE_COST).sum::<usize>();
        self.found.bytes += cost + self.found.path.len();
        self.found.matches.push(GrepMatch {
            path: self.found.path.clone(),
            line: number,
            column: start as u64 + 1,
            text: Some(line),
            before,
            after: Vec::new(),
        });
        Ok(self.has_room())
    }

    fn context(&mut self, _searcher: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        let line = self.line(bare(context.bytes()));
        self.pass(context.line_number().unwrap_or_default(), &line);
        Ok(self.has_room())
    }

    fn binary_data(&mut self, _searcher: &Searcher, _offset: u64) -> io::Result<bool> {
        self.binary = true;
        Ok(false)
    }
}
