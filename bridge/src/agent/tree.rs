//! The agent as a server of files and nothing else, for a tree that no agent runs in: that of a container that does not
//! run, or that has none of its own.
//!
//! The host starts it outside of any container with three descriptors: the root of the tree, a socket to the host, and
//! something to hold. It moves below that root, becomes the user that the tree is used as, and gives up what containers do
//! not have either; from then on no path of the host can be reached. It ends when the host closes the socket, or is gone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{chroot, fchdir};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_gid, set_thread_groups,
    set_thread_uid,
};

use super::own_fds;
use crate::consts::{FILES_FOLLOW, FILES_USER};

/// What of root's privileges is left: those on files that containers have.
const FILE_PRIVILEGES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// What the host gave.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Closed by the host when it is enough.
    pub(crate) host: OwnedFd,
    /// A process whose end is the end of this one too.
    pub(crate) follow: Option<OwnedFd>,
    user: User,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Tree {
    /// Takes the standard descriptors, 0 for the root, 1 for the host and 2 for what is to be held, and leaves none of them
    /// in their places. The last is held for as long as this process lives unless it is a process to follow.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for arguments that make no sense; those of the system.
    pub(crate) fn take(args: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let (mut user, mut follow) = (User::default(), false);
        for arg in args {
            let arg = arg.to_string_lossy();
            match arg.strip_prefix(FILES_USER) {
                Some(text) => user = User::parse(text).ok_or_else(malformed)?,
                None if arg == FILES_FOLLOW => follow = true,
                None => return Err(malformed()),
            }
        }
        let root = io::stdin().as_fd().try_clone_to_owned()?;
        let host = io::stdout().as_fd().try_clone_to_owned()?;
        let held = io::stderr().as_fd().try_clone_to_owned()?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // Nothing may ever be printed into what is held.
        rustix::stdio::dup2_stderr(&null)?;
        let follow = if follow {
            Some(held)
        } else {
            // Open until the process ends: what it holds, such as a lock, is held for just as long.
            std::mem::forget(held);
            None
        };
        Ok(Self { root, host, follow, user })
    }

    /// Moves below the root, for good. The process may have no second thread yet.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn enter(&self) -> io::Result<()> {
        own_fds::keep();
        fchdir(&self.root)?;
        chroot(".")?;
        set_no_new_privs(true)?;
        let groups: Vec<Gid> = self.user.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        set_thread_gid(Gid::from_raw(self.user.gid))?;
        if self.user.uid != 0 {
            // Takes all privileges along.
            return Ok(set_thread_uid(Uid::from_raw(self.user.uid))?);
        }
        let sets = CapabilitySets {
            effective: FILE_PRIVILEGES,
            permitted: FILE_PRIVILEGES,
            inheritable: CapabilitySet::empty(),
        };
        Ok(set_capabilities(None, sets)?)
    }
}

impl User {
    /// `uid:gid[:group,…]`.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(3, ':');
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let groups = fields.next().unwrap_or_default().split(',').filter(|group| !group.is_empty());
        Some(Self { uid, gid, groups: groups.map(|group| group.parse().ok()).collect::<Option<_>>()? })
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "malformed arguments of the server of files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_given_by_numbers() {
        let user = |uid, gid, groups: &[u32]| Some(User { uid, gid, groups: groups.to_vec() });
        assert_eq!(User::parse("0:0"), user(0, 0, &[]));
        assert_eq!(User::parse("1000:1001:1001,44"), user(1000, 1001, &[1001, 44]));
        for text in ["", "0", "root:root", "1:2:x", "-1:0", "1:2:3:4"] {
            assert_eq!(User::parse(text), None, "{text}");
        }
    }
}
