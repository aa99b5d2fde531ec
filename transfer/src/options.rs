//! How a place is reached.

use std::fmt;
use std::time::Duration;

/// How a place in S3 is reached. What is not given comes from the environment: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`,
/// `AWS_REGION` or `AWS_DEFAULT_REGION`, and `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, these three
/// together or not at all. Nothing else is looked at: no files of profiles, and no service of a cloud's that hands out credentials.
/// Places that are files need none of it.
#[derive(Clone)]
pub struct PlaceOptions {
    /// The server, such as `https://storage.example:9000`; Amazon's of the region when absent.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; `us-east-1` when nobody says.
    pub region: Option<String>,
    /// Who asks.
    pub access_key_id: Option<String>,
    /// What proves it. Never shown.
    pub secret_access_key: Option<String>,
    /// What comes with credentials that are lent for a time. Never shown.
    pub session_token: Option<String>,
    /// Whether the endpoint may be `http://`: whoever listens sees the archive. No by default.
    pub allow_http: bool,
    /// Whether the bucket is in the path, not in the host's name. By default it is for every endpoint that is given, and for
    /// buckets that cannot be in a name that a certificate covers.
    pub path_style: Option<bool>,
    /// How often a request is repeated after a failure that may pass, with pauses that grow from 0.2 to 10 seconds. A server
    /// that has never answered is asked three times at most.
    pub retries: u32,
    /// The longest time without a byte. For what is sent, a request may take this long and a second more for each 16 KiB.
    pub stall: Duration,
}

impl Default for PlaceOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            allow_http: false,
            path_style: None,
            retries: 8,
            stall: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for PlaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |value: &Option<String>| value.as_ref().map(|_| "(secret)");
        // An endpoint with a password in it is refused, but only later.
        let endpoint =
            self.endpoint.as_ref().map(|text| text.rsplit('@').next().unwrap_or_default().to_owned());
        f.debug_struct("PlaceOptions")
            .field("endpoint", &endpoint)
            .field("region", &self.region)
            .field("access_key_id", &secret(&self.access_key_id))
            .field("secret_access_key", &secret(&self.secret_access_key))
            .field("session_token", &secret(&self.session_token))
            .field("allow_http", &self.allow_http)
            .field("path_style", &self.path_style)
            .field("retries", &self.retries)
            .field("stall", &self.stall)
            .finish()
    }
}

/// How something is written to a place.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Whether what is there may be replaced. No by default.
    pub overwrite: bool,
    /// How many bytes are sent at once to S3, from 5 MiB to 5 GiB; 8 MiB by default. What is smaller goes by one request. Of a very
    /// large archive the parts grow, so that their number stays within what S3 takes.
    pub part_size: u64,
    /// How many parts are under way at once while another one is filled, from 1 to 16; 3 by default. Only one is, once parts
    /// have grown to more than this many of the first size.
    pub parts_at_once: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { overwrite: false, part_size: 8 << 20, parts_at_once: 3 }
    }
}
