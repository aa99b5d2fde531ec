//! Long output, made short: its beginning and its end.

/// Output above either is made short.
const MOST: (usize, usize) = (10 << 10, 250);
/// What is kept of the beginning, in bytes and lines.
const HEAD: (usize, usize) = (4096, 150);
/// What is kept of the end, in bytes and lines.
const TAIL: (usize, usize) = (1024, 50);

/// Where bytes of an output were dropped before, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) at: usize,
    pub(super) dropped: u64,
}

/// Makes output short.
pub(super) fn cut(bytes: &[u8], gap: Option<Gap>) -> String {
    let Some(Gap { at, dropped }) = gap else {
        let text = String::from_utf8_lossy(bytes);
        if text.len() <= MOST.0 && text.lines().count() <= MOST.1 {
            return text.into_owned();
        }
        let head = head(&text);
        return join(head, 0, text.get(head.len()..).unwrap_or_default());
    };
    let (first, last) = bytes.split_at(at.min(bytes.len()));
    let first = String::from_utf8_lossy(first);
    let head = head(&first);
    join(head, dropped + (first.len() - head.len()) as u64, &String::from_utf8_lossy(last))
}

/// The head, a line that tells how much is left out, and the end of the rest.
fn join(head: &str, dropped: u64, rest: &str) -> String {
    let tail = tail(rest);
    let bytes = dropped + (rest.len() - tail.len()) as u64;
    if bytes == 0 {
        return format!("{head}{tail}");
    }
    let gap = if head.ends_with('\n') || head.is_empty() { "" } else { "\n" };
    format!("{head}{gap}[... {bytes} bytes left out ...]\n{tail}")
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
            assert_eq!(cut(text.as_bytes(), None), text);
        }
    }

    #[test]
    fn of_many_lines_the_first_and_the_last_stay() {
        let text: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let short = cut(text.as_bytes(), None);
        let lines: Vec<&str> = short.lines().collect();
        assert_eq!((lines[0], lines[149], lines[151], lines[200]), ("0", "149", "950", "999"));
        assert_eq!(lines[150], "[... 3200 bytes left out ...]");
        assert_eq!(lines.len(), 201);
    }

    #[test]
    fn what_was_never_seen_is_counted() {
        let gap = |at| Some(Gap { at, dropped: 7 });
        assert_eq!(cut(b"a\nb", gap(3)), "a\nb\n[... 7 bytes left out ...]\n");
        assert_eq!(cut(b"a\nb", gap(2)), "a\n[... 7 bytes left out ...]\nb");
        let long = [[b'x'; 5000], [b'y'; 5000]].concat();
        let short = cut(&long, gap(5000));
        assert_eq!(
            short,
            format!("{}\n[... 4887 bytes left out ...]\n{}", "x".repeat(4096), "y".repeat(1024))
        );
    }

    proptest! {
        #[test]
        fn nothing_but_the_middle_is_left_out(text in "([a-zé🦀 ]{0,300}\n?){0,60}", times in 1usize..20) {
            let text = text.repeat(times);
            let short = cut(text.as_bytes(), None);
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
