//! Commands inside a workspace.

mod input;
mod launch;
mod process;
mod run;
mod spawn;
mod stream;

pub use process::{Process, StreamKind};
pub use run::Output;
