//! The tools of a workspace as a server of the Model Context Protocol, for a host to mount or for any client to start.
//!
//! | way | how |
//! |---|---|
//! | in this process | [`dunnage::Tools`], without the protocol |
//! | stdio | [`stdio`], or the program `dunnage-mcp --workspace ID` |
//! | streamable HTTP on loopback | [`http`], or `dunnage-mcp --workspace ID --http 127.0.0.1:0` |
//!
//! The protocol's types come from `rmcp` and stay behind the module `server`.

mod http;
mod server;
mod stdio;

pub use http::{Token, serve as http};
pub use stdio::serve as stdio;
