//! The agent inside a dunnage workspace, and the wire types it speaks.
//!
//! The library part is what a host needs: the generated messages, clients and servers of both protocols
//! ([`bridgepb`], [`v1`]) and the constants both sides must agree on. The feature `agent` (on by default) adds the
//! agent itself, which the binary `dunnage-bridge` runs as a container's first process.

#[cfg(feature = "agent")]
pub mod agent;
mod consts;

pub use consts::*;

/// The protocol that hosts have always spoken: `bridgepb.ContainerService`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::doc_markdown)]
pub mod bridgepb {
    tonic::include_proto!("bridgepb");
}

/// What is new: `dunnage.bridge.v1.Bridge`, and the messages of the descriptor socket.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::doc_markdown)]
pub mod v1 {
    tonic::include_proto!("dunnage.bridge.v1");
}
