use crate::config::Config;
use crate::error::{Error, Result};
use crate::names::{WorkspaceId, check_identifier};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Where a workspace's things are on the host, and what they are called.
impl Config {
    /// The name of a new workspace's container.
    pub(super) fn container_id(&self, id: &WorkspaceId) -> Result<String> {
        let name = format!("{}{}", self.names.container_prefix, id.container_suffix());
        check_identifier("container", &name).map_err(|_| {
            Error::invalid_argument("the workspace id makes too long a container name: use a shorter id")
                .with("workspace", id)
                .with("container", &name)
        })?;
        Ok(name)
    }

    /// What tells this data root from others in a label: several may share a backend.
    pub(super) fn home_mark(&self) -> String {
        let digest = Sha256::digest(self.data_root.as_os_str().as_encoded_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The directory that is mounted at the guest's run mount: it holds the agent's sockets.
    pub(crate) fn run_dir(&self, id: &WorkspaceId) -> PathBuf {
        self.data_root.join("run").join(id.as_str())
    }

    /// The directory of the files mounted into the guest's `/etc`; nothing inside can write there.
    pub(super) fn etc_dir(&self, id: &WorkspaceId) -> PathBuf {
        self.data_root.join("etc").join(id.as_str())
    }

    /// The newest archive that is preserved of a workspace's data: another name of the one in [`Config::backups`].
    pub(super) fn newest_backup(&self, id: &WorkspaceId) -> PathBuf {
        self.data_root.join("backups").join(format!("{id}.tar.gz"))
    }

    /// The directory of what is preserved of a workspace's data.
    pub(super) fn backups(&self, id: &WorkspaceId) -> PathBuf {
        self.data_root.join("backups").join(id.as_str())
    }

    /// Whether anything is preserved of a workspace's data.
    pub(super) fn has_backups(&self, id: &WorkspaceId) -> bool {
        let any = |dir: std::fs::ReadDir| {
            dir.filter_map(std::result::Result::ok)
                .any(|entry| entry.path().extension().is_some_and(|ending| ending == "json"))
        };
        std::fs::read_dir(self.backups(id)).is_ok_and(any)
            || self.newest_backup(id).metadata().is_ok_and(|file| file.is_file() && file.len() > 0)
    }

    /// The agent's binary on the host.
    pub(super) fn agent(&self) -> PathBuf {
        self.runtime_dir.join("bridge")
    }
}

/// The agent's socket within its run directory.
pub(super) const SOCKET: &str = "bridge.sock";
/// The agent's second socket, which passes file descriptors.
pub(super) const FD_SOCKET: &str = "bridge-fd.sock";
