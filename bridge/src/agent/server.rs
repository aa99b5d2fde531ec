//! Serving both protocols and the descriptor socket, until told to stop.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::SocketType;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::config::Config;
use super::fdpass;
use super::legacy::Legacy;
use super::listener::{Bound, Peers};
use super::memory;
use super::state::Agent;
use super::v1::V1;
use crate::bridgepb::container_service_server::{ContainerServiceServer, SERVICE_NAME as LEGACY};
use crate::consts::{CONNECTION_WINDOW, MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, MAX_STREAMS, STREAM_WINDOW};
use crate::v1::bridge_server::{BridgeServer, SERVICE_NAME as V1_NAME};

/// How long calls under way have after the signal to stop, all told.
const STOP: Duration = Duration::from_millis(750);
/// Bytes of a response that may wait for the socket, per call.
const SEND_BUFFER: usize = 1 << 20;
/// How long to wait before accepting again when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The sockets, bound and listening, and who may use them.
pub(crate) struct Sockets {
    main: Bound,
    bulk: Bound,
    peers: Peers,
}

impl Sockets {
    /// Makes those that the configuration names.
    ///
    /// # Errors
    /// As [`Bound::new`].
    pub(crate) fn bind(config: &Config) -> io::Result<Self> {
        // Whoever sees the first socket finds the second.
        let bulk = Bound::new(&config.fd_socket(), SocketType::SEQPACKET)?;
        let main = Bound::new(&config.socket, SocketType::STREAM)?;
        let peers = Peers::new(config.socket.parent().unwrap_or(std::path::Path::new("/")));
        Ok(Self { main, bulk, peers })
    }
}

/// Serves a container until SIGTERM or SIGINT.
///
/// # Errors
/// When the sockets cannot be made, or the server fails.
pub(crate) async fn run(agent: Arc<Agent>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(Arc::clone(&agent.reaper).run()?);
    let sockets = Sockets::bind(&agent.config)?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run_until(agent, sockets, told).await
}

/// Serves until `end` completes.
///
/// New calls are refused then, commands are ended, calls under way may finish, and within a second this returns, however
/// many there are.
///
/// # Errors
/// When the server fails.
pub(crate) async fn run_until(
    agent: Arc<Agent>,
    sockets: Sockets,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::spawn(memory::settle());
    let Sockets { main, bulk, peers } = sockets;
    let bulk_server = tokio::spawn(fdpass::serve(Arc::clone(&agent), bulk.fd()?, peers.clone())?);

    let listener = UnixListener::from_std(StdListener::from(main.fd()?))?;
    let services = Services::new(&agent);
    let mut server = tokio::spawn(accept(listener, peers, services, Arc::clone(&agent)));

    end.await;
    let until = Instant::now() + STOP;
    agent.stop();
    bulk_server.abort();
    // Returns early when every connection has closed; a client that keeps an idle one is not waited for.
    while Instant::now() < until && !server.is_finished() {
        if agent.running() == 0 {
            // Time to hand over the last frames.
            let _ = timeout_at(until.min(Instant::now() + Duration::from_millis(50)), &mut server).await;
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    server.abort();
    Ok(())
}

/// Serves with a configuration of the caller's choosing, in place of the environment's; see [`super::main`].
///
/// # Errors
/// When the sockets cannot be made, or the server fails.
pub async fn serve(config: super::Config) -> io::Result<()> {
    run(Arc::new(Agent::new(config, None))).await
}

/// Accepts connections until the agent stops, then lets those there are finish their calls.
///
/// Failures to accept concern one connection or pass with time, and never end the server.
async fn accept(listener: UnixListener, peers: Peers, services: Services, agent: Arc<Agent>) {
    let mut connections = JoinSet::new();
    let mut stopped = pin!(agent.stopped());
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) if peers.allow(&connection) => {
                    connections.spawn(converse(connection, services.clone(), agent.stopped()));
                }
                Ok(_) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn converse(connection: UnixStream, services: Services, stopped: impl Future<Output = ()>) {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(connection), services);
    let mut connection = pin!(connection);
    tokio::select! {
        // A connection that breaks concerns nobody but its client, who knows.
        _ = &mut connection => return,
        () = stopped => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Both services, told apart by the path of a call.
#[derive(Clone)]
struct Services {
    legacy: ContainerServiceServer<Legacy>,
    v1: BridgeServer<V1>,
}

impl Services {
    fn new(agent: &Arc<Agent>) -> Self {
        Self {
            legacy: ContainerServiceServer::new(Legacy(Arc::clone(agent)))
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
            v1: BridgeServer::new(V1(Arc::clone(agent)))
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
        }
    }
}

impl hyper::service::Service<http::Request<Incoming>> for Services {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        use tonic::codegen::Service;
        memory::settle_later();
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        match service {
            Some(LEGACY) => self.legacy.clone().call(request),
            Some(V1_NAME) => self.v1.clone().call(request),
            _ => {
                let status = tonic::Status::unimplemented("this agent has no such service");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
