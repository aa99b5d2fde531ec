//! The window of a text file that `ReadFile` returns.

use std::io::{self, BufRead, Read};
use std::path::Path;

use tonic::Status;

use super::errors::At;
use super::raw;
use crate::bridgepb::ReadFileResponse;
use crate::consts::{BINARY_PROBE_BYTES, READ_MAX_BYTES, READ_MAX_LINE_CHARS, READ_MAX_LINES};

/// Most bytes of a line that can matter: every character shown, and one more to know that there are more.
const LINE_BYTES: usize = (READ_MAX_LINE_CHARS + 1) * 4;

/// Reads up to `lines` lines from line `first` (counted from 1) and counts all of them.
///
/// # Errors
/// Those of opening and reading; `FAILED_PRECONDITION` when it is not a regular file.
pub(crate) fn read(path: &Path, first: i32, lines: i32) -> Result<ReadFileResponse, Status> {
    let file = raw::open(path)?;
    let first = usize::try_from(first).unwrap_or(1).max(1);
    let lines =
        usize::try_from(lines).ok().filter(|n| (1..=READ_MAX_LINES).contains(n)).unwrap_or(READ_MAX_LINES);
    window(file, first, lines).at("read", path)
}

fn window(file: impl Read, first: usize, lines: usize) -> io::Result<ReadFileResponse> {
    let mut file = io::BufReader::with_capacity(64 << 10, file);
    if is_binary(&mut file)? {
        return Ok(ReadFileResponse { binary: true, ..Default::default() });
    }
    let (mut content, mut total, mut taken, mut full) = (String::new(), 0_usize, 0, false);
    let mut line = Vec::new();
    while next_line(&mut file, &mut line)? {
        total += 1;
        if total < first || taken == lines || full {
            continue;
        }
        let shown = shown(&line);
        // A line that does not fit ends the window, so that it has no hole.
        full = content.len() + shown.len() + 1 > READ_MAX_BYTES;
        if !full {
            content.push_str(&shown);
            content.push('\n');
            taken += 1;
        }
    }
    Ok(ReadFileResponse { content, total_lines: i32::try_from(total).unwrap_or(i32::MAX), binary: false })
}

/// Looks for a NUL byte near the beginning, without consuming anything.
fn is_binary(file: &mut io::BufReader<impl Read>) -> io::Result<bool> {
    let start = file.fill_buf()?;
    Ok(start[..start.len().min(BINARY_PROBE_BYTES)].contains(&0))
}

/// The next line without its end, cut to what can matter; false at the end of the file.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let (mut any, mut last) = (false, 0);
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_BYTES - line.len())]);
        last = part.last().copied().unwrap_or(last);
        let used = part.len() + usize::from(end.is_some());
        file.consume(used);
        if end.is_some() {
            break;
        }
    }
    if last == b'\r' && line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(any)
}

/// A line as it is shown: bytes that are no text replaced, and no longer than allowed.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(READ_MAX_LINE_CHARS) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &[u8], first: usize, lines: usize) -> (String, i32) {
        let read = window(text, first, lines).unwrap();
        assert!(!read.binary);
        (read.content, read.total_lines)
    }

    #[test]
    fn a_window_of_lines_and_the_total() {
        assert_eq!(at(b"a\nb\r\nc", 1, 200), ("a\nb\nc\n".into(), 3));
        assert_eq!(at(b"a\nb\nc\n", 2, 1), ("b\n".into(), 3));
        assert_eq!(at(b"", 1, 200), (String::new(), 0));
        assert_eq!(at(b"a\n", 9, 1), (String::new(), 1));
    }

    #[test]
    fn limits_of_characters_lines_and_bytes() {
        let long = "é".repeat(1001);
        assert_eq!(at(long.as_bytes(), 1, 1).0, format!("{}...\n", "é".repeat(1000)));
        let fits = "é".repeat(1000);
        assert_eq!(at(fits.as_bytes(), 1, 1).0, format!("{fits}\n"));
        let many = "x\n".repeat(300);
        assert_eq!(at(many.as_bytes(), 1, 200), ("x\n".repeat(200), 300));
        let wide = format!("{}\n", "y".repeat(999)).repeat(10);
        let (content, total) = at(wide.as_bytes(), 1, 200);
        assert_eq!((content.len(), total), (5000, 10));
    }

    #[test]
    fn huge_lines_take_no_memory_and_still_count() {
        let huge = "z".repeat(3 << 20) + "\nend";
        let (content, total) = at(huge.as_bytes(), 1, 2);
        assert_eq!((content.len(), total), (1004 + 4, 2));
    }

    #[test]
    fn a_nul_near_the_beginning_is_binary_a_later_one_is_not() {
        assert!(window(&b"ab\0c"[..], 1, 1).unwrap().binary);
        let mut late = vec![b'a'; BINARY_PROBE_BYTES];
        late.push(0);
        assert!(!window(&late[..], 1, 1).unwrap().binary);
        late[BINARY_PROBE_BYTES - 1] = 0;
        assert!(window(&late[..], 1, 1).unwrap().binary);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(at(b"a\xffb\n", 1, 1).0, "a\u{fffd}b\n");
    }
}
