use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a workspace reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NetworkMode {
    /// Its own network namespace, connected by CNI plugins.
    #[default]
    Cni,
    /// The host's network.
    Host,
    /// Its own network namespace with loopback only.
    None,
}

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads into the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PortMapping {
    /// The port on the host, 1 to 65535.
    pub host_port: u16,
    /// The port inside, 1 to 65535.
    pub container_port: u16,
    /// The transport. Default `tcp`.
    pub protocol: Protocol,
    /// The host's address to listen on. Default: all.
    pub host_ip: Option<String>,
}

impl PortMapping {
    /// A TCP port of the host that leads to one inside.
    pub fn tcp(host_port: u16, container_port: u16) -> Self {
        Self { host_port, container_port, ..Self::default() }
    }
}

/// How a workspace is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// The mode.
    pub mode: NetworkMode,
    /// The addresses inside, with prefix lengths, such as `10.88.64.2/20`.
    pub addresses: Vec<String>,
    /// The gateways inside.
    pub gateways: Vec<String>,
    /// The name of the CNI network; empty without one.
    pub network: String,
    /// The ports of the host that lead inside.
    pub ports: Vec<PortMapping>,
}
