//! Long-lived container workspaces, embedded in the host's own process.
//!
//! An [`Engine`] keeps, for each workspace id, one container with an agent inside. See the crate's README for a tour.
#![forbid(unsafe_code)]

mod backend;
mod bridge;
pub mod config;
mod engine;
pub mod error;
mod lifecycle;
mod names;
mod network;
mod operation;
mod registry;
mod store;
pub mod types;

pub use bridge::{FileReader, FileWriter, Output, Process, StreamKind};
pub use config::Config;
pub use error::{Error, ErrorKind, Result};
pub use names::{ImageRef, WorkspaceId};
