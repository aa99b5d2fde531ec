//! What an address says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// An address in its parts, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    File(PathBuf),
    S3 { bucket: String, key: String },
}

/// The longest key of S3, in bytes.
const LONGEST_KEY: usize = 1024;

/// Takes an address apart. Errors never repeat it: people put passwords there.
pub(crate) fn parse(url: &str) -> Result<Address> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| {
        Error::invalid("the address is malformed: write s3://bucket/key or file:///absolute/path")
    })?;
    match scheme.to_ascii_lowercase().as_str() {
        "file" => file(rest),
        "s3" => s3(rest),
        other => {
            let known = other.len() <= 20 && other.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let named = if known { format!("{other:?} ") } else { String::new() };
            let message = format!("the scheme {named}is not known: there are s3 and file");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

fn file(rest: &str) -> Result<Address> {
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(Error::invalid("a file is addressed by its absolute path: write file:///absolute/path"));
    }
    if path.contains(['?', '#']) {
        return Err(Error::invalid("a ? or # in a path is written as %3F or %23"));
    }
    let path = unescape(path)?;
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if path.contains(&0) || matches!(last, b"" | b"." | b"..") {
        return Err(Error::invalid("the path names no file"));
    }
    Ok(Address::File(OsString::from_vec(path).into()))
}

/// Bytes for their two digits after a percent sign (RFC 3986, section 2.1).
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.ok_or_else(|| Error::invalid("a % in a path is written as %25"))?);
        rest = tail.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}

fn s3(rest: &str) -> Result<Address> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    // Amazon's rules and the wider ones of older buckets and other servers.
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let edges = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !(3..=255).contains(&bucket.len())
        || !bucket.bytes().all(sound)
        || !edges(bucket.bytes().next())
        || !edges(bucket.bytes().last())
    {
        let message =
            "the bucket's name is malformed: it has letters, digits, dots and hyphens, and no credentials";
        return Err(Error::invalid(message));
    }
    if key.is_empty() {
        return Err(Error::invalid("the address names no object: write s3://bucket/key"));
    }
    if key.len() > LONGEST_KEY {
        return Err(Error::invalid(format!("the key is longer than {LONGEST_KEY} bytes")));
    }
    // Clients and servers disagree on what such keys mean.
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) || key.chars().any(char::is_control) {
        let message =
            "the key has an empty part, one that is only dots, or control characters: choose another";
        return Err(Error::invalid(message));
    }
    Ok(Address::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Address, parse};
    use crate::ErrorKind;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(parse("file:///a/b%20c%25").unwrap(), Address::File("/a/b c%".into()));
        assert_eq!(parse("FILE://localhost/a").unwrap(), Address::File("/a".into()));
        let Address::File(path) = parse("file:///a/%ff").unwrap() else { panic!() };
        assert_eq!(path.as_os_str().as_bytes(), b"/a/\xff");
        let s3 = |bucket: &str, key: &str| Address::S3 { bucket: bucket.into(), key: key.into() };
        assert_eq!(parse("s3://some-bucket/a/b%20c?d#e").unwrap(), s3("some-bucket", "a/b%20c?d#e"));
        assert_eq!(parse("s3://a.b.c/\u{fc}").unwrap(), s3("a.b.c", "\u{fc}"));
    }

    #[test]
    fn nonsense_is_refused_and_not_repeated() {
        let key = format!("s3://bucket/{}", "k".repeat(1025));
        for url in [
            "",
            "/tmp/a",
            "file://relative/path",
            "file:///",
            "file:///a/",
            "file:///a/..",
            "file:///a?b",
            "file:///a%2",
            "file:///a%00b",
            "file:///100%",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://bucket//key",
            "s3://bucket/a/../b",
            "s3://bucket/a\nb",
            "s3://ab/key",
            "s3://user:secret@bucket/key",
            "s3://-bucket/key",
            &key,
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for url in ["gs://bucket/key", "https://user:secret@host/", "secret secret secret secret://x"] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
