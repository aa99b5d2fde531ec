//! The connection to containerd: where it is found, how calls are made, and how it heals when the daemon restarts.

use super::convert;
use crate::config::{ContainerdConfig, TimeLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_identifier;
use containerd_client::services::v1::{
    containers_client::ContainersClient, content_client::ContentClient, diff_client::DiffClient,
    events_client::EventsClient, images_client::ImagesClient, leases_client::LeasesClient,
    snapshots::snapshots_client::SnapshotsClient, tasks_client::TasksClient, version_client::VersionClient,
};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

/// Where containerd listens when nothing else is said.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// The variable that `ctr` and its kin read as well.
const ADDRESS_VARIABLE: &str = "CONTAINERD_ADDRESS";

/// What containerd itself takes and sends at most.
const MAX_MESSAGE: usize = 16 << 20;

/// How often work is repeated at once, and how long it waits before.
const MAX_REPEATS: usize = 5;
const BREATH: Duration = Duration::from_millis(20);

const NAMESPACE_HEADER: &str = "containerd-namespace";
const LEASE_HEADER: &str = "containerd-lease";

/// A connection to one containerd in one namespace. Clones share it.
///
/// It connects again by itself: a call made while the daemon restarts waits for it, up to `time_limits.connect_ms`.
/// The namespace is not created here: containerd makes it with the first object that is written into it, so opening
/// an engine leaves no trace.
#[derive(Clone)]
pub(crate) struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    address: String,
    namespace: String,
    namespace_header: MetadataValue<Ascii>,
    connect_limit: Duration,
    call_limit: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.inner.address)
            .field("namespace", &self.inner.namespace)
            .finish()
    }
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident => $client:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            pub(crate) fn $name(&self) -> $client<Channel> {
                $client::new(self.inner.channel.clone())
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE)
            })*
        }
    };
}

services! {
    /// The container records.
    containers => ContainersClient;
    /// The content store.
    content => ContentClient;
    /// Unpacking and packing of layers.
    diff => DiffClient;
    /// What happens in the daemon.
    events => EventsClient;
    /// The image records.
    images => ImagesClient;
    /// The leases.
    leases => LeasesClient;
    /// The snapshots.
    snapshots => SnapshotsClient;
    /// The tasks.
    tasks => TasksClient;
    /// The daemon's version.
    version => VersionClient;
}

impl Client {
    /// Connects to the first containerd that answers: at the configured address, at `$CONTAINERD_ADDRESS`, at the
    /// system's socket.
    ///
    /// # Errors
    /// PERMISSION_DENIED when a socket is there but this process may not use it and no other answers, else
    /// UNAVAILABLE; both tell each address that was tried and why it failed. INVALID_ARGUMENT for a malformed namespace.
    pub(crate) async fn connect(config: &ContainerdConfig, limits: TimeLimits) -> Result<Self> {
        let variable = std::env::var(ADDRESS_VARIABLE).ok();
        let candidates = candidates(config.address.as_deref(), variable.as_deref());
        Self::connect_to(&candidates, config, limits).await
    }

    /// Connects to the first of these addresses that answers.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn connect_to(
        addresses: &[String],
        config: &ContainerdConfig,
        limits: TimeLimits,
    ) -> Result<Self> {
        let mut failures: Vec<(&str, Error)> = Vec::new();
        for address in addresses {
            let client = Self::lazy(address, config, &limits)?;
            match client.probe().await {
                Ok(()) => return Ok(client),
                Err(error) => failures.push((address, error)),
            }
        }
        Err(no_daemon(&failures))
    }

    /// A client that connects with its first call.
    fn lazy(address: &str, config: &ContainerdConfig, limits: &TimeLimits) -> Result<Self> {
        check_identifier("namespace", &config.namespace)?;
        let namespace_header = MetadataValue::try_from(config.namespace.as_str())
            .map_err(|e| Error::invalid_argument("malformed namespace").caused_by(e))?;
        let connect_limit = Duration::from_millis(limits.connect_ms);
        let path: Arc<Path> = Arc::from(Path::new(address));
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(dial_patiently(&path, connect_limit).await?)) }
        });
        // The address is the connector's affair; the URI only fills the `:authority` header.
        let channel = Endpoint::from_static("http://containerd")
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .connect_with_connector_lazy(connector);
        Ok(Self {
            inner: Arc::new(Inner {
                channel,
                address: address.to_owned(),
                namespace: config.namespace.clone(),
                namespace_header,
                connect_limit,
                call_limit: Duration::from_millis(limits.backend_ms),
            }),
        })
    }

    /// Whether a daemon answers just now, without waiting for one that restarts.
    async fn probe(&self) -> Result<()> {
        let path = Path::new(&self.inner.address);
        within(self.inner.connect_limit, dial(path))
            .await
            .map_err(|e| convert::unreachable(e, &self.inner.address))?;
        self.ask_version(self.inner.connect_limit).await?;
        Ok(())
    }

    /// The daemon's version. Fails at once when no daemon listens.
    ///
    /// # Errors
    /// UNAVAILABLE, PERMISSION_DENIED or TIMEOUT, with the address.
    pub(crate) async fn daemon_version(&self) -> Result<String> {
        within(self.inner.connect_limit, dial(Path::new(&self.inner.address)))
            .await
            .map_err(|e| convert::unreachable(e, &self.inner.address))?;
        self.ask_version(self.inner.call_limit.min(self.inner.connect_limit)).await
    }

    async fn ask_version(&self, limit: Duration) -> Result<String> {
        let mut service = self.version();
        let reply = self.call_within(limit, "ask containerd for its version", service.version(())).await?;
        Ok(reply.version)
    }

    /// The path of the socket.
    pub(crate) fn address(&self) -> &str {
        &self.inner.address
    }

    /// The namespace of all calls.
    pub(crate) fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// A request in the namespace.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE_HEADER, self.inner.namespace_header.clone());
        request
    }

    /// A request in the namespace under a lease: what it makes stays until the lease goes.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the lease's id cannot be sent.
    pub(crate) fn leased<T>(&self, message: T, lease: &str) -> Result<Request<T>> {
        let value = MetadataValue::try_from(lease).map_err(|e| {
            Error::invalid_argument("malformed lease id: use visible ASCII characters")
                .with("lease", lease)
                .caused_by(e)
        })?;
        let mut request = self.request(message);
        request.metadata_mut().insert(LEASE_HEADER, value);
        Ok(request)
    }

    /// Waits for one unary call, at most `time_limits.backend_ms`. `doing` completes "cannot …".
    ///
    /// # Errors
    /// TIMEOUT, else what the status says, see [`convert::status`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream: containerd cancels what the call had begun.
    pub(crate) async fn call<T>(
        &self,
        doing: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        self.call_within(self.inner.call_limit, doing, call).await
    }

    /// Like [`Client::call`] without time limit: for waits and for the start of streams.
    ///
    /// # Errors
    /// What the status says, see [`convert::status`].
    pub(crate) async fn call_unbounded<T>(
        &self,
        doing: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        match call.await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => Err(self.failed(doing, status)),
        }
    }

    /// Makes a call that only reads, and again when the connection broke under it: the daemon may have restarted with
    /// the connection open, and a dying connection takes a call or two before it is known to be dead.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn read<T, F>(&self, doing: &str, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut patience = self.patience();
        loop {
            match self.call(doing, call()).await {
                Err(error) if patience.allows(&error).await => {}
                done => return done,
            }
        }
    }

    /// The patience for work that only reads.
    pub(super) fn patience(&self) -> Patience {
        Patience { until: Instant::now() + self.inner.connect_limit, repeats: 0 }
    }

    /// Waits for work of several messages, such as a stream, as long as for one call.
    ///
    /// # Errors
    /// TIMEOUT, else the work's own.
    pub(crate) async fn bounded<T>(&self, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.inner.call_limit;
        let begun = Instant::now();
        let outcome = tokio::time::timeout(limit, work).await;
        tracing::trace!(doing, micros = begun.elapsed().as_micros() as u64, "containerd calls");
        outcome.unwrap_or_else(|_| Err(self.too_slow(doing, limit)))
    }

    /// The error of a status that came while `doing`.
    pub(crate) fn failed(&self, doing: &str, status: Status) -> Error {
        convert::status(status, doing, &self.inner.address)
    }

    async fn call_within<T>(
        &self,
        limit: Duration,
        doing: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(limit, call).await;
        tracing::trace!(doing, micros = begun.elapsed().as_micros() as u64, "containerd call");
        match outcome {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(self.failed(doing, status)),
            Err(_) => Err(self.too_slow(doing, limit)),
        }
    }

    fn too_slow(&self, doing: &str, limit: Duration) -> Error {
        Error::timeout(format!(
            "cannot {doing}: containerd did not answer within {} ms; raise time_limits.backend_ms or look at the daemon",
            limit.as_millis()
        ))
        .with("address", &self.inner.address)
    }
}

/// How long work that only reads is repeated because the connection breaks under it: a few times, and no longer than a
/// connection may take.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    repeats: usize,
}

impl Patience {
    /// Whether to try again after this error; waits a moment before it says yes.
    pub(super) async fn allows(&mut self, error: &Error) -> bool {
        let again = error.kind() == ErrorKind::Unavailable
            && self.repeats < MAX_REPEATS
            && Instant::now() < self.until;
        if again {
            self.repeats += 1;
            tokio::time::sleep(BREATH).await;
        }
        again
    }
}

/// The addresses to try, in order, each once.
pub(super) fn candidates(configured: Option<&str>, variable: Option<&str>) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for address in [configured, variable, Some(SYSTEM_SOCKET)].into_iter().flatten() {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if !path.is_empty() && addresses.iter().all(|known| known != path) {
            addresses.push(path.to_owned());
        }
    }
    addresses
}

/// The one error that tells of every address that failed.
fn no_daemon(failures: &[(&str, Error)]) -> Error {
    // A socket that is there but closed to this process is what its owner has to mend first.
    let denied = failures.iter().any(|(_, e)| e.kind() == ErrorKind::PermissionDenied);
    let kind = if denied { ErrorKind::PermissionDenied } else { ErrorKind::Unavailable };
    let tried: Vec<String> =
        failures.iter().map(|(address, error)| format!("{address} ({})", error.message())).collect();
    let advice = if denied {
        "run as a user who may use the socket, usually root"
    } else {
        "start containerd or set containerd.address"
    };
    Error::new(kind, format!("no containerd can be reached: {advice}; tried {}", tried.join(", ")))
        .with("tried", tried.join(", "))
}

async fn dial(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Dials until somebody listens: a daemon that restarts is away for a moment only.
async fn dial_patiently(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let error = match within(limit, dial(path)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let away = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if !away || begun.elapsed() + pause > limit {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ContainerdConfig {
        ContainerdConfig::default()
    }

    fn quick() -> TimeLimits {
        TimeLimits { connect_ms: 300, backend_ms: 300, ..TimeLimits::default() }
    }

    #[test]
    fn candidates_are_ordered_unique_paths() {
        assert_eq!(candidates(None, None), [SYSTEM_SOCKET]);
        assert_eq!(
            candidates(Some("unix:///a"), Some("/b")),
            ["/a".to_owned(), "/b".to_owned(), SYSTEM_SOCKET.to_owned()]
        );
        assert_eq!(candidates(Some(SYSTEM_SOCKET), Some("")), [SYSTEM_SOCKET]);
    }

    #[tokio::test]
    async fn every_address_that_failed_is_named_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.sock").display().to_string();
        let refused = dir.path().join("refused.sock").display().to_string();
        drop(std::os::unix::net::UnixListener::bind(&refused).unwrap());
        let error =
            Client::connect_to(&[missing.clone(), refused.clone()], &config(), quick()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(text.contains(&format!("{missing} (no socket there)")), "{text}");
        assert!(text.contains(&format!("{refused} (nobody listens there)")), "{text}");
    }

    #[tokio::test]
    async fn a_socket_that_is_no_grpc_server_times_out_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mute.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let error = Client::connect_to(&[path.display().to_string()], &config(), quick()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("did not answer within 300 ms"), "{error}");
    }

    #[tokio::test]
    async fn a_namespace_that_cannot_be_sent_is_refused_before_dialling() {
        let config = ContainerdConfig { namespace: "a\nb".to_owned(), ..config() };
        let error = Client::connect_to(&["/nowhere".to_owned()], &config, quick()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[tokio::test]
    async fn a_daemon_that_comes_back_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late.sock");
        let late = path.clone();
        let server = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let listener = tokio::net::UnixListener::bind(late).unwrap();
            listener.accept().await.unwrap();
        });
        dial_patiently(&path, Duration::from_secs(5)).await.unwrap();
        server.await.unwrap();
    }
}
