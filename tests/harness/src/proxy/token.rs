//! The token service that registries send their clients to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::error::Result;
use crate::paths;

/// Gives tokens out and recognises them.
#[derive(Debug)]
pub(super) struct Tokens {
    credentials: Option<(String, String)>,
    lifetime: Duration,
    given: Mutex<HashMap<String, Token>>,
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    expires: Instant,
}

/// What a token service answers.
#[derive(Debug)]
pub(super) enum Grant {
    /// A token, with its lifetime in seconds.
    Token(String, u64),
    /// The credentials are wrong.
    Refused,
}

impl Tokens {
    pub(super) fn new(user: Option<String>, password: Option<String>, lifetime: u64) -> Self {
        let credentials = user.map(|user| (user, password.unwrap_or_default()));
        Self { credentials, lifetime: Duration::from_secs(lifetime), given: Mutex::default() }
    }

    /// Answers one request with its query string and its Authorization header.
    pub(super) fn grant(&self, query: &str, authorization: Option<&str>) -> Result<Grant> {
        let known = match (&self.credentials, authorization) {
            (None, _) => true,
            // Strangers get a token too; it opens nothing.
            (Some(_), None) => false,
            (Some((user, password)), Some(header)) => {
                if basic(header).as_deref() != Some(&format!("{user}:{password}")) {
                    return Ok(Grant::Refused);
                }
                true
            }
        };
        self.give(if known { scopes(query) } else { Vec::new() })
    }

    /// Answers one request to exchange a refresh token, given its form. The password is the one that is known.
    pub(super) fn exchange(&self, form: &str) -> Result<Grant> {
        let is = |name: &str, wanted: &str| values(form, name).eq([wanted]);
        let known = match &self.credentials {
            Some((_, password)) => is("refresh_token", password),
            None => values(form, "refresh_token").next().is_some(),
        };
        // The specification asks for these three too.
        let whole = is("grant_type", "refresh_token")
            && is("service", "dunnage")
            && values(form, "client_id").any(|name| !name.is_empty());
        if known && whole { self.give(scopes(form)) } else { Ok(Grant::Refused) }
    }

    fn give(&self, scopes: Vec<String>) -> Result<Grant> {
        let name = paths::random_hex(16)?;
        let token = Token { scopes, expires: Instant::now() + self.lifetime };
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), token);
        Ok(Grant::Token(name, self.lifetime.as_secs()))
    }

    /// Whether an Authorization header allows pulling from `repository`, or just knocking when that is empty.
    pub(super) fn allows(&self, authorization: Option<&str>, repository: &str) -> bool {
        let Some(name) = authorization.and_then(|header| header.strip_prefix("Bearer ")) else {
            return false;
        };
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = given.get(name.trim()).filter(|token| token.expires > Instant::now()) else {
            return false;
        };
        repository.is_empty() || token.scopes.iter().any(|scope| covers(scope, repository))
    }
}

/// The values of one name in a query string or a form.
fn values<'a>(query: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let prefix = format!("{name}=");
    query.split('&').filter_map(move |pair| pair.strip_prefix(&prefix).map(decode))
}

/// All scopes that a query string or a form asks for.
fn scopes(query: &str) -> Vec<String> {
    values(query, "scope").flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether `repository:<name>:<actions>` lets one pull.
fn covers(scope: &str, repository: &str) -> bool {
    let Some((resource, actions)) = scope.rsplit_once(':') else { return false };
    resource.strip_prefix("repository:") == Some(repository)
        && actions.split(',').any(|action| action == "pull" || action == "*")
}

/// `user:password` of a basic Authorization header.
fn basic(header: &str) -> Option<String> {
    let encoded = header.strip_prefix("Basic ")?;
    String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()
}

/// Undoes the escapes of a query string.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(other),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Grant, Tokens};

    fn token(tokens: &Tokens, query: &str, authorization: Option<&str>) -> String {
        match tokens.grant(query, authorization).unwrap() {
            Grant::Token(name, _) => format!("Bearer {name}"),
            Grant::Refused => panic!("refused"),
        }
    }

    #[test]
    fn a_token_opens_its_scope_and_no_other() {
        let tokens = Tokens::new(None, None, 60);
        let header = token(&tokens, "service=x&scope=repository%3Aa%2Fb%3Apull", None);
        assert!(tokens.allows(Some(&header), "a/b"));
        assert!(!tokens.allows(Some(&header), "a/c"));
        assert!(!tokens.allows(None, "a/b"));
    }

    #[test]
    fn strangers_and_wrong_passwords_get_nowhere() {
        let tokens = Tokens::new(Some("u".into()), Some("p".into()), 60);
        let stranger = token(&tokens, "scope=repository:a:pull", None);
        assert!(!tokens.allows(Some(&stranger), "a"));
        assert!(matches!(
            tokens.grant("scope=repository:a:pull", Some("Basic dTp4")).unwrap(),
            Grant::Refused
        ));
        let friend = token(&tokens, "scope=repository:a:pull", Some("Basic dTpw"));
        assert!(tokens.allows(Some(&friend), "a"));
    }

    #[test]
    fn the_password_is_exchanged_for_a_token() {
        let tokens = Tokens::new(Some("u".into()), Some("p q".into()), 60);
        let form = "grant_type=refresh_token&service=dunnage&client_id=x&scope=repository%3Aa%3Apull";
        for (secret, known) in [("&refresh_token=p+q", true), ("&refresh_token=p", false), ("", false)] {
            let grant = tokens.exchange(&format!("{form}{secret}")).unwrap();
            match grant {
                Grant::Token(name, _) => {
                    assert!(known && tokens.allows(Some(&format!("Bearer {name}")), "a"), "{secret}");
                }
                Grant::Refused => assert!(!known, "{secret}"),
            }
        }
        let bare = "refresh_token=p+q&scope=repository%3Aa%3Apull";
        assert!(matches!(tokens.exchange(bare).unwrap(), Grant::Refused));
    }

    #[test]
    fn tokens_expire() {
        let tokens = Tokens::new(None, None, 0);
        let header = token(&tokens, "scope=repository:a:pull", None);
        assert!(!tokens.allows(Some(&header), "a"));
    }
}
