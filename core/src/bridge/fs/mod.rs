//! Files inside a workspace.

mod change;
mod convert;
mod copy;
mod download;
mod entries;
mod grep;
mod list;
mod modify;
mod open_read;
mod open_write;
mod read;
mod read_text;
mod stat;
mod stream_write;
mod upload;
mod walk;
mod watch;
mod wish;
mod write;

pub use open_read::FileReader;
pub use open_write::FileWriter;
pub use watch::FileEvents;
pub(super) use wish::Wish;
