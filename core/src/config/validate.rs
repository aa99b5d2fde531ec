use super::Config;
use crate::error::{Error, Result};
use crate::names::{ImageRef, check_identifier};
use std::path::Path;

/// The longest time limit that is taken for meant: a day.
const MAX_LIMIT_MS: u64 = 24 * 60 * 60 * 1000;

impl Config {
    /// Checks every field, before anything is touched.
    ///
    /// # Errors
    /// INVALID_ARGUMENT that names the field as `section.field`, and what it may be.
    pub fn validate(&self) -> Result<()> {
        absolute("data_root", &self.data_root)?;
        absolute("runtime_dir", &self.runtime_dir)?;
        ImageRef::parse(&self.default_image).map_err(|e| e.with("field", "default_image"))?;
        if let Some(zone) = &self.timezone
            && (zone.is_empty() || zone.len() > 64 || zone.contains(['\0', '\n', '=']))
        {
            return Err(bad("timezone", "name a zone such as Europe/Vienna", zone));
        }
        check_identifier("namespace", &self.containerd.namespace)
            .map_err(|e| e.with("field", "containerd.namespace"))?;
        if let Some(address) = &self.containerd.address {
            let path = address.strip_prefix("unix://").unwrap_or(address);
            absolute("containerd.address", Path::new(path))?;
        }
        between("flatten_at", u64::from(self.flatten_at), 2, 300)?;
        not_empty("containerd.runtime", &self.containerd.runtime)?;
        not_empty("containerd.snapshotter", &self.containerd.snapshotter)?;
        self.validate_names()?;
        absolute("guest.runtime_mount", &self.guest.runtime_mount)?;
        absolute("guest.run_mount", &self.guest.run_mount)?;
        absolute("guest.data_dir", &self.guest.data_dir)?;
        between("guest.skill_roots", self.guest.skill_roots.len() as u64, 1, 64)?;
        for root in &self.guest.skill_roots {
            if root.is_empty() || root.len() > 4095 || root.contains('\0') {
                return Err(bad("guest.skill_roots", "each is a path of 1 to 4095 bytes", root));
            }
        }
        between("data.keep_generations", u64::from(self.data.keep_generations), 1, 1000)?;
        between("registry.parallel_layers", u64::from(self.registry.parallel_layers), 1, 64)?;
        between("registry.stall_ms", self.registry.stall_ms, 10, MAX_LIMIT_MS)?;
        between("registry.retries", u64::from(self.registry.retries), 0, 100)?;
        let limits = &self.time_limits;
        for (field, value) in [
            ("time_limits.connect_ms", limits.connect_ms),
            ("time_limits.lock_ms", limits.lock_ms),
            ("time_limits.backend_ms", limits.backend_ms),
            ("time_limits.network_ms", limits.network_ms),
            ("time_limits.ready_ms", limits.ready_ms),
            ("time_limits.stop_ms", limits.stop_ms),
            ("time_limits.kill_ms", limits.kill_ms),
            ("time_limits.settle_ms", limits.settle_ms),
        ] {
            between(field, value, 1, MAX_LIMIT_MS)?;
        }
        self.validate_network()
    }

    fn validate_names(&self) -> Result<()> {
        let prefixes = std::iter::once(&self.names.container_prefix).chain(self.names.legacy_prefixes.iter());
        for prefix in prefixes {
            check_identifier("prefix", &format!("{prefix}x")).map_err(|e| e.with("field", "names"))?;
            if prefix.is_empty() || prefix.len() > 12 {
                return Err(bad("names", "a prefix has 1 to 12 characters", prefix));
            }
        }
        not_empty("names.id_label", &self.names.id_label)?;
        for (key, value) in &self.names.labels {
            if key.is_empty() || key.len() + value.len() > 4096 {
                return Err(bad("names.labels", "key and value together may have 1 to 4096 bytes", key));
            }
        }
        Ok(())
    }

    fn validate_network(&self) -> Result<()> {
        let network = &self.network;
        let bridge = &network.bridge;
        // IFNAMSIZ is 16 with its NUL: include/uapi/linux/if.h.
        if bridge.is_empty()
            || bridge.len() > 15
            || !bridge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(bad("network.bridge", "an interface name has 1 to 15 letters and digits", bridge));
        }
        let subnet = network.subnet.split_once('/').and_then(|(address, length)| {
            let address: std::net::Ipv4Addr = address.parse().ok()?;
            let length: u8 = length.parse().ok()?;
            let host_bits = 32u32.checked_sub(u32::from(length))?;
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            ((8..=29).contains(&length) && u32::from(address) & !mask == 0).then_some(())
        });
        if subnet.is_none() {
            return Err(bad("network.subnet", "use an IPv4 network such as 10.88.64.0/20", &network.subnet));
        }
        for server in &network.nameservers {
            if server.parse::<std::net::IpAddr>().is_err() {
                return Err(bad("network.nameservers", "use IP addresses", server));
            }
        }
        for dir in network.plugin_dirs.iter().chain(std::iter::once(&network.config_dir)) {
            absolute("network", dir)?;
        }
        Ok(())
    }
}

fn bad(field: &'static str, what: &str, value: &str) -> Error {
    Error::invalid_argument(format!("malformed setting {field}: {what}"))
        .with("field", field)
        .with("value", format!("{value:?}"))
}

fn absolute(field: &'static str, path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if path.is_absolute() && !text.contains('\0') {
        return Ok(());
    }
    Err(bad(field, "use an absolute path", &text))
}

fn not_empty(field: &'static str, value: &str) -> Result<()> {
    if value.is_empty() { Err(bad(field, "it must not be empty", value)) } else { Ok(()) }
}

fn between(field: &'static str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(bad(field, &format!("it may be {low} to {high}"), &value.to_string()))
}
