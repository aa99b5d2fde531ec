//! A `SKILL.md`.

use super::is_name;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How deep metadata may be nested; readers of JSON give up soon after.
const MAX_DEPTH: usize = 64;

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Document {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) content: String,
    /// What of it could not be read.
    pub(super) problem: Option<String>,
}

/// Reads a file. What cannot be read of it is told in its `problem`, and left out.
pub(super) fn parse(raw: &str) -> Document {
    let raw = raw.strip_prefix('\u{feff}').unwrap_or(raw);
    let (front, content) = match split(raw) {
        Split::Both(front, content) => (front, content),
        Split::Plain => return Document { content: plain(raw), ..Default::default() },
        Split::Unclosed => {
            let problem =
                Some("the frontmatter has no closing --- line; all is taken for content".to_owned());
            return Document { content: plain(raw), problem, ..Default::default() };
        }
    };
    let mut document = Document { content: plain(content), ..Default::default() };
    match frontmatter(front) {
        Ok(fields) => document.take(fields),
        Err(why) => {
            document.problem = Some(format!("the frontmatter is no YAML mapping, and is left out: {why}"));
        }
    }
    document
}

enum Split<'a> {
    Both(&'a str, &'a str),
    Plain,
    Unclosed,
}

/// Parts the lines between the first two `---` lines from those behind.
fn split(raw: &str) -> Split<'_> {
    let mut at = 0;
    let mut begin = None;
    for line in raw.split_inclusive('\n') {
        let end = at + line.len();
        match (line.trim_end() == "---", begin) {
            (true, None) => begin = Some(end),
            (true, Some(begin)) => {
                return Split::Both(
                    raw.get(begin..at).unwrap_or_default(),
                    raw.get(end..).unwrap_or_default(),
                );
            }
            (false, None) => return Split::Plain,
            (false, Some(_)) => {}
        }
        at = end;
    }
    if begin.is_some() { Split::Unclosed } else { Split::Plain }
}

fn plain(content: &str) -> String {
    content.trim_matches(['\r', '\n']).to_owned()
}

fn frontmatter(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        with_snippet: false,
    };
    let fields: Result<Option<BTreeMap<String, Value>>, _> =
        serde_saphyr::from_str_with_options(text, options);
    fields.map(Option::unwrap_or_default).map_err(|why| {
        let why = why.to_string();
        why.lines().next().unwrap_or_default().to_owned()
    })
}

impl Document {
    fn take(&mut self, mut fields: BTreeMap<String, Value>) {
        let mut problems = Vec::new();
        match fields.remove("name").and_then(text) {
            Some(name) if is_name(&name) => self.name = Some(name),
            Some(name) => problems.push(format!("no skill can be called {name:?}; its folder names it")),
            None => {}
        }
        self.description = fields.remove("description").and_then(text);
        match fields.remove("metadata") {
            Some(Value::Object(metadata)) => self.metadata = metadata.into_iter().collect(),
            None | Some(Value::Null) => {}
            Some(_) => problems.push("metadata is no mapping, and is left out".to_owned()),
        }
        self.problem = (!problems.is_empty()).then(|| problems.join("; "));
    }
}

/// A scalar's text; none for what is empty or no scalar.
fn text(value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Writes a file of its parts.
pub(super) fn build(
    name: &str,
    description: Option<&str>,
    metadata: &BTreeMap<String, Value>,
    content: &str,
) -> Result<String, serde_saphyr::SerializeError> {
    #[derive(Serialize)]
    struct Front<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        metadata: &'a BTreeMap<String, Value>,
    }
    let front = serde_saphyr::to_string(&Front { name, description, metadata })?;
    // Every line feed at its end may belong to the last value.
    let end = if front.ends_with('\n') { "" } else { "\n" };
    Ok(format!("---\n{front}{end}---\n\n{}\n", content.trim_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_whole_file_is_read() {
        let document = parse(
            "\u{feff}---\r\nname: pdf\r\ndescription: 'Reads: PDFs'\r\nlicense: MIT\r\nmetadata:\r\n  tags: [a, 1]\r\n  deep: {on: true}\r\n---\r\n\r\n# PDF\r\n---\r\nmore\r\n\r\n",
        );
        let metadata = json!({"tags": ["a", 1], "deep": {"on": true}});
        let wanted = Document {
            name: Some("pdf".to_owned()),
            description: Some("Reads: PDFs".to_owned()),
            metadata: metadata.as_object().unwrap().clone().into_iter().collect(),
            content: "# PDF\r\n---\r\nmore".to_owned(),
            problem: None,
        };
        assert_eq!(document, wanted);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_hides_nothing() {
        for (raw, content, problem) in [
            ("", "", false),
            ("plain\n", "plain", false),
            ("---\n---\nempty", "empty", false),
            ("---\n# a comment\n---\n", "", false),
            ("---\nname: ''\n---\nx", "x", false),
            ("text\n---\nname: late\n---\n", "text\n---\nname: late\n---", false),
            ("---\nname: open\n", "---\nname: open", true),
            ("---\nname: [unclosed\n---\nx", "x", true),
            ("---\n- a list\n---\nx", "x", true),
            ("---\njust words\n---\nx", "x", true),
            ("---\nname: ../up\n---\nx", "x", true),
            ("---\nmetadata: words\n---\nx", "x", true),
            ("---\na: 1\na: 2\n---\nx", "x", true),
        ] {
            let document = parse(raw);
            assert_eq!((document.name.as_deref(), document.content.as_str()), (None, content), "{raw:?}");
            assert_eq!(document.problem.is_some(), problem, "{raw:?}: {:?}", document.problem);
        }
        assert_eq!(parse("---\nname: 12\n---").name.as_deref(), Some("12"));
    }

    #[test]
    fn line_feeds_at_the_end_of_the_last_value_stay() {
        for value in ["\n", "a\n", "a\n\n", "---", "\n---\n"] {
            let metadata = BTreeMap::from([("last".to_owned(), json!(value))]);
            let document = parse(&build("x", None, &metadata, "body").unwrap());
            assert_eq!((&document.metadata, document.content.as_str()), (&metadata, "body"), "{value:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let deep = format!("---\nmetadata: {}{}\n---\nx", "[".repeat(5000), "]".repeat(5000));
        let mut laughs = "---\na0: &a0 [lol, lol]\n".to_owned();
        for n in 1..40 {
            laughs.push_str(&format!("a{n}: &a{n} [*a{}, *a{}, *a{}]\n", n - 1, n - 1, n - 1));
        }
        laughs.push_str("---\nx");
        for raw in [deep, laughs] {
            let document = parse(&raw);
            assert!(document.problem.is_some() && document.metadata.is_empty());
            assert_eq!(document.content, "x");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[-:#'\"\\[{}&*!|>%@` \\n\\t0-9a-zé]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z ~:-]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in "[A-Za-z0-9 é#:-]{0,8}[a-z]",
            description in proptest::option::of("[!-~é][ -~é\\n]{0,60}[!-~]"),
            metadata in proptest::collection::btree_map("[a-z0-9_: -]{1,8}", value(), 0..4),
            content in "([ -~é][ -~é\\n]{0,80}[!-~])?",
        ) {
            let name = name.trim();
            let raw = build(name, description.as_deref(), &metadata, &content).unwrap();
            let document = parse(&raw);
            prop_assert_eq!(&document.problem, &None, "{}", raw);
            prop_assert_eq!(document.name.as_deref(), Some(name), "{}", &raw);
            prop_assert_eq!(&document.description, &description, "{}", &raw);
            prop_assert_eq!(&document.metadata, &metadata, "{}", &raw);
            prop_assert_eq!(&document.content, &content, "{}", &raw);
        }

        #[test]
        fn anything_is_read(raw in "(---\n)?[\\PC\n-]{0,200}(\n---\n)?[\\PC\n]{0,40}") {
            parse(&raw);
        }
    }
}
