//! Image references and workspace ids: any text is refused, or taken to a full form that parses to itself.
#![no_main]

use dunnage::{ImageRef, WorkspaceId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(image) = ImageRef::parse(text) {
        let full = image.to_string();
        assert_eq!(ImageRef::parse(&full).expect("a full form is a reference"), image);
        assert!(full.is_ascii() && !full.contains(char::is_whitespace), "{full:?}");
        assert!(!image.repository().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
    }
    if let Ok(id) = WorkspaceId::new(text) {
        assert_eq!(id.as_str(), text);
        assert!(id.container_suffix().starts_with(|c: char| c.is_ascii_alphanumeric()));
    }
});
