//! The host's side of the agent: commands and files inside a workspace.
//!
//! | part | what it does |
//! |---|---|
//! | `dial` | reaches the agent's socket without following anything the workspace put there |
//! | `lane` | one HTTP/2 connection, on which gRPC calls run side by side |
//! | `connection` | the lanes to one life of one agent, and what that agent can do |
//! | `pool` | one connection a workspace, made when needed and dropped when it breaks |
//! | `client` | the calls, with their time limits and their second try |
//! | `tree` | serves files where no agent runs |
//! | `ready` | waits until an agent answers |
//! | `exec`, `fs` | what hosts call |
//! | `fd` | bytes by descriptor, past gRPC |
//!
//! What answers on the socket is whatever the workspace runs: sizes, kinds and paths it reports are checked before
//! they are used, and nothing it says makes the host open a path.

mod client;
mod connection;
mod dial;
mod exec;
mod failure;
mod fd;
mod fs;
mod lane;
mod path;
mod pool;
mod ready;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

pub(crate) use client::BridgeClient;
#[cfg(test)]
use connection::AgentInfo;
pub(crate) use dial::BridgeTarget;
pub(crate) use exec::GuestCommands;
pub use exec::{Output, Process, Signal, StreamKind};
pub use fs::{FileEvents, FileReader, FileWriter};
pub(crate) use path::clean as clean_path;
pub(crate) use pool::BridgePool;
pub(crate) use tree::{Hold, Tree, TreeServer};
