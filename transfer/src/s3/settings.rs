//! How a bucket is reached, checked.

use std::time::Duration;

use http::Uri;

use crate::error::{Error, ErrorKind, Result};
use crate::options::PlaceOptions;

/// A bucket, and how it is reached. Not to be shown: it holds the secrets.
pub(super) struct Settings {
    pub(super) bucket: String,
    /// Where the bucket's objects are, without a slash at the end.
    pub(super) base: String,
    pub(super) encrypted: bool,
    pub(super) region: String,
    pub(super) credentials: Credentials,
    pub(super) retries: u32,
    pub(super) stall: Duration,
}

pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    pub(super) fn new(bucket: String, options: &PlaceOptions, env: Env<'_>) -> Result<Self> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let region =
            options.region.clone().or_else(|| env("AWS_REGION")).or_else(|| env("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        if region.is_empty()
            || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        {
            return Err(Error::invalid("the region is malformed: it has letters, digits and hyphens"));
        }
        if options.stall.is_zero() {
            return Err(Error::invalid("the longest time without a byte cannot be nothing"));
        }
        let endpoint = options.endpoint.clone();
        let endpoint = endpoint.or_else(|| env("AWS_ENDPOINT_URL_S3")).or_else(|| env("AWS_ENDPOINT_URL"));
        let path_style = options.path_style.unwrap_or(endpoint.is_some() || !fits_a_name(&bucket));
        if !path_style && !fits_a_name(&bucket) && bucket.contains(['_']) {
            return Err(Error::invalid("the bucket's name cannot be in a host's name: set path_style"));
        }
        let (scheme, host) = match &endpoint {
            Some(endpoint) => server(endpoint, options.allow_http)?,
            None => ("https", format!("s3.{region}.amazonaws.com")),
        };
        let base = if path_style {
            format!("{scheme}://{host}/{bucket}")
        } else {
            format!("{scheme}://{bucket}.{host}")
        };
        Ok(Self {
            bucket,
            base,
            encrypted: scheme == "https",
            region,
            credentials: credentials(options, &env)?,
            retries: options.retries,
            stall: options.stall,
        })
    }
}

/// Whether a certificate for one level of names covers the bucket.
fn fits_a_name(bucket: &str) -> bool {
    bucket.len() <= 63
        && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Scheme and host of an endpoint.
fn server(endpoint: &str, allow_http: bool) -> Result<(&'static str, String)> {
    let malformed = || Error::invalid("the endpoint is malformed: write https://host or https://host:port");
    let uri: Uri = endpoint.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(Error::invalid("the endpoint holds credentials: give them by the options for them"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.host().is_empty() {
        return Err(malformed());
    }
    match uri.scheme_str() {
        Some("https") => Ok(("https", authority.to_string())),
        Some("http") if allow_http => Ok(("http", authority.to_string())),
        Some("http") => Err(Error::invalid("the endpoint is not encrypted: use https, or set allow_http")),
        _ => Err(malformed()),
    }
}

/// Those of the options, or those of the environment; never halves of both.
fn credentials(options: &PlaceOptions, env: &dyn Fn(&str) -> Option<String>) -> Result<Credentials> {
    let given = [&options.access_key_id, &options.secret_access_key, &options.session_token];
    let (key_id, secret, token) = if given.iter().any(|value| value.is_some()) {
        let [key_id, secret, token] = given.map(Clone::clone);
        (key_id, secret, token)
    } else {
        (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN"))
    };
    let (Some(key_id), Some(secret)) = (key_id, secret) else {
        let message = "credentials are missing: give access_key_id and secret_access_key, \
                       or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        return Err(Error::new(ErrorKind::Denied, message));
    };
    // They go into headers, and one with a line end would be another header.
    let sound = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    for (name, value) in [
        ("access_key_id", Some(&key_id)),
        ("secret_access_key", Some(&secret)),
        ("session_token", token.as_ref()),
    ] {
        if value.is_some_and(|value| !sound(value)) {
            return Err(Error::invalid(format!(
                "{name} is empty, or has blanks or characters that no such value has"
            )));
        }
    }
    Ok(Credentials { key_id, secret, token })
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::{Error, ErrorKind, PlaceOptions};

    fn with_keys() -> PlaceOptions {
        PlaceOptions {
            access_key_id: Some("AKID".into()),
            secret_access_key: Some("topsecret".into()),
            ..PlaceOptions::default()
        }
    }

    /// Where a bucket's objects are looked for, the region, and who asks, with these options and this environment.
    fn settings_of(
        bucket: &str,
        options: &PlaceOptions,
        env: &[(&str, &str)],
    ) -> Result<(String, String, String), Error> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let made = Settings::new(bucket.into(), options, &env)?;
        let token = made.credentials.token.unwrap_or_default();
        let who = format!("{}/{}/{token}", made.credentials.key_id, made.credentials.secret);
        Ok((made.base, made.region, who))
    }

    fn base(bucket: &str, options: PlaceOptions) -> String {
        settings_of(bucket, &options, &[]).unwrap().0
    }

    #[test]
    fn a_bucket_is_where_its_style_says() {
        assert_eq!(base("some-bucket", with_keys()), "https://some-bucket.s3.us-east-1.amazonaws.com");
        // A certificate for names below one name covers one level.
        assert_eq!(base("a.b.c", with_keys()), "https://s3.us-east-1.amazonaws.com/a.b.c");
        let endpoint = |path_style| PlaceOptions {
            endpoint: Some("https://host:9000/".into()),
            region: Some("eu-1".into()),
            path_style,
            ..with_keys()
        };
        assert_eq!(base("bucket", endpoint(None)), "https://host:9000/bucket");
        assert_eq!(base("bucket", endpoint(Some(false))), "https://bucket.host:9000");
        let error = settings_of("some_bucket", &endpoint(Some(false)), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn what_is_not_given_comes_from_the_environment() {
        let env = [
            ("AWS_ENDPOINT_URL", "https://general"),
            ("AWS_ENDPOINT_URL_S3", "https://special"),
            ("AWS_DEFAULT_REGION", "eu-2"),
            ("AWS_REGION", ""),
            ("AWS_ACCESS_KEY_ID", "ENV"),
            ("AWS_SECRET_ACCESS_KEY", "env"),
            ("AWS_SESSION_TOKEN", "lent"),
        ];
        let (base, region, who) = settings_of("bucket", &PlaceOptions::default(), &env).unwrap();
        assert_eq!((&*base, &*region, &*who), ("https://special/bucket", "eu-2", "ENV/env/lent"));
        // Credentials are not mixed.
        let (_, _, who) = settings_of("bucket", &with_keys(), &env).unwrap();
        assert_eq!(who, "AKID/topsecret/");
        let half = PlaceOptions { access_key_id: Some("AKID".into()), ..PlaceOptions::default() };
        assert_eq!(settings_of("bucket", &half, &env).unwrap_err().kind(), ErrorKind::Denied);
        let none = settings_of("bucket", &PlaceOptions::default(), &[]).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Denied);
    }

    #[test]
    fn nonsense_is_refused_and_secrets_are_not_repeated() {
        let endpoint = |text: &str| PlaceOptions { endpoint: Some(text.into()), ..with_keys() };
        let cases = [
            endpoint("http://host"),
            endpoint("ftp://host"),
            endpoint("host:9000"),
            endpoint("https://topsecret@host"),
            endpoint("https://host/path"),
            endpoint("https://host/?query"),
            endpoint(""),
            PlaceOptions { region: Some("a b".into()), ..with_keys() },
            PlaceOptions { secret_access_key: Some("topsecret\r\nX: y".into()), ..with_keys() },
            PlaceOptions { session_token: Some(String::new()), ..with_keys() },
            PlaceOptions { stall: std::time::Duration::ZERO, ..with_keys() },
        ];
        for options in cases {
            let error = settings_of("bucket", &options, &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{options:?}");
            assert!(!format!("{error} {error:?} {options:?}").contains("topsecret"), "{error}");
        }
        let allowed = PlaceOptions { allow_http: true, ..endpoint("http://host") };
        assert_eq!(base("bucket", allowed), "http://host/bucket");
    }
}
