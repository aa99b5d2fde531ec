//! Small helpers for writing text: paragraphs, names, and lines of bounded width.

/// Joins the lines of each paragraph and parts paragraphs by an empty line. A rustdoc heading ends the text: examples
/// and error sections in Rust mean nothing to other languages.
pub(crate) fn unwrap_docs(docs: &str) -> String {
    let mut paragraphs: Vec<String> = vec![String::new()];
    for line in docs.lines().map(str::trim) {
        if line.starts_with("# ") {
            break;
        }
        if line.is_empty() {
            paragraphs.push(String::new());
        } else if let Some(last) = paragraphs.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(line);
        }
    }
    paragraphs.retain(|p| !p.is_empty());
    paragraphs.join("\n\n")
}

/// The docs as lines of at most `width` characters, the prefix included; empty when there are none.
pub(crate) fn wrap(docs: &str, prefix: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, paragraph) in docs.split("\n\n").filter(|p| !p.is_empty()).enumerate() {
        if index > 0 {
            lines.push(prefix.trim_end().to_owned());
        }
        let mut line = prefix.to_owned();
        for word in paragraph.split(' ') {
            let used = line.chars().count();
            if used > prefix.chars().count() && used + 1 + word.chars().count() > width {
                lines.push(std::mem::replace(&mut line, prefix.to_owned()));
            }
            if line.len() > prefix.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Writes docs into `out`, wrapped, a line each.
pub(crate) fn write_docs(out: &mut String, docs: &str, prefix: &str, width: usize) {
    for line in wrap(docs, prefix, width) {
        out.push_str(&line);
        out.push('\n');
    }
}

/// `snake_case` as `CamelCase`.
pub(crate) fn camel(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map(|c| c.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
        })
        .collect()
}

/// `snake_case` or `noun.verb` as `camelCase`.
pub(crate) fn lower_camel(snake: &str) -> String {
    let name = camel(&snake.replace('.', "_"));
    let mut chars = name.chars();
    chars.next().map(|c| c.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_lose_their_line_breaks_and_rust_sections() {
        let docs = "One\ntwo.\n\nThree.\n\n# Examples\n```\nx\n```";
        assert_eq!(unwrap_docs(docs), "One two.\n\nThree.");
    }

    #[test]
    fn lines_stay_within_the_width_and_words_whole() {
        let lines = wrap("aaa bbb ccc\n\nddddddddddddddd e", "// ", 10);
        assert_eq!(lines, ["// aaa bbb", "// ccc", "//", "// ddddddddddddddd", "// e"]);
        assert!(wrap("", "// ", 10).is_empty());
    }

    #[test]
    fn names() {
        assert_eq!(camel("image_info"), "ImageInfo");
        assert_eq!(lower_camel("image.resolve_digest"), "imageResolveDigest");
    }
}
