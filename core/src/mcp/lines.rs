//! Lines of bounded length.

/// The longest message, in bytes.
pub(super) const LONGEST: usize = 32 << 20;

/// Puts pieces of output together into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

/// A line was longer than messages may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// Takes a piece and gives the lines that it ends, without their ends and without those that are empty.
    pub(super) fn add(&mut self, mut piece: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut lines = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            piece = rest.get(1..).unwrap_or_default();
            self.extend(line)?;
            let line = std::mem::take(&mut self.rest);
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
        }
        self.extend(piece)?;
        Ok(lines)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.rest.len() + bytes.len() > LONGEST {
            return Err(TooLong);
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; LONGEST / 2];
        assert_eq!(lines.add(&piece), Ok(Vec::new()));
        assert_eq!(lines.add(&piece), Ok(Vec::new()));
        assert_eq!(lines.add(b"x"), Err(TooLong));
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_the_lines_are_the_same(text in "([a-z\r\n]{0,9}\n?){0,20}", cut in 1usize..7) {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                found.extend(lines.add(piece).unwrap());
            }
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let wanted: Vec<Vec<u8>> =
                whole.split('\n').filter(|line| !line.trim().is_empty()).map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
