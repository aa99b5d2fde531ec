//! Bulk bytes by descriptor: the host asks for a file, and reads or writes it itself.
//!
//! The socket keeps packets apart, and each connection handles one request at a time, in order. Files being written
//! belong to their connection: when it closes, they go.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustix::net::{
    RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, accept_with,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tonic::Status;

use super::atomic::{Replacement, Written};
use super::channel::register;
use super::errors::At;
use super::listener::Peers;
use super::revision::Expected;
use super::state::Agent;
use super::threads::blocking;
use super::{paths, raw};
use crate::consts::MAX_FD_PACKET;
use crate::v1::fd_request::Op;
use crate::v1::{FdOpenWrite, FdRequest, FdResponse};

/// Files one connection may have in the making.
const MAX_PENDING: usize = 64;
/// Connections at once.
const MAX_CONNECTIONS: usize = 128;
/// How long to wait before accepting again when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves the socket, for as long as it is polled.
///
/// # Errors
/// When the socket cannot be registered with the runtime.
pub(crate) fn serve(
    agent: Arc<Agent>,
    socket: OwnedFd,
    peers: Peers,
) -> io::Result<impl Future<Output = ()>> {
    let socket = register(socket)?;
    Ok(async move {
        let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accept = |fd: &OwnedFd| Ok(accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?);
            let connection = match socket.async_io(Interest::READABLE, accept).await {
                Ok(connection) => match checked(connection, &peers) {
                    Ok(Some(connection)) => connection,
                    Ok(None) | Err(_) => continue,
                },
                Err(_) => {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let agent = Arc::clone(&agent);
            tokio::spawn(async move {
                let _place = place;
                // A broken connection ends here; there is nobody to tell.
                let _ = converse(&agent, connection).await;
            });
        }
    })
}

/// The connection again, if its other end may use it.
fn checked(connection: OwnedFd, peers: &Peers) -> io::Result<Option<OwnedFd>> {
    let stream = UnixStream::from_std(connection.into())?;
    let allowed = peers.allow(&stream);
    Ok(allowed.then_some(stream.into_std()?.into()))
}

/// Answers requests until the other end closes.
async fn converse(agent: &Agent, connection: OwnedFd) -> io::Result<()> {
    let connection = register(connection)?;
    let mut packet = vec![0; MAX_FD_PACKET];
    let mut pending = Pending::default();
    loop {
        let received = connection.async_io(Interest::READABLE, |fd| receive(fd.as_fd(), &mut packet)).await?;
        let answer = match received {
            Received::Packet(0) => return Ok(()),
            Received::Packet(size) => match FdRequest::decode(packet.get(..size).unwrap_or_default()) {
                Ok(FdRequest { op: Some(op) }) => pending.answer(agent, op).await,
                Ok(FdRequest { op: None }) => {
                    Err(Status::unimplemented("this agent does not know the request"))
                }
                Err(error) => Err(Status::invalid_argument(format!("the packet is no request: {error}"))),
            },
            Received::TooLong => {
                let text = format!("a packet may have at most {MAX_FD_PACKET} bytes");
                Err(Status::invalid_argument(text))
            }
        };
        let (response, fd) = answer.unwrap_or_else(|status| {
            let code = u32::try_from(i32::from(status.code())).unwrap_or(2);
            (FdResponse { code, message: status.message().to_owned(), ..Default::default() }, None)
        });
        let bytes = response.encode_to_vec();
        connection
            .async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), &bytes, fd.as_ref().map(AsFd::as_fd)))
            .await?;
    }
}

type Answer = Result<(FdResponse, Option<OwnedFd>), Status>;

/// Files in the making of one connection.
#[derive(Default)]
struct Pending {
    files: HashMap<u64, Replacement>,
    last: u64,
}

impl Pending {
    async fn answer(&mut self, agent: &Agent, op: Op) -> Answer {
        let data_dir = &agent.config.data_dir;
        match op {
            Op::OpenRead(request) => {
                let path = paths::required(data_dir, &request.path)?;
                blocking(move || open_read(&path)).await
            }
            Op::OpenWrite(request) => self.open_write(data_dir, request).await,
            Op::Commit(request) => {
                let new = self.take(request.token)?;
                blocking(move || {
                    let Written { size, revision } = new.commit_sized(request.expected_size)?;
                    Ok((FdResponse { size, revision, ..Default::default() }, None))
                })
                .await
            }
            Op::Abort(request) => {
                drop(self.take(request.token)?);
                Ok((FdResponse::default(), None))
            }
        }
    }

    async fn open_write(&mut self, data_dir: &Path, request: FdOpenWrite) -> Answer {
        if self.files.len() >= MAX_PENDING {
            let text = format!("this connection has {MAX_PENDING} unfinished files, commit or abort some");
            return Err(Status::resource_exhausted(text));
        }
        let path = paths::required(data_dir, &request.path)?;
        let (mode, expected) = (request.mode, Expected::new(request.expected_revision)?);
        let (new, fd) = blocking(move || {
            let mut new = Replacement::begin(&path, mode, expected)?;
            let fd = new.file().try_clone().at("open", &path)?;
            Ok((new, fd))
        })
        .await?;
        self.last += 1;
        self.files.insert(self.last, new);
        Ok((FdResponse { token: self.last, ..Default::default() }, Some(fd.into())))
    }

    fn take(&mut self, token: u64) -> Result<Replacement, Status> {
        let text = "no unfinished file of this connection has that token";
        self.files.remove(&token).ok_or_else(|| Status::not_found(text))
    }
}

fn open_read(path: &Path) -> Answer {
    let file = raw::open(path)?;
    let found = file.metadata().at("open", path)?;
    let mode = std::os::unix::fs::MetadataExt::mode(&found) & 0o7777;
    Ok((FdResponse { size: found.len(), mode, ..Default::default() }, Some(file.into())))
}

enum Received {
    /// So many bytes; none when the other end has closed.
    Packet(usize),
    TooLong,
}

fn receive(socket: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<Received> {
    // No room for descriptors: any that are sent are closed by the kernel.
    let mut control = rustix::net::RecvAncillaryBuffer::default();
    let message = recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::TooLong);
    }
    Ok(Received::Packet(message.bytes))
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
