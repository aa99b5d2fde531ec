use crate::types::NetworkMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How containerd is reached and used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ContainerdConfig {
    /// The path of its socket. Default: unset, see `backend`.
    pub address: Option<String>,
    /// Its namespace. Default `default`.
    pub namespace: String,
    /// The runtime shim. Default `io.containerd.runc.v2`.
    pub runtime: String,
    /// The path of the OCI runtime's binary, when it is not on the shim's PATH. Default: unset.
    pub runtime_binary: Option<PathBuf>,
    /// The snapshotter. Default `overlayfs`.
    pub snapshotter: String,
}

impl Default for ContainerdConfig {
    fn default() -> Self {
        Self {
            address: None,
            namespace: "default".to_owned(),
            runtime: "io.containerd.runc.v2".to_owned(),
            runtime_binary: None,
            snapshotter: "overlayfs".to_owned(),
        }
    }
}

/// How containers are named and labelled, and which foreign ones are adopted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NamesConfig {
    /// What a container's name starts with. Default `workspace-`.
    pub container_prefix: String,
    /// Prefixes of older containers that are adopted: the id is what follows. Default `["mcp-"]`.
    pub legacy_prefixes: Vec<String>,
    /// The label that carries the workspace id. Default `memoh.bot_id`.
    pub id_label: String,
    /// Labels that every container gets. Default `{"memoh.workspace": "v3"}`.
    pub labels: BTreeMap<String, String>,
}

impl Default for NamesConfig {
    fn default() -> Self {
        Self {
            container_prefix: "workspace-".to_owned(),
            legacy_prefixes: vec!["mcp-".to_owned()],
            id_label: "memoh.bot_id".to_owned(),
            labels: BTreeMap::from([("memoh.workspace".to_owned(), "v3".to_owned())]),
        }
    }
}

/// Where things are inside the container.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GuestConfig {
    /// Where `runtime_dir` is mounted, read-only. Default `/opt/memoh`.
    pub runtime_mount: PathBuf,
    /// Where the socket directory is mounted. Default `/run/memoh`.
    pub run_mount: PathBuf,
    /// The workspace's data directory, in the writable layer. Default `/data`.
    pub data_dir: PathBuf,
    /// Whether programs of the processor's 32-bit mode may run inside. Default false: the system call filter then knows one
    /// architecture, which is safer and starts faster; other programs' calls end them.
    pub compat_32bit: bool,
    /// The directories of the workspace that hold skills, the first of which comes first and takes new ones; relative ones
    /// are under `data_dir`. Default `.skills`.
    pub skill_roots: Vec<String>,
    /// The TCP port of agents of older containers that have no socket. Default 9090.
    pub legacy_port: u16,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            runtime_mount: PathBuf::from("/opt/memoh"),
            run_mount: PathBuf::from("/run/memoh"),
            data_dir: PathBuf::from("/data"),
            compat_32bit: false,
            skill_roots: vec![".skills".to_owned()],
            legacy_port: 9090,
        }
    }
}

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Credential {
    /// The user name, for basic authentication and token requests.
    pub username: Option<String>,
    /// The password or access token that goes with `username`.
    pub password: Option<String>,
    /// A ready bearer token, sent as it is.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

impl Credential {
    /// A user name with its password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: Some(username.into()), password: Some(password.into()), token: None }
    }

    /// A bearer token.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..Self::default() }
    }
}

/// How images are fetched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RegistryConfig {
    /// The directory of containerd's `hosts.toml` files (mirrors, plain http, CA files), one folder a registry.
    /// Default `/etc/containerd/certs.d`.
    pub hosts_dir: PathBuf,
    /// Docker's `config.json` with credentials and credential helpers. Default: `$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`; a missing file is no fault.
    pub docker_config: Option<PathBuf>,
    /// Credentials by registry host, such as `{"ghcr.io": {…}}`. They decide over `docker_config`.
    pub credentials: BTreeMap<String, Credential>,
    /// Layers of one pull that are fetched at a time. Default 4.
    pub parallel_layers: u32,
    /// A download that receives no byte for so long is broken off and resumed. Milliseconds, default 30 000.
    pub stall_ms: u64,
    /// How often a request is repeated after a dropped connection, a stall, 429 or 5xx. Default 6.
    pub retries: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            hosts_dir: PathBuf::from("/etc/containerd/certs.d"),
            docker_config: None,
            credentials: BTreeMap::new(),
            parallel_layers: 4,
            stall_ms: 30_000,
            retries: 6,
        }
    }
}

/// How data is preserved.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataConfig {
    /// How many generations of preserved data are kept of each workspace; older ones go once a newer one is whole. 1 to
    /// 1000; default 3.
    pub keep_generations: u32,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { keep_generations: 3 }
    }
}

/// How workspaces reach the network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// The mode of a workspace that names none. Default `cni`.
    pub mode: NetworkMode,
    /// Directories searched for CNI plugins, in order. Default `["/opt/cni/bin", "/usr/lib/cni"]`.
    pub plugin_dirs: Vec<PathBuf>,
    /// The directory of CNI configurations; the first `.conflist` or `.conf` by name is used. Default
    /// `/etc/cni/net.d`. When it holds none, a bridge network of our own is used.
    pub config_dir: PathBuf,
    /// The bridge of our own network. Default `dunnage0`.
    pub bridge: String,
    /// The subnet of our own network. Default `10.88.64.0/20`.
    pub subnet: String,
    /// Name servers for workspaces on hosts whose resolvers are loopback addresses that no container can reach.
    /// Default `["1.1.1.1", "8.8.8.8"]`.
    pub nameservers: Vec<String>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Cni,
            plugin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            config_dir: PathBuf::from("/etc/cni/net.d"),
            bridge: "dunnage0".to_owned(),
            subnet: "10.88.64.0/20".to_owned(),
            nameservers: vec!["1.1.1.1".to_owned(), "8.8.8.8".to_owned()],
        }
    }
}

/// The time limit of each phase. A phase that passes its limit fails with TIMEOUT and is undone; other phases keep
/// their own. All in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeLimits {
    /// Reaching the backend. Default 5 000.
    pub connect_ms: u64,
    /// Waiting for another process's or task's operation on the same workspace. Default 120 000.
    pub lock_ms: u64,
    /// One call to the backend that is no transfer. Default 60 000.
    pub backend_ms: u64,
    /// One run of a CNI plugin chain. Default 30 000.
    pub network_ms: u64,
    /// From the start of the first process until the agent answers. Default 30 000.
    pub ready_ms: u64,
    /// From SIGTERM until SIGKILL. Default 10 000.
    pub stop_ms: u64,
    /// From SIGKILL until the process must be gone. Default 10 000.
    pub kill_ms: u64,
    /// How long after a host's process died its last request may still take effect in the backend: what it began is
    /// looked for and undone again until then. Default 15 000.
    pub settle_ms: u64,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            lock_ms: 120_000,
            backend_ms: 60_000,
            network_ms: 30_000,
            ready_ms: 30_000,
            stop_ms: 10_000,
            kill_ms: 10_000,
            settle_ms: 15_000,
        }
    }
}
