//! Telling what changes in a directory.
//!
//! | file | what |
//! |---|---|
//! | `tree` | which directories the kernel watches, and what they are called |
//! | `pending` | what is to be told: joined, ordered, bounded |
//!
//! What the kernel tells is gathered for a moment and told in one message. While a slow caller takes none, nothing is read:
//! the kernel's own queue grows up to its bound, and what goes beyond that is told as one overflow.

mod pending;
mod tree;

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::Stream;
use rustix::fs::inotify::{CreateFlags, Event, ReadFlags, Reader, init};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::channel::{Channel, register};
use super::errors::At;
use super::globs::Globs;
use super::temp;
use super::threads::blocking;
use crate::v1::{WatchKind, WatchRequest, WatchResponse};
use pending::Pending;
use tree::{Follow, Tree};

/// Messages that wait for the caller.
const QUEUE: usize = 2;
/// How long the last words of an ending agent may take.
const FAREWELL: Duration = Duration::from_millis(200);
/// Bytes read from the kernel at once.
const BUFFER: usize = 4096;

/// Begins to watch a directory; what happens after this returns is told. It ends when the stream is dropped, after the
/// directory itself was removed, and with the agent.
///
/// # Errors
/// `NOT_FOUND`, `FAILED_PRECONDITION` when it is no directory, `INVALID_ARGUMENT` for bad patterns, `RESOURCE_EXHAUSTED`
/// when the system allows no more watches.
pub(crate) async fn begin(
    root: PathBuf,
    request: WatchRequest,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + Send + 'static, Status> {
    let exclude = Globs::new(&request.exclude)?;
    let channel = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(std::io::Error::from);
    let channel: Channel = Arc::new(channel.and_then(register).at("watch", &root)?);
    let recursive = request.recursive;
    let watched = Arc::clone(&channel);
    let tree = blocking(move || Tree::new(watched, root, recursive, exclude)).await?;
    let (out, told) = mpsc::channel(QUEUE);
    tokio::spawn(run(channel, tree, out, stopped));
    Ok(ReceiverStream::new(told))
}

type Out = mpsc::Sender<Result<WatchResponse, Status>>;

/// A watch under way.
struct Watch {
    tree: Tree,
    pending: Pending,
    /// The directory itself has gone.
    removed: bool,
}

/// What reading came to.
struct Read {
    /// Nothing more is there to be read now.
    drained: bool,
    /// What is to be looked into.
    follow: Vec<Follow>,
}

/// Tells until there is a reason to end.
async fn run(channel: Channel, tree: Tree, out: Out, stopped: impl Future<Output = ()>) {
    let mut stopped = pin!(stopped);
    let mut watch = Watch { tree, pending: Pending::default(), removed: false };
    loop {
        let due = watch.pending.due();
        let now = watch.removed || due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            biased;
            () = &mut stopped => {
                let farewell = out.send(Err(Status::unavailable("the bridge is stopping")));
                // A caller that does not listen hears the end of the connection.
                let _ = tokio::time::timeout(FAREWELL, farewell).await;
                return;
            }
            () = out.closed() => return,
            place = out.reserve(), if now => {
                let Ok(place) = place else { return };
                match watch.pending.take(&mut watch.tree) {
                    Some(events) => place.send(Ok(WatchResponse { events })),
                    // All is told, and nothing will follow.
                    None if watch.removed => return,
                    None => {}
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if !now && due.is_some() => {}
            ready = channel.readable(), if !watch.removed && watch.pending.has_room() => {
                let Ok(mut ready) = ready else { return };
                let read = watch.read(channel.get_ref());
                let Ok(Read { drained, follow }) = read else { return };
                if drained {
                    ready.clear_ready();
                }
                drop(ready);
                if !follow.is_empty() && !watch.removed {
                    watch = match blocking(move || watch.look_into(follow)).await {
                        Ok(watch) => watch,
                        Err(status) => {
                            // The caller may have gone.
                            let _ = out.send(Err(status)).await;
                            return;
                        }
                    };
                }
            }
        }
    }
}

impl Watch {
    /// Takes what the kernel tells, as far as there is room.
    fn read(&mut self, channel: &OwnedFd) -> rustix::io::Result<Read> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(channel, &mut buffer);
        let mut follow = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => self.event(&event, &mut follow),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Read { drained: true, follow }),
                Err(error) => return Err(error),
            }
            if reader.is_buffer_empty() && (self.removed || !self.pending.has_room() || !follow.is_empty()) {
                return Ok(Read { drained: false, follow });
            }
        }
    }

    fn event(&mut self, event: &Event<'_>, follow: &mut Vec<Follow>) {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.pending.overflow();
            follow.push(Follow::Everything);
            return;
        }
        let Some(name) = event.file_name() else { return self.about_itself(event.wd(), flags) };
        let name = OsStr::from_bytes(name.to_bytes());
        let Some(path) = self.tree.path(event.wd(), name) else { return };
        let is_dir = flags.contains(ReadFlags::ISDIR);
        if self.tree.excludes(&path) {
            // What is left out may leave that, by a new name, or come to it.
            if flags.contains(ReadFlags::MOVED_FROM) && is_dir {
                self.tree.forget_named(event.wd(), name);
            }
            return;
        }
        let purpose = temp::purpose(name);
        if flags.contains(ReadFlags::MOVED_FROM) {
            let of = (event.wd(), name.to_owned());
            self.pending.moved_from(event.cookie(), path, is_dir, purpose, of);
        } else if flags.contains(ReadFlags::MOVED_TO) && purpose.is_none() {
            let to = (event.wd(), name);
            let new = self.pending.moved_to(event.cookie(), &path, is_dir, &mut self.tree, to);
            if new && is_dir && self.tree.recursive() {
                follow.push(Follow::New(path));
            }
        } else if purpose.is_some() {
            // What this agent has in the making is told when it is in its place.
        } else if flags.contains(ReadFlags::CREATE) {
            self.pending.push(WatchKind::Created, &path, is_dir);
            if is_dir && self.tree.recursive() {
                follow.push(Follow::New(path));
            }
        } else if flags.contains(ReadFlags::DELETE) {
            self.pending.push(WatchKind::Removed, &path, is_dir);
        } else if flags.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB | ReadFlags::CLOSE_WRITE)
            && !(has_no_name(name) && self.tree.is_gone(&path))
        {
            self.pending.push(WatchKind::Changed, &path, is_dir);
        }
    }

    /// What the kernel tells about a directory that is watched, and not about what is in it.
    fn about_itself(&mut self, watch: i32, flags: ReadFlags) {
        if self.tree.is_top(watch) {
            let ends =
                ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
            if !self.removed && (flags.intersects(ends) || self.tree.is_gone(Path::new(""))) {
                self.removed = true;
                self.pending.push(WatchKind::Removed, Path::new(""), true);
            }
        } else if flags.contains(ReadFlags::IGNORED) {
            self.tree.forget(watch);
        }
    }

    /// Watches directories that are new, and tells what is in them.
    fn look_into(mut self, follow: Vec<Follow>) -> Result<Self, Status> {
        for one in follow {
            match one {
                Follow::Everything => self.tree.watch_below(Path::new(""), &mut |_, _| {})?,
                Follow::New(path) => {
                    let pending = &mut self.pending;
                    self.tree.watch_below(&path, &mut |path, is_dir| {
                        if pending.has_room() {
                            pending.push(WatchKind::Created, path, is_dir);
                        } else {
                            pending.overflow();
                        }
                    })?;
                }
            }
        }
        Ok(self)
    }
}

/// Whether the kernel calls a file so that has no name: its inode stands for it.
fn has_no_name(name: &OsStr) -> bool {
    name.as_bytes().strip_prefix(b"#").is_some_and(|inode| inode.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests;
