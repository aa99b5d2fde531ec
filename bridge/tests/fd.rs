//! Bulk bytes by descriptor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use common::{Agent, eventually};
use dunnage_bridge::v1::fd_request::Op;
use dunnage_bridge::v1::{FdAbort, FdCommit, FdOpenRead, FdOpenWrite, FdRequest, FdResponse};
use prost::Message;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketType, connect, recvmsg, sendmsg, socket,
};
use tonic::Code;

struct Connection(OwnedFd);

impl Connection {
    fn new(agent: &Agent) -> Self {
        let fd = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        let path = agent.socket().with_file_name("bridge-fd.sock");
        connect(&fd, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        Self(fd)
    }

    fn packet(&self, bytes: &[u8]) -> (FdResponse, Option<File>) {
        let mut control = SendAncillaryBuffer::default();
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [0; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(self.0.as_fd(), &mut [IoSliceMut::new(&mut packet)], &mut control, flags).unwrap();
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (FdResponse::decode(&packet[..got.bytes]).unwrap(), fd.map(File::from))
    }

    fn ask(&self, op: Op) -> (FdResponse, Option<File>) {
        self.packet(&FdRequest { op: Some(op) }.encode_to_vec())
    }

    fn code(&self, op: Op) -> Code {
        let (response, fd) = self.ask(op);
        assert!(fd.is_none());
        assert_eq!(response.message.is_empty(), response.code == 0);
        Code::from_i32(response.code.try_into().unwrap())
    }

    fn open_write(&self, path: &str, mode: Option<u32>) -> (u64, File) {
        let (response, fd) =
            self.ask(Op::OpenWrite(FdOpenWrite { path: path.to_owned().into(), mode, ..Default::default() }));
        assert_eq!((response.code, response.message.as_str()), (0, ""));
        (response.token, fd.unwrap())
    }
}

fn open_read(path: &str) -> Op {
    Op::OpenRead(FdOpenRead { path: path.to_owned().into() })
}

fn commit(token: u64, expected_size: Option<u64>) -> Op {
    Op::Commit(FdCommit { token, expected_size })
}

#[test]
fn a_file_is_read_through_its_descriptor() {
    let agent = Agent::first();
    std::fs::write(agent.data("f"), "content").unwrap();
    let connection = Connection::new(&agent);
    let (response, fd) = connection.ask(open_read("f"));
    assert_eq!((response.code, response.size, response.mode), (0, 7, 0o644));
    let mut text = String::new();
    fd.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
}

#[test]
fn a_file_appears_whole_at_its_commit() {
    let agent = Agent::start();
    let connection = Connection::new(&agent);
    let (token, mut file) = connection.open_write("a/f", Some(0o751));
    file.write_all(b"new").unwrap();
    assert!(!agent.data("a/f").exists());
    assert_eq!(connection.code(commit(token + 7, None)), Code::NotFound);
    let (response, _) = connection.ask(commit(token, Some(3)));
    assert_eq!((response.code, response.size), (0, 3));
    assert_eq!(std::fs::read(agent.data("a/f")).unwrap(), b"new");
    assert_eq!(agent.data("a/f").metadata().unwrap().mode() & 0o7777, 0o751);
    assert_eq!(connection.code(commit(token, None)), Code::NotFound);
    // Replaced, it keeps its mode.
    let (token, mut file) = connection.open_write("a/f", None);
    file.write_all(b"newer").unwrap();
    assert_eq!(connection.code(commit(token, None)), Code::Ok);
    assert_eq!(agent.data("a/f").metadata().unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    let agent = Agent::start();
    let connection = Connection::new(&agent);
    // Answered, so that it has been accepted.
    assert_eq!(connection.code(open_read("none")), Code::NotFound);
    let before = agent.open_files();
    let (first, mut file) = connection.open_write("f", None);
    file.write_all(b"short").unwrap();
    assert_eq!(connection.code(commit(first, Some(99))), Code::FailedPrecondition);
    let (second, _file) = connection.open_write("f", None);
    assert_eq!(connection.code(Op::Abort(FdAbort { token: second })), Code::Ok);
    let _third = connection.open_write("f", None);
    let other = Connection::new(&agent);
    assert_eq!(other.code(commit(second + 1, None)), Code::NotFound, "tokens are the connection's own");
    drop((connection, other));
    eventually("everything is closed", || agent.open_files() < before);
    assert_eq!(std::fs::read_dir(agent.data("")).unwrap().count(), 0);
}

#[test]
fn only_regular_files_and_never_a_wait() {
    let agent = Agent::start();
    Command::new("mkfifo").arg(agent.data("fifo")).status().unwrap();
    let connection = Connection::new(&agent);
    for path in ["fifo", ".", "/dev/zero"] {
        assert_eq!(connection.code(open_read(path)), Code::FailedPrecondition, "{path}");
        let write =
            Op::OpenWrite(FdOpenWrite { path: path.to_owned().into(), mode: None, ..Default::default() });
        assert_eq!(connection.code(write), Code::FailedPrecondition, "{path}");
    }
    assert_eq!(connection.code(open_read("none")), Code::NotFound);
    assert_eq!(connection.code(open_read("")), Code::InvalidArgument);
    let write = Op::OpenWrite(FdOpenWrite { path: "f".into(), mode: Some(0o20_000), ..Default::default() });
    assert_eq!(connection.code(write), Code::InvalidArgument);
}

#[test]
fn nonsense_is_answered_and_the_connection_goes_on() {
    let agent = Agent::start();
    std::fs::write(agent.data("f"), "x").unwrap();
    let connection = Connection::new(&agent);
    let code = |bytes: &[u8]| Code::from_i32(connection.packet(bytes).0.code.try_into().unwrap());
    assert_eq!(code(&[0xff; 40]), Code::InvalidArgument);
    assert_eq!(code(&[1; 20_000]), Code::InvalidArgument);
    // A request of a later protocol.
    assert_eq!(code(&[0x7a, 0]), Code::Unimplemented);
    assert_eq!(connection.ask(open_read("f")).0.code, 0);
}

#[test]
fn unfinished_files_are_bounded() {
    let agent = Agent::start();
    let connection = Connection::new(&agent);
    let open: Vec<_> = (0..64).map(|n| connection.open_write(&format!("f{n}"), None)).collect();
    let more = Op::OpenWrite(FdOpenWrite { path: "more".into(), mode: None, ..Default::default() });
    assert_eq!(connection.code(more), Code::ResourceExhausted);
    assert_eq!(connection.code(commit(open[5].0, None)), Code::Ok);
    connection.open_write("more", None);
}
