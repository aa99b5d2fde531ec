//! The engine and its handles: the whole public face of the library.

mod call;
mod data;
mod events;
mod exec;
mod fs;
mod handle;
mod image;
mod mcp;
mod open;
mod skills;
mod snapshots;
mod tools;
mod workspace;

pub use call::CallOptions;
pub use data::Data;
pub use exec::Exec;
pub use fs::Fs;
pub use handle::Engine;
pub use image::Images;
pub use mcp::Mcp;
pub use skills::Skills;
pub use snapshots::Snapshots;
pub use tools::Tools;
pub use workspace::Workspace;

pub(crate) use handle::EngineInner;
