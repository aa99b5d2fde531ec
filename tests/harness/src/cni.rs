//! A container network of our own: its bridge, its subnet, its list of plugins.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::teardown::NETWORK_FILE;

/// Where Debian installs the plugins.
pub const PLUGIN_DIR: &str = "/usr/lib/cni";

/// One network, unique on this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// Eight hexadecimal digits that appear in every name of this harness.
    pub token: String,
    /// The network's name in its configuration, in firewall comments and in cached results.
    pub name: String,
    /// The bridge, at most 15 characters.
    pub bridge: String,
    /// The IPv4 subnet, a /24.
    pub subnet: String,
}

impl Network {
    /// Chooses names and a free subnet, writes `<dir>/network.json` and `<dir>/cni/10-<name>.conflist`.
    ///
    /// Leases of addresses are kept in `<dir>/ipam`, so two networks never meet.
    ///
    /// # Errors
    /// When the files cannot be written or no subnet is free.
    pub fn create(token: &str, dir: &Path) -> Result<Self> {
        let network = Self {
            token: token.to_owned(),
            name: format!("dunh-{token}"),
            bridge: format!("dh{token}"),
            subnet: free_subnet(token)?,
        };
        let conf = network.conf_dir(dir);
        fs::create_dir_all(&conf).context("cannot make the network's directory")?;
        // First the description: from here on the network can be removed again, whatever happens.
        let described = serde_json::to_vec(&network).context("cannot describe the network")?;
        fs::write(dir.join(NETWORK_FILE), described).context("cannot describe the network")?;
        let list =
            serde_json::to_vec_pretty(&network.conflist(dir)).context("cannot write the plugin list")?;
        fs::write(conf.join(format!("10-{}.conflist", network.name)), list)
            .context("cannot write the plugin list")?;
        Ok(network)
    }

    /// The directory with the plugin list of the network that was created in `dir`.
    pub fn conf_dir(&self, dir: &Path) -> PathBuf {
        dir.join("cni")
    }

    fn conflist(&self, dir: &Path) -> serde_json::Value {
        json!({
            "cniVersion": "1.0.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge", "bridge": self.bridge, "isGateway": true, "ipMasq": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": dir.join("ipam"),
                        "ranges": [[{ "subnet": self.subnet }]],
                        "routes": [{ "dst": "0.0.0.0/0" }]
                    }
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "firewall" }
            ]
        })
    }

    /// Whether a word of a firewall rule is an address of this subnet, or the subnet.
    pub(crate) fn contains(&self, word: &str) -> bool {
        let Some((net, _)) = self.subnet.rsplit_once('.') else { return false };
        let address = word.split('/').next().unwrap_or(word);
        address.parse::<Ipv4Addr>().is_ok()
            && address.strip_prefix(net).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// A /24 below 10.0.0.0/8 that no route of this host reaches into, chosen by the token.
fn free_subnet(token: &str) -> Result<String> {
    let seed = u32::from_str_radix(token, 16).context("a token is eight hexadecimal digits")?;
    let taken = routes();
    (0..4096)
        .map(|step| {
            // 10.128.0.0/9 is the half that fewer other tools use by default.
            let mixed = seed.wrapping_add(step).wrapping_mul(0x9E37_79B1) >> 17;
            Ipv4Addr::from(0x0A80_0000 | (mixed << 8))
        })
        .find(|subnet| {
            let subnet = u32::from(*subnet);
            !taken.iter().any(|&(net, mask)| {
                let common = mask & 0xFFFF_FF00;
                mask != 0 && net & common == subnet & common
            })
        })
        .map(|subnet| format!("{subnet}/24"))
        .ok_or_else(|| Error::new("no free subnet is left in 10.128.0.0/9: remove stale bridges"))
}

/// Destination and mask of every IPv4 route.
fn routes() -> Vec<(u32, u32)> {
    let Ok(text) = fs::read_to_string("/proc/net/route") else { return Vec::new() };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            // The kernel prints the four bytes as they lie in memory, as one number.
            let number = |index: usize| {
                let raw = u32::from_str_radix(fields.get(index)?, 16).ok()?;
                Some(u32::from_be(raw))
            };
            Some((number(1)?, number(7)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Network, free_subnet};

    #[test]
    fn subnets_differ_and_stay_in_range() {
        let one = free_subnet("00000001").unwrap();
        let two = free_subnet("00000002").unwrap();
        assert_ne!(one, two);
        let second: u8 = one.split('.').nth(1).unwrap().parse().unwrap();
        assert!(one.starts_with("10.") && one.ends_with(".0/24") && second >= 128, "{one}");
    }

    #[test]
    fn addresses_are_told_apart() {
        let network = Network {
            token: "00000001".into(),
            name: "n".into(),
            bridge: "b".into(),
            subnet: "10.129.7.0/24".into(),
        };
        assert!(network.contains("10.129.7.9/32"));
        assert!(network.contains("10.129.7.0/24"));
        assert!(!network.contains("10.129.70.9/32"));
        assert!(!network.contains("10.129.7x"));
    }
}
