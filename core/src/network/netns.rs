//! Pinned network namespaces: a namespace that is mounted on a file lives until it is unmounted, with or without
//! processes in it.

use super::netlink::Netlink;
use crate::error::{Error, Result};
use crate::failpoints::step;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::retry_on_intr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The type of the file system that namespaces are files of: include/uapi/linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// What an interface in a namespace is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) present: bool,
    pub(super) up: bool,
    /// Its addresses with their prefix lengths, without those that the kernel gives by itself.
    pub(super) addresses: Vec<(IpAddr, u8)>,
}

/// Whether a live network namespace is pinned at `path`.
pub(super) fn is_pinned(path: &Path) -> bool {
    // A file that is no mount has the type of the file system around it.
    statfs(path).is_ok_and(|s| s.f_type as u64 == NSFS_MAGIC)
}

/// Pins a network namespace at `path`, with its loopback interface up, or keeps the one that is there.
///
/// A file that pins nothing, as a reboot leaves it, is replaced. Safe against others that do the same at the same
/// time: they get the same namespace.
pub(super) async fn pin(path: &Path) -> Result<()> {
    let path = path.to_owned();
    in_thread(move || {
        let fault = |e: io::Error, doing: &str| {
            let error = Error::io(e, doing.to_owned()).with("path", path.display());
            if error.kind() == crate::ErrorKind::PermissionDenied {
                return error.with("needs", "root, or CAP_SYS_ADMIN and CAP_NET_ADMIN");
            }
            error
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| fault(e, "cannot make the directory of network namespaces"))?;
        let lock =
            File::open(dir).map_err(|e| fault(e, "cannot open the directory of network namespaces"))?;
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(|e| fault(e.into(), "cannot lock the directory of network namespaces"))?;
        if is_pinned(&path) {
            return Ok(());
        }
        let _step = step("netns.pin");
        unpin_here(&path).map_err(|e| fault(e, "cannot replace the stale network namespace"))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| fault(e, "cannot make the file of the network namespace"))?;
        let pinned = (|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
            Netlink::open()?.loopback_up()?;
            let own = "/proc/thread-self/ns/net";
            nix::mount::mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })();
        pinned.map_err(|e| {
            // The empty file would be replaced later anyway.
            let _ = std::fs::remove_file(&path);
            fault(e, "cannot make a network namespace")
        })
    })
    .await?
}

/// Takes the pin at `path` away. The namespace goes with its last process. Returns whether there was a pin or a file.
pub(super) async fn unpin(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    in_thread(move || {
        let _step = step("netns.unpin");
        unpin_here(&path)
            .map_err(|e| Error::io(e, "cannot remove the network namespace").with("path", path.display()))
    })
    .await?
}

fn unpin_here(path: &Path) -> io::Result<bool> {
    // More than one pin lies there when an earlier version of this program was run twice at a time.
    while is_pinned(path) {
        nix::mount::umount2(path, MntFlags::MNT_DETACH)?;
    }
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// What the interface `name` in the namespace at `path` is like.
pub(super) async fn interface(path: &Path, name: &str) -> Result<Interface> {
    let name = name.to_owned();
    inside(path, move |netlink| {
        let Some(link) = netlink.link(&name)? else {
            return Ok(Interface::default());
        };
        let mut addresses = netlink.addresses(link.index)?;
        addresses.retain(|(address, _)| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
        Ok(Interface { present: true, up: link.up, addresses })
    })
    .await
}

/// Makes sure that the namespace at `path` has an interface `name` with these addresses, be it one without
/// connection.
///
/// The bridge plugin takes the masquerading of only those addresses down that it finds on the interface it deletes.
pub(super) async fn stand_in(path: &Path, name: &str, addresses: Vec<(IpAddr, u8)>) -> Result<()> {
    let name = name.to_owned();
    inside(path, move |netlink| {
        if netlink.link(&name)?.is_none() {
            netlink.add_stand_in(&name)?;
        }
        if let Some(link) = netlink.link(&name)? {
            for (address, prefix) in addresses {
                netlink.add_address(link.index, address, prefix)?;
            }
        }
        Ok(())
    })
    .await
}

/// Runs `work` inside the namespace at `path`.
async fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Netlink) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let path: PathBuf = path.to_owned();
    in_thread(move || {
        let run = || {
            nix::sched::setns(File::open(&path)?, CloneFlags::CLONE_NEWNET)?;
            work(&Netlink::open()?)
        };
        run().map_err(|e| Error::io(e, "cannot look into the network namespace").with("path", path.display()))
    })
    .await?
}

/// Runs `work` in a thread that ends with it, for what changes the thread's own namespaces.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("dunnage-netns".to_owned())
        .spawn(move || {
            // A caller that no longer waits needs no answer.
            let _ = done.send(work());
        })
        .map_err(|e| Error::io(e, "cannot start a thread"))?;
    result.await.map_err(|_| Error::unexpected("the thread of a network namespace ended early"))
}
