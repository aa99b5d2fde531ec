//! The agent: a container's first process, which serves files and commands over a Unix socket.
//!
//! | file | what |
//! |---|---|
//! | `config`, `boot`, `memory`, `seed` | environment, process set-up, first-boot files |
//! | `tree` | the agent outside, as a server of a tree of files |
//! | `listener`, `server` | sockets, gRPC server, graceful stop |
//! | `reaper` | the one place that waits for children |
//! | `launch`, `program`, `shell`, `user`, `pty`, `channel`, `spawn`, `child` | from a request to a running child |
//! | `session`, `pump`, `feed`, `activity`, `kill` | a running child: output, input, ending it |
//! | `sessions`, `held`, `replay`, `attach` | children that live on without a client |
//! | `threads` | where calls that may wait are made |
//! | `paths`, `errors`, `long`, `locks`, `temp`, `own_fds` | what all work on files stands on |
//! | `atomic`, `revision`, `link`, `change`, `copy`, `remove` | changing files |
//! | `entry`, `walk`, `scan`, `page`, `globs`, `glob`, `grep`, `watch`, `read_text`, `raw` | looking at files |
//! | `legacy`, `v1`, `files`, `fdpass` | the three faces on the wire |
//!
//! Everything runs on one thread, except file system calls and the start of programs, which go to a few blocking threads,
//! and work on whole trees, which gets threads of its own while it lasts. Output and input pass
//! through short bounded queues, so that a slow client stalls its own stream and nothing else.

// A gRPC status is what every function here fails with; boxing it would only move it back at the edge.
#![allow(clippy::result_large_err)]

mod activity;
mod atomic;
mod attach;
mod boot;
mod change;
mod channel;
mod child;
mod config;
mod copy;
mod entry;
mod errors;
mod fdpass;
mod feed;
mod files;
mod glob;
mod globs;
mod grep;
mod held;
mod kill;
mod launch;
mod legacy;
mod link;
mod listener;
mod locks;
mod long;
mod memory;
mod own_fds;
mod page;
mod paths;
mod program;
mod pty;
mod pump;
mod raw;
mod read_text;
mod reaper;
mod remove;
mod replay;
mod revision;
mod scan;
mod seed;
mod server;
mod session;
mod sessions;
mod shell;
mod spawn;
mod state;
mod temp;
mod threads;
mod tree;
mod user;
mod v1;
mod walk;
mod watch;

pub use boot::main;
pub use config::Config;
pub use server::serve;
