//! Operations: multi-step writes that outlive the call that began them.
//!
//! Each runs in a task of its own. Dropping the handle, or the request it served, never leaves half a write; cancelling
//! undoes what was done, or, past the point of no return, lets it complete.

mod context;
mod events;
mod handle;
mod locks;
mod runner;

pub use events::EventStream;
pub use handle::{Operation, OperationStatus};

pub(crate) use context::{Copied, OperationContext, cancelled};
pub(crate) use locks::{WorkspaceGuard, WorkspaceLocks};
pub(crate) use runner::{Runner, timed_out};
