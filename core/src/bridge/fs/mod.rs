//! Files inside a workspace.

mod convert;
mod copy;
mod download;
mod list;
mod modify;
mod open_read;
mod open_write;
mod read;
mod read_text;
mod stat;
mod stream_write;
mod upload;
mod write;

pub use open_read::FileReader;
pub use open_write::FileWriter;
