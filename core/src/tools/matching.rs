//! Finding the one place in a text that somebody means.

use memchr::memmem;
use std::ops::Range;

/// What the search came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The bytes, as they were given.
    Exact(Range<usize>),
    /// The one place that differs only in what is looked past.
    Similar(Range<usize>),
    /// So many places.
    Many(usize),
    None,
}

/// Finds the place of `old` in `content`. When it is nowhere as it is, line ends, spaces at the end of lines, quotes, dashes and odd
/// spaces are looked past.
pub(super) fn find(content: &[u8], old: &str) -> Search {
    match places(content, old.as_bytes()).as_slice() {
        [] => similar(content, old),
        [at] => Search::Exact(*at..at + old.len()),
        many => Search::Many(many.len()),
    }
}

/// Where a piece begins, overlapping ones too; a hundred are enough to say many.
fn places(content: &[u8], piece: &[u8]) -> Vec<usize> {
    let finder = memmem::Finder::new(piece);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = content.get(from..).and_then(|rest| finder.find(rest)) {
        found.push(from + at);
        from += at + 1;
        if found.len() == 100 {
            break;
        }
    }
    found
}

fn similar(content: &[u8], old: &str) -> Search {
    let Ok(content) = std::str::from_utf8(content) else { return Search::None };
    let (content, old) = (Plain::new(content), Plain::new(old));
    if old.text.trim().is_empty() {
        return Search::None;
    }
    let mut found = places(content.text.as_bytes(), old.text.as_bytes());
    if old.cut_at_end {
        // Spaces at its end were looked past, so it must be at the end of a line.
        found.retain(|at| matches!(content.text.as_bytes().get(at + old.text.len()), None | Some(b'\n')));
    }
    match found.as_slice() {
        [] => Search::None,
        [at] => content.original(*at..at + old.text.len()).map_or(Search::None, Search::Similar),
        many => Search::Many(many.len()),
    }
}

/// A text in its plainest form, with the way back.
struct Plain {
    text: String,
    /// For each byte of `text`, the bytes of the original that it stands for.
    origins: Vec<Range<usize>>,
    /// Whether spaces were cut off the last line, which has no end.
    cut_at_end: bool,
}

impl Plain {
    fn new(original: &str) -> Self {
        let mut plain =
            Self { text: String::with_capacity(original.len()), origins: Vec::new(), cut_at_end: false };
        let mut at = 0;
        for line in original.split_inclusive('\n') {
            let body = line.trim_end_matches('\n');
            let ends = body.len() < line.len();
            let kept = body.trim_end();
            for (offset, char) in kept.char_indices() {
                plain.push(simple(char), at + offset..at + offset + char.len_utf8());
            }
            if ends {
                // A carriage return before it belongs to it; spaces before that stay out of any match that ends here.
                let begin = at + body.strip_suffix('\r').unwrap_or(body).len();
                plain.push('\n', begin..at + line.len());
            } else {
                plain.cut_at_end = kept.len() < body.len();
            }
            at += line.len();
        }
        plain
    }

    fn push(&mut self, char: char, origin: Range<usize>) {
        self.text.push(char);
        self.origins.extend(std::iter::repeat_n(origin, char.len_utf8()));
    }

    /// Where the original says what these bytes say.
    fn original(&self, range: Range<usize>) -> Option<Range<usize>> {
        let first = self.origins.get(range.start)?;
        let last = self.origins.get(range.end.checked_sub(1)?)?;
        Some(first.start..last.end)
    }
}

/// The key on a plain keyboard for what word processors and models write instead.
fn simple(char: char) -> char {
    match char {
        '\u{2018}'..='\u{201b}' | '\u{2032}' => '\'',
        '\u{201c}'..='\u{201f}' | '\u{2033}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        char => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(content: &str, old: &str) -> Option<String> {
        match find(content.as_bytes(), old) {
            Search::Exact(range) | Search::Similar(range) => Some(content[range].to_owned()),
            Search::Many(_) | Search::None => None,
        }
    }

    #[test]
    fn the_one_place_is_found_whatever_is_looked_past() {
        for (content, old, is) in [
            ("let a = 1;", "a = 1", Some("a = 1")),
            ("say “hello” – now", "say \"hello\" - now", Some("say “hello” – now")),
            ("say \"it's\"", "say “it’s”", Some("say \"it's\"")),
            ("a\u{a0}b\n", "a b\n", Some("a\u{a0}b\n")),
            ("one\r\ntwo\r\nthree\r\n", "one\ntwo\n", Some("one\r\ntwo\r\n")),
            ("one  \ntwo\t\nthree", "one\ntwo\nthree", Some("one  \ntwo\t\nthree")),
            ("one\ntwo", "one  \ntwo", Some("one\ntwo")),
            ("end   \nnext", "end\nnext", Some("end   \nnext")),
            ("foobar\nfoo\n", "foo ", Some("foo")),
            // Twice, or not at all.
            ("x x", "x", None),
            ("aaa", "aa", None),
            ("“x” \"x\" ", "‟x”", None),
            ("foobar", "foo ", None),
            ("anything", "\u{a0}\u{a0}", None),
        ] {
            assert_eq!(found(content, old).as_deref(), is, "{old:?} in {content:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_exactly_only() {
        assert_eq!(find(b"\xff\xfe plain \xff", "plain"), Search::Exact(3..8));
        assert_eq!(find(b"\xff\xfe \xe2\x80\x9cx\xe2\x80\x9d", "\"x\""), Search::None);
    }

    proptest! {
        #[test]
        fn what_is_there_once_is_found_where_it_is(
            before in "[a-d \n]{0,40}", old in "[x-z“” –\n]{1,20}[x-z]", after in "[a-d \r\n]{0,40}",
        ) {
            let content = format!("{before}x{old}{after}");
            if let Search::Exact(range) | Search::Similar(range) = find(content.as_bytes(), &old) {
                prop_assert!(content.is_char_boundary(range.start) && content.is_char_boundary(range.end));
                let plain = |text: &str| Plain::new(text).text;
                prop_assert_eq!(plain(&content[range]), plain(&old));
            }
        }

        #[test]
        fn a_changed_copy_is_found(lines in proptest::collection::vec("[a-z\"'-]{1,8}( [a-z\"'-]{1,8}){0,3}", 1..6)) {
            let old = lines.join("\n");
            let changed = lines.join("  \r\n").replace('"', "”").replace('\'', "’").replace('-', "—").replace(' ', "\u{a0}");
            let content = format!("#\n{changed}\n#");
            prop_assert_eq!(found(&content, &old), Some(changed));
        }
    }
}
