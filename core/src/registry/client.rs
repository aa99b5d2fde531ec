use super::endpoint::Endpoint;
use super::hosts_file;
use super::tls::TlsSettings;
use crate::config::{Credential, RegistryConfig};
use crate::error::{Error, Result};
use crate::names::ImageRef;
use crate::types::ResolvedDigest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Registries, as the configuration has them. Clones share connections and tokens.
#[derive(Clone)]
pub(crate) struct Registry {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) config: RegistryConfig,
    clients: Mutex<HashMap<(TlsSettings, bool), reqwest::Client>>,
}

impl Shared {
    /// The HTTP client for an endpoint. Redirects are followed by hand, so that secrets stay with the host they are for.
    pub(super) fn client(&self, tls: &TlsSettings, encrypted: bool) -> Result<reqwest::Client> {
        let key = (tls.clone(), encrypted);
        if let Some(client) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.client_config(encrypted)?)
            .user_agent(concat!("dunnage/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| Error::unexpected("cannot set up the HTTP client").caused_by(e))?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client.clone());
        Ok(client)
    }
}

impl Registry {
    /// Registries by this configuration. Nothing is read and nobody is asked yet.
    ///
    /// # Errors
    /// None at present; a configuration that cannot be used is told when an image is asked for.
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared { config: config.clone(), clients: Mutex::default() }) })
    }

    /// The repository of an image, through the hosts that serve it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed hosts file, and for one that names a file of certificates or a key that cannot
    /// be used: better no host is asked than one that the file was not meant for.
    pub(crate) fn repository(&self, image: &ImageRef, credential: Option<Credential>) -> Result<Repository> {
        let endpoints = hosts_file::endpoints(&self.shared.config.hosts_dir, image.registry())?;
        let repository = Repository {
            shared: self.shared.clone(),
            image: image.clone(),
            credential,
            endpoints,
            tokens: Mutex::default(),
            authenticating: tokio::sync::Mutex::new(()),
        };
        for endpoint in repository.endpoints.iter().filter(|e| e.tls != TlsSettings::default()) {
            let encrypted = endpoint.base.starts_with("https:");
            let client = self.shared.client(&endpoint.tls, encrypted);
            client.map_err(|e| repository.explain(e.with("host", &endpoint.host)))?;
        }
        Ok(repository)
    }

    /// What the registry says an image's name points at just now.
    ///
    /// # Errors
    /// NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE or TIMEOUT, with registry and image.
    pub(crate) async fn resolve_digest(
        &self,
        image: &ImageRef,
        credential: Option<Credential>,
    ) -> Result<ResolvedDigest> {
        let repository = self.repository(image, credential)?;
        let (digest, media_type, size) = repository.head().await?;
        Ok(ResolvedDigest { image: image.to_string(), digest, media_type, size })
    }
}

/// One repository of a registry, asked with one set of credentials.
pub(crate) struct Repository {
    pub(super) shared: Arc<Shared>,
    pub(super) image: ImageRef,
    pub(super) credential: Option<Credential>,
    pub(super) endpoints: Vec<Endpoint>,
    /// The `Authorization` that each endpoint took last, by its base.
    pub(super) tokens: Mutex<HashMap<String, String>>,
    /// Held while a token is fetched, so that parallel requests fetch one.
    pub(super) authenticating: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("image", &self.image.to_string()).finish_non_exhaustive()
    }
}

impl Repository {
    /// The longest time without a byte.
    pub(super) fn stall_limit(&self) -> Duration {
        Duration::from_millis(self.shared.config.stall_ms)
    }

    /// Adds what every error of a registry tells.
    pub(super) fn explain(&self, error: Error) -> Error {
        error.with("registry", self.image.registry()).with("image", &self.image)
    }
}
