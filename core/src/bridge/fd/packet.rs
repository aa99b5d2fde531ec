use dunnage_bridge::MAX_FD_PACKET;
use dunnage_bridge::v1::{FdRequest, FdResponse};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Sends a request and takes its response, with the descriptor when there is one. Blocks, within the socket's time
/// limits.
pub(super) fn exchange(socket: impl AsFd, request: &FdRequest) -> io::Result<(FdResponse, Option<OwnedFd>)> {
    let bytes = request.encode_to_vec();
    let sent = retry(|| {
        sendmsg(&socket, &[IoSlice::new(&bytes)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    })?;
    if sent != bytes.len() {
        return Err(io::Error::other("a request was cut"));
    }
    receive(socket)
}

fn receive(socket: impl AsFd) -> io::Result<(FdResponse, Option<OwnedFd>)> {
    let mut packet = vec![0; MAX_FD_PACKET];
    // Room for one: the kernel closes what is beyond, and says so.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    // Taken before anything can fail, so that it is closed.
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || fds.len() > 1 {
        return Err(io::Error::other("a response is too long or has too many descriptors"));
    }
    let response =
        FdResponse::decode(packet.get(..received.bytes).unwrap_or_default()).map_err(io::Error::other)?;
    Ok((response, fds.pop()))
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
