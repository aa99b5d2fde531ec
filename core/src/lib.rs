//! Long-lived container workspaces, embedded in the host's own process.
//!
//! An [`Engine`] keeps, for each workspace id, one container with an agent inside. See the crate's README for a tour.
#![forbid(unsafe_code)]

mod backend;
mod bridge;
pub mod catalog;
pub mod config;
pub mod engine;
pub mod error;
#[cfg(not(feature = "failpoints"))]
mod failpoints;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod feed;
mod host_file;
mod json;
mod lifecycle;
mod limits;
mod mcp;
mod metrics;
mod names;
mod network;
pub mod operation;
mod own_file;
mod registry;
mod skills;
mod spec;
mod store;
mod tools;
pub mod types;
mod watch;

pub use bridge::{FileEvents, FileReader, FileWriter, Output, Process, Signal, StreamKind};
pub use config::Config;
pub use engine::{CallOptions, Data, Engine, Exec, Fs, Images, Mcp, Skills, Tools, Workspace};
pub use error::{Error, ErrorKind, Result};
pub use feed::LifecycleEvents;
pub use lifecycle::MetricsStream;
pub use lifecycle::data::{DataFeed, DataPieces};
pub use mcp::McpNotifications;
pub use names::{ImageRef, WorkspaceId};
pub use operation::{EventStream, Operation, OperationStatus};
