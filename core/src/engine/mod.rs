//! The engine and its handles: the whole public face of the library.

mod call;
mod data;
mod events;
mod exec;
mod fs;
mod handle;
mod image;
mod open;
mod snapshots;
mod workspace;

pub use call::CallOptions;
pub use data::Data;
pub use exec::Exec;
pub use fs::Fs;
pub use handle::Engine;
pub use image::Images;
pub use snapshots::Snapshots;
pub use workspace::Workspace;

pub(crate) use handle::EngineInner;
