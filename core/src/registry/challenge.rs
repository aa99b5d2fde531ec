use http::{HeaderMap, header::WWW_AUTHENTICATE};
use std::collections::BTreeMap;

/// What a registry wants to see before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The challenge of a response: Bearer before Basic when both are offered.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = value.to_str() else { continue };
            for (scheme, mut parameters) in challenges(text) {
                if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameters.remove("realm")
                {
                    return Some(Self::Bearer {
                        realm,
                        service: parameters.remove("service"),
                        scope: parameters.remove("scope"),
                    });
                }
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

/// Splits `Scheme k=v, k="v, w", Scheme2 …` (RFC 9110, section 11.2). What is malformed ends the list.
fn challenges(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let word = &rest[..end];
        let after = rest[end..].trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let value = value.trim_start_matches([' ', '\t']);
            let Some((value, remaining)) = parameter_value(value) else { break };
            let Some((_, parameters)) = found.last_mut() else { break };
            parameters.insert(word.to_ascii_lowercase(), value);
            rest = remaining;
        } else {
            found.push((word.to_owned(), BTreeMap::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn parameters_may_be_quoted_hold_commas_and_come_in_any_order() {
        let text = r#"Bearer realm="https://a/t?x=1,2",service="s p",scope="repository:a/b:pull,push""#;
        assert_eq!(of(&[text]), bearer("https://a/t?x=1,2", Some("s p"), Some("repository:a/b:pull,push")));
        let text = r#"bearer  scope = "x\"y" , REALM="https://a" , error="invalid_token""#;
        assert_eq!(of(&[text]), bearer("https://a", None, Some("x\"y")));
        assert_eq!(of(&["Bearer realm=https://a,service=b"]), bearer("https://a", Some("b"), None));
    }

    #[test]
    fn bearer_goes_before_basic_in_one_or_several_headers() {
        assert_eq!(
            of(&[r#"Basic realm="r""#, r#"Bearer realm="https://a""#]),
            bearer("https://a", None, None)
        );
        assert_eq!(of(&[r#"Basic realm="r", Bearer realm="https://a""#]), bearer("https://a", None, None));
        assert_eq!(of(&["Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn malformed_headers_ask_for_nothing() {
        for text in
            ["", "=", "Bearer", r#"Bearer realm="open"#, "Negotiate abc==", ", ,", r#"Bearer realm="a\"#]
        {
            assert_eq!(of(&[text]), None, "{text}");
        }
    }
}
