//! A file descriptor of the host program's, read and written so that a cancellation is heard however long the other side
//! waits.

use crate::error::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tokio_util::sync::CancellationToken;

/// How long a wait for the other side lasts before the cancellation is looked at again: 100 ms.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What goes through a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// Duplicates a descriptor of this process.
///
/// # Errors
/// INVALID_ARGUMENT for a number that is none, or that is not open for this direction.
pub(super) fn duplicate(number: i32, direction: Direction) -> Result<OwnedFd> {
    let bad = |what: &str| {
        Error::invalid_argument(format!("malformed option fd: {what}")).with("field", "fd").with("fd", number)
    };
    if number < 0 {
        return Err(bad("a file descriptor is 0 or more"));
    }
    let pid = rustix::process::getpid();
    let copied = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .and_then(|this| rustix::process::pidfd_getfd(this, number, PidfdGetfdFlags::empty()));
    let copied = match copied {
        // A kernel before 5.6, or a policy that knows no better: what has a path is opened by it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let flags = if direction == Direction::In { OFlags::RDONLY } else { OFlags::WRONLY };
            rustix::fs::open(format!("/proc/self/fd/{number}"), flags | OFlags::CLOEXEC, Mode::empty())
        }
        copied => copied,
    };
    let copied = match copied {
        Err(Errno::BADF | Errno::NOENT) => return Err(bad("it is not open in this process")),
        copied => {
            copied.map_err(|e| Error::io(e.into(), "cannot duplicate the descriptor").with("fd", number))?
        }
    };
    let flags = rustix::fs::fcntl_getfl(&copied)
        .map_err(|e| Error::io(e.into(), "cannot look at the descriptor").with("fd", number))?;
    let refused = if direction == Direction::In { OFlags::WRONLY } else { OFlags::RDONLY };
    match flags & OFlags::ACCMODE {
        access if access == refused && direction == Direction::In => Err(bad("it is not open for reading")),
        access if access == refused => Err(bad("it is not open for writing")),
        _ if flags.contains(OFlags::PATH) => Err(bad("it is neither open for reading nor for writing")),
        _ => Ok(copied),
    }
}

/// A descriptor as a stream.
#[derive(Debug)]
pub(super) struct Stream {
    fd: OwnedFd,
    kind: Kind,
    cancel: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ours alone, set not to wait.
    Pipe,
    Socket,
    /// A file, or something else of which nothing is known.
    Other,
}

impl Stream {
    /// Takes a descriptor. Whether it waits is a property that it shares with the host program's own, and stays as it is.
    pub(super) fn new(fd: OwnedFd, direction: Direction, cancel: CancellationToken) -> Result<Self> {
        let stat =
            rustix::fs::fstat(&fd).map_err(|e| Error::io(e.into(), "cannot look at the descriptor"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Ok(Self { fd, kind: Kind::Socket, cancel }),
            FileType::Fifo => {
                let access = if direction == Direction::In { OFlags::RDONLY } else { OFlags::WRONLY };
                let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let own = rustix::fs::open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty());
                match own {
                    Ok(own) => Ok(Self { fd: own, kind: Kind::Pipe, cancel }),
                    Err(_) => Ok(Self { fd, kind: Kind::Other, cancel }),
                }
            }
            FileType::Directory => Err(Error::new(
                ErrorKind::InvalidArgument,
                "malformed option fd: it is a directory; give a file, a pipe or a socket",
            )
            .with("field", "fd")),
            _ => Ok(Self { fd, kind: Kind::Other, cancel }),
        }
    }

    /// Waits until the other side is there, and does it.
    fn when_ready(
        &self,
        events: PollFlags,
        mut work: impl FnMut() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match poll(&mut [PollFd::new(&self.fd, events)], Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match work() {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        let kind = self.kind;
        self.when_ready(PollFlags::OUT, || match kind {
            Kind::Socket => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Pipe | Kind::Other => rustix::io::write(fd, bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        let kind = self.kind;
        self.when_ready(PollFlags::IN, || match kind {
            Kind::Socket => rustix::net::recv(fd, &mut *bytes, RecvFlags::DONTWAIT).map(|(got, _)| got),
            Kind::Pipe | Kind::Other => rustix::io::read(fd, &mut *bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(fd: OwnedFd, direction: Direction) -> (Stream, CancellationToken) {
        let cancel = CancellationToken::new();
        let copy = duplicate(fd.as_raw_fd(), direction).unwrap();
        drop(fd);
        (Stream::new(copy, direction, cancel.clone()).unwrap(), cancel)
    }

    fn pass(out: OwnedFd, into: OwnedFd) {
        let (mut out, _) = end(out, Direction::Out);
        let (mut into, _) = end(into, Direction::In);
        let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || out.write_all(&sent)
        });
        let mut got = Vec::new();
        into.read_to_end(&mut got).unwrap();
        writer.join().unwrap().unwrap();
        assert!(got == sent);
    }

    #[test]
    fn pipes_and_sockets_carry_all_bytes_and_their_end() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        pass(write, read);
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        pass(a.into(), b.into());
    }

    #[test]
    fn a_file_goes_on_where_the_caller_was() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        let (mut out, _) = end(file.try_clone().unwrap().into(), Direction::Out);
        out.write_all(b"body").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut all = String::new();
        file.read_to_string(&mut all).unwrap();
        assert_eq!(all, "headbody");
    }

    #[test]
    fn a_wait_for_the_other_side_hears_the_cancellation() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (mut full, cancel) = end(write, Direction::Out);
        let stuck = std::thread::spawn(move || full.write_all(&vec![0; 1 << 20]));
        std::thread::sleep(std::time::Duration::from_millis(50));
        cancel.cancel();
        assert!(stuck.join().unwrap().is_err());
        drop(read);
    }

    #[test]
    fn what_is_not_open_that_way_is_refused() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        for (number, direction) in [
            (-1, Direction::Out),
            (1_000_000, Direction::In),
            (read.as_raw_fd(), Direction::Out),
            (write.as_raw_fd(), Direction::In),
        ] {
            let error = duplicate(number, direction).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
        let dir = std::fs::File::open("/").unwrap();
        let copy = duplicate(dir.as_raw_fd(), Direction::In).unwrap();
        assert!(Stream::new(copy, Direction::In, CancellationToken::new()).is_err());
    }
}
