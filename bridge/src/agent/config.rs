//! Where the agent listens and works.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::consts;

/// What the agent takes from its environment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The gRPC socket: `BRIDGE_SOCKET_PATH`, default `/run/memoh/bridge.sock`.
    pub socket: PathBuf,
    /// Where relative paths start: `BRIDGE_DATA_DIR`, default `/data`.
    pub data_dir: PathBuf,
    /// The host's read-only files: `BRIDGE_RUNTIME_DIR`, default `/opt/memoh`.
    pub runtime_dir: PathBuf,
    /// Whether it serves files and runs nothing. Default false.
    pub files_only: bool,
}

impl Config {
    /// Reads the process environment. Empty values count as unset.
    #[must_use]
    pub fn from_env() -> Self {
        let path = |name: &str, default: &str| {
            let value: Option<OsString> = std::env::var_os(name).filter(|v| !v.is_empty());
            value.map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            socket: path(consts::SOCKET_PATH_ENV, consts::DEFAULT_SOCKET_PATH),
            data_dir: path(consts::DATA_DIR_ENV, consts::DEFAULT_DATA_DIR),
            runtime_dir: path(consts::RUNTIME_DIR_ENV, consts::DEFAULT_RUNTIME_DIR),
            files_only: false,
        }
    }

    /// The descriptor socket, beside the gRPC socket.
    #[must_use]
    pub fn fd_socket(&self) -> PathBuf {
        self.socket.with_file_name(consts::FD_SOCKET_NAME)
    }

    /// Files copied into the data directory on first boot.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.runtime_dir.join("templates")
    }

    /// Directory appended to the `PATH` of commands when it exists.
    #[must_use]
    pub fn toolkit(&self) -> PathBuf {
        self.runtime_dir.join("toolkit/bin")
    }
}
