//! One HTTP/2 connection, on which gRPC calls run side by side.
//!
//! This speaks HTTP/2 itself, rather than through tonic's channel, for two things a channel does not give: a call that
//! is dropped resets its stream at once, even while its own input is stuck behind a full window; and a call that never
//! left is told from one that broke, so that only the first is repeated without asking.

use super::dial::Stream;
use bytes::Bytes;
use dunnage_bridge::{CONNECTION_WINDOW, MAX_FRAME_SIZE, STREAM_WINDOW};
use futures::future::poll_fn;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Bytes of one call's input that may wait in this process.
const SEND_BUFFER: usize = 1 << 20;

/// A failure of the way to the agent, as opposed to one that the agent reports.
#[derive(Debug)]
pub(super) enum LaneError {
    /// The call broke under way; the agent may have seen it.
    Broken(String),
    /// The call was not sent.
    Unsent(String),
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) | Self::Unsent(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LaneError {}

fn broken(error: impl fmt::Display) -> LaneError {
    LaneError::Broken(error.to_string())
}

/// A connection. Clones share it; it closes when the last clone and the last call on it are gone.
#[derive(Clone)]
pub(super) struct Lane {
    sender: SendRequest<Bytes>,
    closed: CancellationToken,
    calls: Arc<AtomicUsize>,
    ticket: Option<Arc<Ticket>>,
}

/// Counts one call on a lane for as long as it lives.
struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lane {
    /// Speaks HTTP/2 on a connected stream.
    pub(super) async fn open(stream: Stream) -> Result<Self, LaneError> {
        match stream {
            Stream::Unix(stream) => Self::handshake(stream).await,
            Stream::Tcp(stream) => Self::handshake(stream).await,
        }
    }

    async fn handshake<S>(stream: S) -> Result<Self, LaneError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(broken)?;
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to an agent ended");
            }
            drop(guard);
        });
        Ok(Self { sender, closed, calls: Arc::default(), ticket: None })
    }

    /// Whether calls can still be sent on it.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Calls under way.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// A clone that counts as one call until it and the call made on it are gone.
    pub(super) fn reserve(&self) -> Self {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Self { ticket: Some(Arc::new(Ticket(Arc::clone(&self.calls)))), ..self.clone() }
    }
}

impl Service<http::Request<tonic::body::Body>> for Lane {
    type Response = http::Response<Answer>;
    type Error = LaneError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LaneError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneError>> {
        self.sender.poll_ready(cx).map_err(|e| LaneError::Unsent(e.to_string()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let ended = body.is_end_stream();
        let sent = self.sender.send_request(http::Request::from_parts(parts, ()), ended);
        let ticket = self.ticket.clone();
        Box::pin(async move {
            let (response, stream) = sent.map_err(|e| LaneError::Unsent(e.to_string()))?;
            // Dropped, at any point from here on, it resets the stream.
            let call = if ended { None } else { feed(body, stream).await };
            let response = Response(response).await?;
            Ok(response.map(|stream| Answer { stream, data_ended: false, _call: call, _ticket: ticket }))
        })
    }
}

struct Response(ResponseFuture);

impl Future for Response {
    type Output = Result<http::Response<RecvStream>, LaneError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|error| {
            // The agent promises that it has not looked at a stream it refuses.
            if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
                LaneError::Unsent(error.to_string())
            } else {
                broken(error)
            }
        })
    }
}

/// The input of a call under way. Dropping it before the input's end resets the stream.
struct Call {
    _abort: oneshot::Sender<()>,
}

/// Sends a call's input: what can be sent at once from here, the rest from a task of its own, as fast as the agent takes
/// it. None when all of it has been sent.
async fn feed(body: tonic::body::Body, mut stream: SendStream<Bytes>) -> Option<Call> {
    let (abort, aborted) = oneshot::channel::<()>();
    let mut sending = Box::pin(async move {
        let reason = tokio::select! {
            biased;
            sent = send_all(body, &mut stream) => sent.err(),
            // The call was dropped, or has its answer and needs no more input.
            _ = aborted => Some(Reason::CANCEL),
        };
        if let Some(reason) = reason {
            stream.send_reset(reason);
        }
    });
    let sent = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_ready())).await;
    (!sent).then(|| {
        tokio::spawn(sending);
        Call { _abort: abort }
    })
}

async fn send_all(body: tonic::body::Body, stream: &mut SendStream<Bytes>) -> Result<(), Reason> {
    let mut body = std::pin::pin!(body);
    loop {
        let frame = tokio::select! {
            biased;
            reason = poll_fn(|cx| stream.poll_reset(cx)) => return Err(reason.unwrap_or(Reason::CANCEL)),
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => frame,
        };
        let mut data = match frame {
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Reason::CANCEL),
            // The maker of the input gave it up: the call must not look as if its input had ended well.
            Some(Err(_)) => return Err(Reason::CANCEL),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
        };
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            if stream.capacity() == 0 {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(Reason::CANCEL),
                }
            }
            let now = stream.capacity().min(data.len());
            if now > 0 {
                stream.send_data(data.split_to(now), false).map_err(|_| Reason::CANCEL)?;
            }
        }
        if body.is_end_stream() {
            return stream.send_data(Bytes::new(), true).map_err(|_| Reason::CANCEL);
        }
    }
}

/// The output of a call. The agent may send on as its bytes are taken; dropping it resets the stream.
pub(super) struct Answer {
    stream: RecvStream,
    data_ended: bool,
    _call: Option<Call>,
    _ticket: Option<Arc<Ticket>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = LaneError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LaneError>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.stream.flow_control().release_capacity(data.len()).map_err(broken)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The agent has all it wants of the input and answers without the rest.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(error)))),
                None => {}
            }
            self.data_ended = true;
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(broken(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data_ended && self.stream.is_end_stream()
    }
}
