//! Long output, made short: its beginning and its end.

use std::borrow::Cow;

/// Output above either is made short.
const MOST: (usize, usize) = (10 << 10, 250);
/// What is kept of the beginning, in bytes and lines.
const HEAD: (usize, usize) = (4096, 150);
/// What is kept of the end, in bytes and lines.
const TAIL: (usize, usize) = (1024, 50);

/// Makes output short. `unseen` is how many bytes of it were dropped before, after what is here.
pub(super) fn cut(text: &str, unseen: u64) -> Cow<'_, str> {
    let lines = text.lines().count();
    if unseen == 0 && text.len() <= MOST.0 && lines <= MOST.1 {
        return Cow::Borrowed(text);
    }
    let head = head(text);
    let rest = text.get(head.len()..).unwrap_or_default();
    let tail = tail(rest);
    let left_out = rest.get(..rest.len() - tail.len()).unwrap_or_default();
    if left_out.is_empty() && unseen == 0 {
        return Cow::Borrowed(text);
    }
    let bytes = left_out.len() as u64 + unseen;
    let gap = if head.ends_with('\n') || head.is_empty() { "" } else { "\n" };
    Cow::Owned(format!("{head}{gap}[... {bytes} bytes left out ...]\n{tail}"))
}

/// The first lines within bounds; of a line that is too long itself, its beginning.
fn head(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n').take(HEAD.1) {
        if end + line.len() > HEAD.0 {
            if end == 0 {
                end = floor(line, HEAD.0);
            }
            break;
        }
        end += line.len();
    }
    text.get(..end).unwrap_or_default()
}

/// The last lines within bounds; of a line that is too long itself, its end.
fn tail(text: &str) -> &str {
    let mut begin = text.len();
    for line in text.split_inclusive('\n').rev().take(TAIL.1) {
        if text.len() - begin + line.len() > TAIL.0 {
            if begin == text.len() {
                begin = ceil(text, text.len() - TAIL.0);
            }
            break;
        }
        begin -= line.len();
    }
    text.get(begin..).unwrap_or_default()
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_short_stays() {
        let lines = "x\n".repeat(250);
        let bytes = "x".repeat(10 << 10);
        for text in ["", "a", "a\n", lines.as_str(), bytes.as_str()] {
            assert_eq!(cut(text, 0), text);
        }
    }

    #[test]
    fn of_many_lines_the_first_and_the_last_stay() {
        let text: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let short = cut(&text, 0);
        let lines: Vec<&str> = short.lines().collect();
        assert_eq!((lines[0], lines[149], lines[151], lines[200]), ("0", "149", "950", "999"));
        assert_eq!(lines[150], "[... 3200 bytes left out ...]");
        assert_eq!(lines.len(), 201);
    }

    #[test]
    fn what_was_never_seen_is_counted() {
        assert_eq!(cut("a\nb", 7), "a\nb\n[... 7 bytes left out ...]\n");
    }

    proptest! {
        #[test]
        fn nothing_but_the_middle_is_left_out(text in "([a-zé🦀 ]{0,300}\n?){0,60}", times in 1usize..20) {
            let text = text.repeat(times);
            let short = cut(&text, 0);
            if short == text {
                prop_assert!(text.len() <= MOST.0.max(HEAD.0 + TAIL.0));
            } else {
                prop_assert!(short.len() <= HEAD.0 + TAIL.0 + 64);
                let (head, rest) = short.split_once("[... ").unwrap();
                let (count, tail) = rest.split_once(" bytes left out ...]\n").unwrap();
                prop_assert!(text.ends_with(tail));
                let count: usize = count.parse().unwrap();
                let head = if text.starts_with(head) { head } else { head.strip_suffix('\n').unwrap() };
                prop_assert!(text.starts_with(head));
                prop_assert_eq!(head.len() + count + tail.len(), text.len());
            }
        }
    }
}
