//! A reverse proxy that stands before a registry or an S3 server and makes it misbehave.

mod body;
mod counts;
mod fault;
mod handler;
mod token;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use counts::{Counts, Seen};
pub use fault::Fault;

use crate::error::{Context, Result};
use counts::Counters;
use handler::{Behaviour, Handler, Service};

/// A running proxy, in a thread of its own. Dropping it ends it and closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    behaviour: Arc<RwLock<Arc<Behaviour>>>,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one on a free port of 127.0.0.1, before the registry at `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(upstream: SocketAddr, faults: Vec<Fault>) -> Result<Self> {
        Self::start_before(upstream, faults, Service::Registry)
    }

    /// Starts one on a free port of 127.0.0.1, before the S3 server at `upstream`. Clients have to use the proxy's address with the
    /// bucket in the path: they sign the host that they see.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start_s3(upstream: SocketAddr, faults: Vec<Fault>) -> Result<Self> {
        Self::start_before(upstream, faults, Service::S3)
    }

    fn start_before(upstream: SocketAddr, faults: Vec<Fault>, service: Service) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        // The second listener is the place that blobs are redirected to: another origin.
        let (front, store) = runtime
            .block_on(async {
                Ok::<_, std::io::Error>((
                    TcpListener::bind("127.0.0.1:0").await?,
                    TcpListener::bind("127.0.0.1:0").await?,
                ))
            })
            .context("no port is free")?;
        let address = front.local_addr().context("the proxy has no address")?;
        let store_address = store.local_addr().context("the proxy has no address")?;
        let behaviour = Arc::new(RwLock::new(Arc::new(Behaviour::new(faults))));
        let counters = Arc::new(Counters::default());
        let (stop, mut stopped) = oneshot::channel();
        let handler = Handler::new(
            service,
            upstream,
            [address, store_address],
            Arc::clone(&behaviour),
            Arc::clone(&counters),
        );
        let handler = Arc::new(handler);
        let thread = thread::Builder::new()
            .name("fault-proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(front, Arc::clone(&handler), false) => {}
                        () = accept(store, Arc::clone(&handler), true) => {}
                        _ = &mut stopped => {}
                    }
                });
                // Stalled bodies wait for ever: do not wait for them.
                runtime.shutdown_background();
            })
            .context("cannot start a thread")?;
        Ok(Self { address, behaviour, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// `127.0.0.1:<port>`, as it stands in image references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// An image's reference through this proxy, given its reference at the registry.
    pub fn through(&self, reference: &str) -> String {
        let name = reference.split_once('/').map_or(reference, |(_, name)| name);
        format!("{}/{name}", self.address)
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// The requests it has seen so far, in the order they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.counters.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.counters.reset();
    }

    /// Misbehaves differently from now on; tokens that were given out are void.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        *self.behaviour.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Behaviour::new(faults));
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

/// Serves connections for ever.
async fn accept(listener: TcpListener, handler: Arc<Handler>, store: bool) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others may give some back.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let handler = Arc::clone(&handler);
                async move { if store { handler.store(request).await } else { handler.front(request).await } }
            });
            // Connections that break are what this proxy is for.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}
