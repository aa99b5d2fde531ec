use crate::error::{Error, Result};
use std::fmt;

/// An image reference in its full form, `registry/repository[:tag][@digest]`.
///
/// Short forms are completed as hosts of this library expect it: no slash becomes `docker.io/library/<name>`; a first
/// segment with a dot, a colon or equal to `localhost` is a registry; anything else is under `docker.io/`. Without tag
/// and digest the tag is `latest`. Grammar: the distribution specification's `<name>` and `<reference>`
/// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// The longest host name (RFC 1035, section 2.3.4, without the length bytes).
const MAX_HOST: usize = 253;
/// More than any full form has: registry, repository (255), tag (128) and digest (135) with what stands between them.
const MAX_TEXT: usize = 1024;

impl ImageRef {
    /// Parses and completes a reference.
    ///
    /// # Errors
    /// INVALID_ARGUMENT that names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |why: &str| {
            Err(Error::invalid_argument(format!("malformed image reference: {why}"))
                .with("image", format!("{text:?}")))
        };
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > MAX_TEXT {
            return fail("it is longer than 1024 bytes");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; before it, a port.
        let (name, tag) = match rest.rfind(':') {
            Some(at) if !rest[at..].contains('/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            None => ("docker.io", format!("library/{name}")),
            Some((first, path)) if is_registry(first) => (first, path.to_owned()),
            Some(_) => ("docker.io", name.to_owned()),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if !valid_registry(registry) {
            return fail("the registry is not a host name of up to 253 characters with an optional port");
        }
        if repository.len() > 255 || !repository.split('/').all(valid_component) {
            return fail("the repository may hold lowercase letters, digits and single separators (. _ - /)");
        }
        if let Some(tag) = tag
            && !valid_tag(tag)
        {
            return fail("the tag may hold up to 128 letters, digits, dots, underscores and dashes");
        }
        if let Some(digest) = digest
            && !valid_digest(digest)
        {
            return fail(
                "the digest must be sha256: and 64, or sha512: and 128, lowercase hexadecimal digits",
            );
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest: digest.map(str::to_owned) })
    }

    /// The registry's host, with its port when it has one; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if any.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if any: it decides over the tag.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains('.') || first.contains(':')
}

fn valid_registry(registry: &str) -> bool {
    let (host, port) = if let Some(end) = registry.strip_prefix('[').and_then(|r| r.find(']')) {
        let (host, rest) = registry.split_at(end + 2);
        if host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match rest.strip_prefix(':') {
            None if rest.is_empty() => return true,
            None => return false,
            Some(port) => return valid_port(port),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.len() <= MAX_HOST && host.split('.').all(label) && port.is_none_or(valid_port)
}

fn valid_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
}

/// One path component: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn valid_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn valid_digest(digest: &str) -> bool {
    let hex = |s: &str, len: usize| {
        s.len() == len && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match digest.split_once(':') {
        Some(("sha256", rest)) => hex(rest, 64),
        Some(("sha512", rest)) => hex(rest, 128),
        _ => false,
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ImageRef {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_completed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (short, full) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim".to_owned()),
            ("docker.io/debian", "docker.io/library/debian:latest".to_owned()),
            ("docker.io/library/debian", "docker.io/library/debian:latest".to_owned()),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest".to_owned()),
            ("me/app", "docker.io/me/app:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1".to_owned()),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            ("ghcr.io/a/b__c-d.e:v1", "ghcr.io/a/b__c-d.e:v1".to_owned()),
        ] {
            assert_eq!(ImageRef::parse(short).unwrap().to_string(), full, "{short}");
        }
        let pinned = ImageRef::parse(&format!("debian:12@{digest}")).unwrap();
        assert_eq!((pinned.tag(), pinned.reference()), (Some("12"), digest.as_str()));
        assert_eq!(ImageRef::parse(&format!("debian@{digest}")).unwrap().tag(), None);
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in [
            "",
            "UPPER",
            "a b",
            "a/",
            "/a",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a@md5:00",
            "a__/b",
            "a..b",
            "-a",
            "host:99999/a",
            "ho_st.x/a",
            "a:tag/../b",
            "a\n",
            "a@",
            "[::1/x",
            "http://x/y",
        ] {
            let error = ImageRef::parse(bad).expect_err(bad);
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn the_full_form_parses_to_itself() {
        let host = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let (longest, tag, digest) = ("r".repeat(255), "t".repeat(128), "a".repeat(128));
        let own = "r".repeat(255 - "library/".len());
        let most = format!("{host}:65535/{longest}:{tag}@sha512:{digest}");
        let completed = format!("{host}/{longest}");
        for text in ["debian", "a.b/c:1", "x/y", &own, &completed, &most] {
            let full = ImageRef::parse(text).unwrap();
            assert_eq!(ImageRef::parse(&full.to_string()).unwrap(), full);
        }
        for long in [format!("{host}e/x"), format!("x.y/{longest}r"), format!("{most}0")] {
            assert!(ImageRef::parse(&long).is_err(), "{long}");
        }
    }
}
