//! What an engine is opened with: a struct, a file or the environment, with every default documented.

mod load;
mod sections;
mod validate;

pub use sections::{
    ContainerdConfig, Credential, DataConfig, GuestConfig, NamesConfig, NetworkConfig, RegistryConfig,
    TimeLimits,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which backend carries the workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackendKind {
    /// The configured address, then `$CONTAINERD_ADDRESS`, then containerd's system socket; the first that answers.
    #[default]
    Auto,
    /// containerd at the configured address.
    Containerd,
}

/// Everything an engine needs to know. Every field has a default; unknown fields are refused by name.
///
/// # Examples
/// ```
/// let config = dunnage::Config::default().data_root("/srv/workspaces").default_image("alpine:3");
/// assert_eq!(config.containerd.namespace, "default");
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The host directory of everything that must last: database, sockets, locks, archives. Default
    /// `/var/lib/dunnage`. Created with mode 0700 when absent.
    pub data_root: PathBuf,
    /// The host directory that is mounted read-only at `/opt/memoh`: holds `bridge` and, optionally, `templates/` and
    /// `toolkit/`. Default: `runtime` beside the loaded library's package when the binding ships one, else
    /// `/usr/local/lib/dunnage/runtime`.
    pub runtime_dir: PathBuf,
    /// The backend. Default `auto`.
    pub backend: BackendKind,
    /// The image of a workspace that names none. Default `debian:bookworm-slim`.
    pub default_image: String,
    /// `TZ` inside, such as `Europe/Vienna`. Default: unset.
    pub timezone: Option<String>,
    /// Whether [`Engine::open`](crate::Engine::open) puts all workspaces in order before it returns, as
    /// `engine.reconcile` does. Default false.
    pub reconcile_on_open: bool,
    /// From how many layers above the image on they are made one below a workspace, when a version is made. Fewer make
    /// starts faster, more make versions faster. 2 to 300; default 64.
    pub flatten_at: u32,
    /// containerd.
    pub containerd: ContainerdConfig,
    /// Names and labels.
    pub names: NamesConfig,
    /// Paths inside the container.
    pub guest: GuestConfig,
    /// Preserved data.
    pub data: DataConfig,
    /// Registries.
    pub registry: RegistryConfig,
    /// Networks.
    pub network: NetworkConfig,
    /// Time limits of the phases of an operation.
    pub time_limits: TimeLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_root: PathBuf::from("/var/lib/dunnage"),
            runtime_dir: PathBuf::from("/usr/local/lib/dunnage/runtime"),
            backend: BackendKind::default(),
            default_image: "debian:bookworm-slim".to_owned(),
            timezone: None,
            reconcile_on_open: false,
            flatten_at: 64,
            containerd: ContainerdConfig::default(),
            names: NamesConfig::default(),
            guest: GuestConfig::default(),
            data: DataConfig::default(),
            registry: RegistryConfig::default(),
            network: NetworkConfig::default(),
            time_limits: TimeLimits::default(),
        }
    }
}

impl Config {
    /// Sets [`Config::data_root`].
    #[must_use]
    pub fn data_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_root = path.into();
        self
    }

    /// Sets [`Config::runtime_dir`].
    #[must_use]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = path.into();
        self
    }

    /// Sets [`Config::default_image`].
    #[must_use]
    pub fn default_image(mut self, image: impl Into<String>) -> Self {
        self.default_image = image.into();
        self
    }

    /// Sets the address of containerd's socket.
    #[must_use]
    pub fn containerd_address(mut self, address: impl Into<String>) -> Self {
        self.containerd.address = Some(address.into());
        self
    }

    /// Sets containerd's namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.containerd.namespace = namespace.into();
        self
    }
}
