use super::super::dial::Pinned;
use super::super::failure;
use super::super::fs::Wish;
use super::check::{Use, check};
use super::packet::exchange;
use crate::error::{Error, Result};
use crate::types::WriteResult;
use bytes::Bytes;
use dunnage_bridge::v1::fd_request::Op;
use dunnage_bridge::v1::{FdCommit, FdOpenRead, FdOpenWrite, FdRequest, FdResponse};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Idle connections that are kept.
const MAX_IDLE: usize = 8;
/// How long an agent may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a descriptor was not had.
#[derive(Debug)]
pub(crate) enum FdFault {
    /// The way by descriptor is not open; the other may be.
    Unusable,
    /// The agent refuses the file, and would over gRPC too.
    Refused(Error),
}

/// Where a descriptor socket is.
#[derive(Debug)]
pub(crate) enum FdPlace {
    /// At a path of the host, whoever listens there when it is dialled.
    Path(PathBuf),
    /// It is held.
    Held(Arc<Pinned>),
}

/// Connections to an agent's descriptor socket. All methods block.
#[derive(Debug)]
pub(crate) struct FdPool {
    place: FdPlace,
    idle: Mutex<Vec<OwnedFd>>,
    usable: AtomicBool,
}

impl FdPool {
    /// Connects when first used.
    pub(crate) fn new(place: FdPlace) -> Self {
        Self { place, idle: Mutex::default(), usable: AtomicBool::new(true) }
    }

    /// False once it turned out that nothing answers there.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// Opens a regular file inside for reading, with its permission bits.
    pub(crate) fn open_read(&self, path: &str) -> Result<File, FdFault> {
        let path = Bytes::copy_from_slice(path.as_bytes());
        let (connection, _, fd) = self.ask(Op::OpenRead(FdOpenRead { path }))?;
        self.put_back(connection);
        fd.and_then(|fd| check(fd, Use::Read)).ok_or(FdFault::Unusable)
    }

    /// Opens a file that will replace `path`.
    pub(crate) fn open_write(self: Arc<Self>, path: &str, wish: Wish) -> Result<NewFile, FdFault> {
        let path = Bytes::copy_from_slice(path.as_bytes());
        let open = FdOpenWrite { path, mode: wish.mode, expected_revision: wish.expected };
        let (connection, response, fd) = self.ask(Op::OpenWrite(open))?;
        // A connection that is dropped here takes the new file with it.
        let file = fd.and_then(|fd| check(fd, Use::Write)).ok_or(FdFault::Unusable)?;
        Ok(NewFile { file, token: response.token, connection, pool: self })
    }

    fn ask(&self, op: Op) -> Result<(OwnedFd, FdResponse, Option<OwnedFd>), FdFault> {
        let request = FdRequest { op: Some(op) };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // An idle connection may be dead, and tells nothing about a new one.
        let kept = idle.and_then(|connection| {
            let (response, fd) = exchange(&connection, &request).ok()?;
            Some((connection, response, fd))
        });
        let (connection, response, fd) = match kept {
            Some(answered) => answered,
            None => self.ask_anew(&request).map_err(|error| {
                if !matches!(error.raw_os_error(), Some(23 | 24)) {
                    tracing::debug!(%error, "no files by descriptor from this agent; they go over gRPC");
                    self.usable.store(false, Ordering::Release);
                }
                FdFault::Unusable
            })?,
        };
        if response.code == 0 {
            return Ok((connection, response, fd));
        }
        self.put_back(connection);
        if response.code == tonic::Code::Unimplemented as u32 {
            return Err(FdFault::Unusable);
        }
        Err(FdFault::Refused(failure::by_code(response.code, &response.message)))
    }

    fn ask_anew(&self, request: &FdRequest) -> io::Result<(OwnedFd, FdResponse, Option<OwnedFd>)> {
        let connection = self.dial()?;
        let (response, fd) = exchange(&connection, request)?;
        Ok((connection, response, fd))
    }

    fn dial(&self) -> io::Result<OwnedFd> {
        let pinned = match &self.place {
            FdPlace::Path(path) => Arc::new(Pinned::open(path).map_err(io::Error::other)?),
            FdPlace::Held(pinned) => Arc::clone(pinned),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // Before connecting: a full queue would block without end.
        set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_LIMIT))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT))?;
        connect(&socket, &SocketAddrUnix::new(pinned.path())?)?;
        Ok(socket)
    }

    fn put_back(&self, connection: OwnedFd) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// A file inside in the making. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub(crate) struct NewFile {
    /// What to write to.
    pub(crate) file: File,
    token: u64,
    connection: OwnedFd,
    pool: Arc<FdPool>,
}

impl NewFile {
    /// Puts it in its place. `size` is what was written: the agent refuses any other. Blocks.
    pub(crate) fn commit(self, size: u64) -> Result<WriteResult> {
        let commit = FdCommit { token: self.token, expected_size: Some(size) };
        let request = FdRequest { op: Some(Op::Commit(commit)) };
        let (response, _) = exchange(&self.connection, &request).map_err(|error| {
            Error::unavailable("the agent went away before it confirmed the file; look whether it is there")
                .caused_by(error)
        })?;
        self.pool.put_back(self.connection);
        if response.code != 0 {
            return Err(failure::by_code(response.code, &response.message));
        }
        let revision = Some(response.revision).filter(|revision| !revision.is_empty());
        Ok(WriteResult { bytes_written: response.size, revision })
    }
}
