//! Credentials: the call's, the configuration's, then those of Docker's `config.json` and its helpers.

use super::helper;
use crate::config::{Credential, RegistryConfig};
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How Docker's tools name Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a host is shown. No `Debug`: it holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Basic {
        username: String,
        password: String,
    },
    /// A ready bearer token.
    Bearer(String),
    /// A token that is exchanged for bearer tokens.
    Refresh(String),
}

impl Secret {
    /// # Errors
    /// INVALID_ARGUMENT for a credential that is neither a pair nor a token.
    fn of(credential: &Credential, registry: &str) -> Result<Self> {
        match (&credential.username, &credential.password, &credential.token) {
            (None, None, Some(token)) if !token.is_empty() => Ok(Self::Bearer(token.clone())),
            (Some(username), Some(password), None) => {
                Ok(Self::Basic { username: username.clone(), password: password.clone() })
            }
            _ => Err(Error::invalid_argument("a credential needs username and password, or token alone")
                .with("registry", registry)),
        }
    }

    /// The value of an `Authorization: Basic` header.
    pub(super) fn basic(username: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
    }
}

/// Finds the secret for `host`, which serves `registry`. The call's credential is for the registry itself only, never
/// for a mirror.
///
/// # Errors
/// INVALID_ARGUMENT for malformed configuration; FAILED_PRECONDITION or TIMEOUT when a credential helper fails.
pub(super) async fn find(
    config: &RegistryConfig,
    call: Option<&Credential>,
    host: &str,
    registry: &str,
    is_mirror: bool,
) -> Result<Option<Secret>> {
    if let Some(credential) = call
        && !is_mirror
    {
        return Secret::of(credential, registry).map(Some);
    }
    let names: &[&str] = if is_mirror { &[host] } else { &[registry, host] };
    for name in names {
        if let Some(credential) = config.credentials.get(*name) {
            return Secret::of(credential, name).map(Some);
        }
    }
    let Some(docker) = DockerConfig::read(config.docker_config.clone())? else { return Ok(None) };
    for name in names {
        if let Some(secret) = docker.find(name).await? {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl DockerConfig {
    fn read(path: Option<PathBuf>) -> Result<Option<Self>> {
        let Some(path) = path.or_else(default_path) else { return Ok(None) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(e) => {
                return Err(Error::io(e, "cannot read docker's configuration").with("path", path.display()));
            }
        };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            // The parser's words may quote the file, which holds secrets: only the place is told.
            Error::invalid_argument("docker's configuration is malformed")
                .with("path", path.display())
                .with("line", e.line())
                .with("column", e.column())
        })
    }

    async fn find(&self, registry: &str) -> Result<Option<Secret>> {
        let helper = self.cred_helpers.iter().find(|(key, _)| same_registry(key, registry));
        let helper =
            helper.map(|(_, name)| name).or(self.creds_store.as_ref()).filter(|name| !name.is_empty());
        if let Some(name) = helper {
            let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
            if let Some(secret) = helper::ask(name, server).await? {
                return Ok(Some(secret));
            }
        }
        match self.auths.iter().find(|(key, _)| same_registry(key, registry)) {
            Some((_, auth)) => auth.secret(registry),
            None => Ok(None),
        }
    }
}

impl Auth {
    fn secret(&self, registry: &str) -> Result<Option<Secret>> {
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Secret::Refresh(token)));
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Some(Secret::Bearer(token)));
        }
        if let (Some(username), Some(password)) = (filled(&self.username), filled(&self.password)) {
            return Ok(Some(Secret::Basic { username, password }));
        }
        let Some(packed) = filled(&self.auth) else { return Ok(None) };
        let fail = || {
            Error::invalid_argument(
                "docker's configuration holds an `auth` that is no base64 of user:password",
            )
            .with("registry", registry)
        };
        let plain = STANDARD.decode(packed.trim()).map_err(|_| fail())?;
        let plain = String::from_utf8(plain).map_err(|_| fail())?;
        let (username, password) = plain.split_once(':').ok_or_else(fail)?;
        // Docker pads some with NUL bytes.
        let password = password.trim_matches('\0');
        Ok(Some(Secret::Basic { username: username.to_owned(), password: password.to_owned() }))
    }
}

fn default_path() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
        return Some(PathBuf::from(directory).join("config.json"));
    }
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty())?;
    Some(PathBuf::from(home).join(".docker").join("config.json"))
}

/// Whether a key of Docker's configuration, a host or a URL, means this registry.
fn same_registry(key: &str, registry: &str) -> bool {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or(bare);
    let canonical = |host: &str| match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    canonical(host) == canonical(registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn basic(username: &str, password: &str) -> Secret {
        Secret::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    async fn ask(json: &str, registry: &str) -> Result<Option<Secret>> {
        serde_json::from_str::<DockerConfig>(json).unwrap().find(registry).await
    }

    #[tokio::test]
    async fn docker_entries_are_found_by_host_or_url() {
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOng="},"ghcr.io":{"username":"a","password":"b"},
            "https://reg.example:5000":{"identitytoken":"t"},"bad.example":{"auth":"!!"},"empty.example":{}}}"#;
        assert!(ask(json, "docker.io").await.unwrap() == Some(basic("u", "p:x")));
        assert!(ask(json, "ghcr.io").await.unwrap() == Some(basic("a", "b")));
        assert!(ask(json, "reg.example:5000").await.unwrap() == Some(Secret::Refresh("t".to_owned())));
        assert!(ask(json, "reg.example").await.unwrap().is_none());
        assert!(ask(json, "empty.example").await.unwrap().is_none());
        assert!(ask(json, "bad.example").await.is_err());
    }

    #[tokio::test]
    async fn the_calls_credential_is_never_for_a_mirror_and_the_configuration_comes_next() {
        let mut config =
            RegistryConfig { docker_config: Some("/nonexistent".into()), ..RegistryConfig::default() };
        config.credentials.insert("mirror.example".to_owned(), Credential::basic("m", "1"));
        config.credentials.insert("docker.io".to_owned(), Credential::basic("d", "2"));
        let call = Credential::bearer("tok");
        let ask = async |call, host, mirror| find(&config, call, host, "docker.io", mirror).await.unwrap();
        assert!(
            ask(Some(&call), "registry-1.docker.io", false).await == Some(Secret::Bearer("tok".to_owned()))
        );
        assert!(ask(Some(&call), "mirror.example", true).await == Some(basic("m", "1")));
        assert!(ask(None, "registry-1.docker.io", false).await == Some(basic("d", "2")));
        assert!(ask(Some(&call), "other.example", true).await.is_none());
        let half = Credential { username: Some("u".to_owned()), ..Credential::default() };
        assert!(find(&config, Some(&half), "x", "x", false).await.is_err());
    }

    #[tokio::test]
    async fn a_helper_that_is_missing_or_malformed_is_named() {
        let missing = r#"{"credHelpers":{"a.example":"dunnage-no-such"}}"#;
        let error = ask(missing, "a.example").await.err().unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("docker-credential-dunnage-no-such"), "{error}");
        assert!(ask(r#"{"credsStore":"../x"}"#, "a.example").await.is_err());
    }

    #[test]
    fn a_malformed_file_never_shows_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"x":{"auth":"c2VjcmV0"#).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = DockerConfig::read(Some(path)).err().unwrap();
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        assert!(DockerConfig::read(Some("/nonexistent/x".into())).unwrap().is_none());
    }
}
