//! What a harness and its warden say to each other: one JSON object a line, one answer a request.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the warden is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub(super) enum Request {
    /// Start a child of the warden; both outputs are appended to `log`.
    Spawn { argv: Vec<String>, env: BTreeMap<String, String>, dir: PathBuf, log: PathBuf },
    /// Send a signal to a child that was spawned before; nothing happens when it has ended.
    Signal { pid: i32, signal: i32 },
    /// Does that child still run?
    Status { pid: i32 },
    /// Remove a directory of ours with everything that runs from it.
    Teardown { dir: PathBuf },
}

/// What the warden answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Response {
    /// First line of all: the directory that the warden made and guards.
    Ready { home: PathBuf },
    /// The child's process id.
    Spawned { pid: i32 },
    /// Whether the child runs, and else how it ended (an exit code, or 128 + signal).
    Status { running: bool, exit: Option<i32> },
    /// Done, with nothing to add.
    Done,
    /// Not done.
    Failed { message: String },
}
