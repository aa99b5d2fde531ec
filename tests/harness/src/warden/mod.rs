//! A process beside the test that owns every daemon of the test and outlives it just long enough to clean up.
//!
//! A test can end in many ways: it returns, panics, is interrupted, is killed. Only another process can clean
//! up after all of them. The warden is the parent of every daemon and, as sub-reaper, of every orphaned shim
//! and container process below them. It reads requests from a pipe whose other end only the test holds; when
//! the pipe closes, for whatever reason, it takes everything down and ends.
//!
//! Should the warden itself be killed, the next one to start finds its directory unlocked and cleans that too.

mod children;
mod client;
mod process;
mod protocol;
mod sweep;

pub(crate) use children::Children;
pub(crate) use client::Warden;
pub use process::run;
