//! The threads and the connections of a place.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::settings::Settings;
use super::transport::{Guard, Transport};
use crate::error::{Error, ErrorKind, Result};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);

/// A small runtime of its own. Callers wait for what runs there on channels, so they may be on any thread: waiting on a runtime
/// from within another panics.
pub(super) struct Engine {
    runtime: Option<Runtime>,
    client: reqwest::Client,
}

impl Engine {
    pub(super) fn start(settings: &Settings) -> Result<Self> {
        // Two, so that a part is signed while others are sent.
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dunnage-transfer")
            .enable_all()
            .build()
            .map_err(|cause| Error::io(cause, "cannot start the threads for the network"))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(settings.encrypted)?)
            .user_agent(concat!("dunnage/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .https_only(settings.encrypted)
            .http1_only()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot set up the client: {error}")))?;
        Ok(Self { runtime: Some(runtime), client })
    }

    /// The store, and what decides whether it may replace the object.
    pub(super) fn store(&self, settings: &Settings, guarded: bool) -> Result<(AmazonS3, Arc<Guard>)> {
        let guard = Arc::new(Guard::new(guarded));
        let transport =
            Transport::new(self.client.clone(), settings.retries, settings.stall, Arc::clone(&guard));
        let credentials = &settings.credentials;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            // The bucket is in it already, whichever the style.
            .with_endpoint(&settings.base)
            .with_virtual_hosted_style_request(true)
            .with_allow_http(!settings.encrypted)
            .with_access_key_id(&credentials.key_id)
            .with_secret_access_key(&credentials.secret)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(transport);
        if let Some(token) = &credentials.token {
            builder = builder.with_token(token);
        }
        let store = builder
            .build()
            .map_err(|error| Error::invalid(format!("the options for S3 do not fit together: {error}")))?;
        Ok((store, guard))
    }

    /// Starts something on the threads of the place.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(future)).ok_or_else(gone)
    }

    /// Waits for something that runs there.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = sender.send(future.await);
        })?;
        receiver.recv().map_err(|_| gone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Waiting here would panic on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A task that panicked, or threads that ended.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Io, "the threads for the network have ended")
}

/// TLS with ring, for this client alone: the host's own use of rustls is left as it is.
fn tls(encrypted: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if encrypted {
        // Certificates that cannot be read are left out; a server that needs them is not trusted then.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot set up TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
