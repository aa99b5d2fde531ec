//! containerd's content store: blobs by digest, written in order under a lock by name.

use super::client::Client;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use containerd_client::services::v1::{
    AbortRequest, Info, InfoRequest, ReadContentRequest, ReadContentResponse, StatusRequest, UpdateRequest,
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Bytes of one message: large enough that calls do not count, far below containerd's limit of 16 MiB.
const MESSAGE: usize = 1 << 20;

/// Messages under way to containerd.
const UNDER_WAY: usize = 4;

/// The length of a blob; none when it is not here.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn size(client: &Client, digest: &str) -> Result<Option<u64>> {
    let ask = || {
        let request = client.request(InfoRequest { digest: digest.to_owned() });
        let mut service = client.content();
        async move { service.info(request).await }
    };
    match client.read("look for a blob", ask).await {
        Ok(reply) => Ok(Some(reply.info.map_or(0, |info| info.size.max(0) as u64))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("blob", digest)),
    }
}

/// Adds labels to a blob.
///
/// # Errors
/// NOT_FOUND when it is not here, else as [`Client::call`].
pub(crate) async fn add_labels(
    client: &Client,
    digest: &str,
    labels: &HashMap<String, String>,
) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let info = Info { digest: digest.to_owned(), labels: labels.clone(), ..Info::default() };
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = client.request(UpdateRequest { info: Some(info), update_mask });
    client
        .call("label a blob", client.content().update(request))
        .await
        .map_err(|e| e.with("blob", digest))?;
    Ok(())
}

/// Reads a whole blob of at most `limit` bytes; none when it is not here.
///
/// # Errors
/// DATA_CORRUPT when it is longer, else as [`Client::call`].
pub(crate) async fn read_small(client: &Client, digest: &str, limit: u64) -> Result<Option<Bytes>> {
    let mut stream = match ContentStream::open(client, digest).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    loop {
        match stream.next().await {
            Ok(None) => return Ok(Some(bytes.into())),
            Ok(Some(more)) => bytes.extend_from_slice(&more),
            // Some versions tell of a missing blob only with the first message.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > limit {
            return Err(
                Error::data_corrupt(format!("the blob is longer than {limit} bytes")).with("blob", digest)
            );
        }
    }
}

/// The bytes of a blob that is here.
pub(crate) struct ContentStream {
    client: Client,
    digest: String,
    replies: Streaming<ReadContentResponse>,
}

impl ContentStream {
    /// Opens a blob.
    ///
    /// # Errors
    /// NOT_FOUND, else as [`Client::call`].
    pub(crate) async fn open(client: &Client, digest: &str) -> Result<Self> {
        let message = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut service = client.content();
        let replies = client
            .call("read a blob", service.read(client.request(message)))
            .await
            .map_err(|e| e.with("blob", digest))?;
        Ok(Self { client: client.clone(), digest: digest.to_owned(), replies })
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// # Cancel safety
    /// Dropping the future loses no bytes.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.replies.message().await {
            Ok(reply) => Ok(reply.map(|reply| reply.data.into())),
            Err(status) => Err(self.client.failed("read a blob", status).with("blob", &self.digest)),
        }
    }
}

/// What became of the wish to write a blob.
pub(crate) enum Opened {
    /// It is here, and under the lease.
    Exists,
    /// Somebody else is writing it just now, and has come so far.
    Locked(u64),
    /// Ours to write, from the writer's offset on.
    Writer(Box<Writer>),
}

/// A blob being written. Dropping it keeps what was written, under its name, until it is aborted or runs out.
pub(crate) struct Writer {
    client: Client,
    digest: String,
    size: u64,
    messages: mpsc::Sender<WriteContentRequest>,
    replies: Streaming<WriteContentResponse>,
    pending: Vec<u8>,
    /// Bytes taken, whether sent or pending.
    offset: u64,
}

/// Begins or resumes to write a blob under a lease. `name` is the lock.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn open(
    client: &Client,
    lease: &str,
    name: &str,
    digest: &str,
    size: u64,
) -> Result<Opened> {
    let (messages, receiver) = mpsc::channel(UNDER_WAY);
    let ask = WriteContentRequest {
        action: WriteAction::Stat as i32,
        r#ref: name.to_owned(),
        total: size as i64,
        expected: digest.to_owned(),
        ..WriteContentRequest::default()
    };
    let closed = |_| Error::unavailable("the stream to containerd is closed").with("blob", digest);
    messages.send(ask).await.map_err(closed)?;
    let request = client.leased(ReceiverStream::new(receiver), lease)?;
    let mut service = client.content();
    let begun = async {
        let mut replies = service.write(request).await?.into_inner();
        let first =
            replies.message().await?.ok_or_else(|| Status::unavailable("containerd ended the stream"))?;
        Ok(tonic::Response::new((replies, first)))
    };
    let (replies, first) = match client.call_unbounded("write a blob", begun).await {
        Ok(begun) => begun,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Opened::Exists),
        Err(error) if error.kind() == ErrorKind::Unavailable && error.message().contains("locked") => {
            return Ok(Opened::Locked(progress(client, name).await));
        }
        Err(error) => return Err(error.with("blob", digest)),
    };
    Ok(Opened::Writer(Box::new(Writer {
        client: client.clone(),
        digest: digest.to_owned(),
        size,
        messages,
        replies,
        pending: Vec::new(),
        offset: first.offset.max(0) as u64,
    })))
}

/// How far somebody's write has come; 0 when that is unknown.
async fn progress(client: &Client, name: &str) -> u64 {
    let request = client.request(StatusRequest { r#ref: name.to_owned() });
    let mut service = client.content();
    let reply = client.call("ask how far a write is", service.status(request)).await;
    reply.ok().and_then(|reply| reply.status).map_or(0, |status| status.offset.max(0) as u64)
}

impl Writer {
    /// Bytes that are there, counted from the blob's beginning.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED on a full disk, else as [`Client::call`].
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.offset += bytes.len() as u64;
        let mut rest = bytes;
        while self.pending.len() + rest.len() >= MESSAGE {
            let (now, later) = rest.split_at(MESSAGE - self.pending.len());
            let mut data = std::mem::take(&mut self.pending);
            data.extend_from_slice(now);
            rest = later;
            let start = self.offset - rest.len() as u64 - data.len() as u64;
            self.send(WriteContentRequest {
                action: WriteAction::Write as i32,
                offset: start as i64,
                data,
                ..WriteContentRequest::default()
            })
            .await?;
        }
        if self.pending.is_empty() {
            self.pending.reserve_exact(rest.len().max(MESSAGE / 4));
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the blob: containerd checks length and digest and keeps it, with these labels. A blob that somebody else
    /// brought in the meantime is success.
    ///
    /// # Errors
    /// DATA_CORRUPT when length or digest are wrong, RESOURCE_EXHAUSTED on a full disk, else as [`Client::call`].
    pub(crate) async fn commit(mut self, labels: HashMap<String, String>) -> Result<()> {
        let data = std::mem::take(&mut self.pending);
        let message = WriteContentRequest {
            action: WriteAction::Commit as i32,
            offset: (self.offset - data.len() as u64) as i64,
            total: self.size as i64,
            expected: self.digest.clone(),
            data,
            labels,
            ..WriteContentRequest::default()
        };
        let mut outcome = self.send(message).await.map(|()| None);
        while let Ok(None) = outcome {
            outcome = match self.replies.message().await {
                Ok(Some(reply)) if reply.action() == WriteAction::Commit => Ok(Some(())),
                Ok(Some(_)) => Ok(None),
                Ok(None) => Err(Error::unavailable("containerd ended the stream before the blob was kept")
                    .with("blob", &self.digest)),
                Err(status) => Err(self.failed(status)),
            };
        }
        match outcome {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends while taking replies: containerd answers each message, and stops when nobody takes the answers.
    async fn send(&mut self, message: WriteContentRequest) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                reply = self.replies.message() => match reply {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        return Err(Error::unavailable("containerd ended the stream").with("blob", &self.digest));
                    }
                    Err(status) => return Err(self.failed(status)),
                },
                permit = self.messages.reserve() => {
                    let closed = |_| Error::unavailable("the stream to containerd is closed");
                    permit.map_err(closed)?.send(message);
                    return Ok(());
                }
            }
        }
    }

    fn failed(&self, status: Status) -> Error {
        let text = status.message();
        let wrong = text.contains("unexpected commit digest") || text.contains("unexpected commit size");
        let wrong =
            wrong && matches!(status.code(), Code::FailedPrecondition | Code::Unknown | Code::OutOfRange);
        let error = if wrong {
            Error::data_corrupt("the blob does not have the length and digest that the manifest names")
                .caused_by(status)
        } else {
            self.client.failed("write a blob", status)
        };
        error.with("blob", &self.digest)
    }
}

/// Throws away what was written under a name. Nothing there is success.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn abort(client: &Client, name: &str) -> Result<()> {
    let request = client.request(AbortRequest { r#ref: name.to_owned() });
    match client.call("abort a write", client.content().abort(request)).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
