//! Long-lived container workspaces, embedded in the host's own process.
#![forbid(unsafe_code)]
