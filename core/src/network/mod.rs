//! How workspaces reach the network: pinned namespaces, CNI plugins, and the files that make names resolve inside.
//!
//! A container's network namespace is made here and pinned under the data root, so it outlives tasks and restarts of
//! the host's program, and its address and published ports with it. The plugins are programs that are run one after
//! another; what they answered is kept as a record, which is also the intent while they run: whatever a crash leaves
//! is found by the record and taken down with the very configuration it was made with.
//!
//! Nothing here touches what belongs to another container: a bridge, its chains and its other ports are never removed.

mod cni;
mod conflist;
mod guest;
mod lock;
mod manager;
mod netlink;
mod netns;
mod plugin;
mod ports;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use manager::NetworkManager;
