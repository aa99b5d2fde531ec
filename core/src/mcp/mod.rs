//! MCP servers inside workspaces: processes that speak JSON-RPC on stdin and stdout, a message a line.
//!
//! | part | what it does |
//! |---|---|
//! | `protocol` | the messages this side speaks by itself: the beginning of a session, and answers to what a server asks |
//! | `lines` | parts output into lines of bounded length |
//! | `pending` | whose answer is whose: ids of callers and ids on the wire |
//! | `notices` | what a server says without being asked, kept for those who listen |
//! | `connection` | one server: its process, and what is under way |
//! | `table` | the connections of an engine |

mod connection;
mod lines;
mod notices;
mod pending;
mod protocol;
mod table;
#[cfg(test)]
mod tests;

pub use notices::McpNotifications;
pub(crate) use table::McpTable;
