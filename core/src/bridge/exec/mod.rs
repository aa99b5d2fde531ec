//! Commands inside a workspace.

mod guest;
mod input;
mod kept;
mod launch;
mod process;
mod program;
mod run;
mod sessions;
mod shell;
mod signal;
mod spawn;
mod stream;

pub(crate) use guest::GuestCommands;
pub use process::{Process, StreamKind};
pub use run::Output;
pub use signal::Signal;
