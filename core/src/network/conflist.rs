//! The list of plugins that make a network: read from the configuration directory, or our own bridge.

use crate::config::NetworkConfig;
use crate::error::{Error, Result};
use crate::types::PortMapping;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The versions of the CNI specification whose lists and results are understood.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The version of our own list: the newest that Debian 12's plugins know.
const OWN_VERSION: &str = "1.0.0";
/// Where addresses in use are kept, one directory a bridge.
///
/// Every engine of a host that uses the same bridge must see the same addresses, whatever its data root; and they mean
/// nothing after a reboot, which takes every namespace with it.
const OWN_ADDRESSES: &str = "/run/dunnage/addresses";

/// A list of plugins, in the order of ADD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PluginList {
    pub(super) name: String,
    pub(super) cni_version: String,
    #[serde(default)]
    pub(super) disable_check: bool,
    pub(super) plugins: Vec<Map<String, Value>>,
    /// The file it was read from; none for our own.
    #[serde(default)]
    pub(super) source: Option<PathBuf>,
}

impl PluginList {
    /// The first list of the configuration directory by name, or our own bridge when it holds none.
    ///
    /// # Errors
    /// FAILED_PRECONDITION that names the file when it is malformed, of an unknown version or unreadable.
    pub(super) fn choose(config: &NetworkConfig) -> Result<Self> {
        let unreadable = |e: std::io::Error, path: &Path| {
            Error::failed_precondition("cannot read the CNI configuration")
                .with("path", path.display())
                .caused_by(e)
        };
        let entries = match std::fs::read_dir(&config.config_dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::own(config)),
            Err(e) => return Err(unreadable(e, &config.config_dir)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| unreadable(e, &config.config_dir))?.path();
            if path.extension().is_some_and(|e| e == "conflist" || e == "conf") {
                files.push(path);
            }
        }
        let Some(path) = files.into_iter().min() else {
            return Ok(Self::own(config));
        };
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(e, &path))?;
        Self::parse(&text)
            .map(|list| Self { source: Some(path.clone()), ..list })
            .map_err(|e| e.with("path", path.display()))
    }

    /// Reads a list, or a configuration of one plugin.
    fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| Error::failed_precondition(format!("malformed CNI configuration: {what}"));
        let value: Value = serde_json::from_str(text).map_err(|e| bad("it is no JSON").caused_by(e))?;
        let Value::Object(mut top) = value else {
            return Err(bad("it must be an object"));
        };
        let name = top.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let valid = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !valid {
            return Err(
                bad("name it with letters, digits, '_', '.' and '-'").with("name", format!("{name:?}"))
            );
        }
        let cni_version = top.get("cniVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !VERSIONS.contains(&cni_version.as_str()) {
            return Err(bad(&format!("set cniVersion to one of {}", VERSIONS.join(", ")))
                .with("cniVersion", format!("{cni_version:?}")));
        }
        let disable_check = top.get("disableCheck").is_some_and(|v| *v == Value::Bool(true) || *v == "true");
        let plugins = match top.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err(bad("plugins must be a list")),
            None => vec![Value::Object(top)],
        };
        let plugins: Vec<Map<String, Value>> = plugins
            .into_iter()
            .map(|plugin| match plugin {
                Value::Object(plugin) if kind(&plugin).is_some_and(is_file_name) => Ok(plugin),
                _ => Err(bad("each plugin needs a type, the file name of a program")),
            })
            .collect::<Result<_>>()?;
        if plugins.is_empty() {
            return Err(bad("it lists no plugins"));
        }
        Ok(Self { name, cni_version, disable_check, plugins, source: None })
    }

    /// Our own network: a bridge with masquerading, published ports and, where the plugin is there, leave to forward.
    fn own(config: &NetworkConfig) -> Self {
        let mut plugins = vec![
            json!({
                "type": "bridge",
                "bridge": config.bridge,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "promiscMode": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": config.subnet }]],
                    "dataDir": OWN_ADDRESSES,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }),
            json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
        ];
        if find("firewall", &config.plugin_dirs).is_some() {
            plugins.push(json!({ "type": "firewall" }));
        }
        let plugins = plugins
            .into_iter()
            .filter_map(|plugin| match plugin {
                Value::Object(plugin) => Some(plugin),
                _ => None,
            })
            .collect();
        // The name decides, with the bridge, which addresses are taken: two bridges may have the same subnet.
        Self {
            name: config.bridge.clone(),
            cni_version: OWN_VERSION.to_owned(),
            disable_check: false,
            plugins,
            source: None,
        }
    }

    /// Whether a plugin that publishes ports is among them.
    fn publishes_ports(&self) -> bool {
        self.plugins.iter().any(takes_ports)
    }

    /// Checks that every plugin is there, and one that publishes ports when there are any.
    ///
    /// # Errors
    /// FAILED_PRECONDITION that names each missing plugin and the directories searched.
    pub(super) fn check(&self, dirs: &[PathBuf], ports: &[PortMapping]) -> Result<()> {
        let source = self.source.as_ref().map_or("built in".to_owned(), |p| p.display().to_string());
        let mut missing: Vec<&str> = Vec::new();
        for plugin in &self.plugins {
            let ipam = plugin.get("ipam").and_then(|i| i.get("type")).and_then(Value::as_str);
            for name in kind(plugin).into_iter().chain(ipam.filter(|name| !name.is_empty())) {
                if find(name, dirs).is_none() && !missing.contains(&name) {
                    missing.push(name);
                }
            }
        }
        if !missing.is_empty() {
            return Err(Error::failed_precondition(format!(
                "CNI plugins are missing: {}; install them (Debian: containernetworking-plugins) or set network.plugin_dirs",
                missing.join(", ")
            ))
            .with("missing", missing.join(", "))
            .with("searched", shown(dirs))
            .with("configuration", source));
        }
        if !ports.is_empty() && !self.publishes_ports() {
            return Err(Error::failed_precondition(
                "the CNI configuration publishes no ports: add the portmap plugin with the capability portMappings",
            )
            .with("configuration", source));
        }
        Ok(())
    }
}

/// The program of a plugin.
pub(super) fn kind(plugin: &Map<String, Value>) -> Option<&str> {
    plugin.get("type").and_then(Value::as_str)
}

/// Whether a plugin wants the published ports.
pub(super) fn takes_ports(plugin: &Map<String, Value>) -> bool {
    plugin.get("capabilities").and_then(|c| c.get("portMappings")) == Some(&Value::Bool(true))
}

/// The first executable file of this name.
pub(super) fn find(name: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    if !is_file_name(name) {
        return None;
    }
    dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

/// The directories as people read them.
pub(super) fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A plugin's name must not lead out of the plugin directories.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn config(dir: &Path) -> NetworkConfig {
        NetworkConfig { config_dir: dir.to_owned(), ..NetworkConfig::default() }
    }

    #[test]
    fn the_first_file_by_name_decides_and_none_means_our_own() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PluginList::choose(&config(&dir.path().join("none"))).unwrap().name, "dunnage0");
        std::fs::write(dir.path().join("00-readme.txt"), "x").unwrap();
        assert_eq!(PluginList::choose(&config(dir.path())).unwrap().source, None);
        std::fs::write(dir.path().join("20.conf"), r#"{"cniVersion":"0.3.1","name":"b","type":"bridge"}"#)
            .unwrap();
        assert_eq!(PluginList::choose(&config(dir.path())).unwrap().name, "b");
        std::fs::write(
            dir.path().join("10.conflist"),
            r#"{"cniVersion":"0.4.0","name":"a","plugins":[{"type":"ptp"},{"type":"tuning"}]}"#,
        )
        .unwrap();
        let list = PluginList::choose(&config(dir.path())).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len()), ("a", 2));
    }

    #[test]
    fn a_malformed_list_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "{",
            "[]",
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#,
            r#"{"cniVersion":"9.0.0","name":"a","plugins":[{"type":"a"}]}"#,
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#,
            r#"{"cniVersion":"1.0.0","name":"a","plugins":{}}"#,
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"../sh"}]}"#,
            r#"{"cniVersion":"1.0.0","name":"../a","plugins":[{"type":"a"}]}"#,
        ] {
            std::fs::write(dir.path().join("a.conflist"), text).unwrap();
            let error = PluginList::choose(&config(dir.path())).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{text}");
            assert!(error.to_string().contains("a.conflist"), "{error}");
        }
    }

    #[test]
    fn each_missing_plugin_is_named_with_the_places_searched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("portmap"), "not executable").unwrap();
        let dirs = [dir.path().to_owned()];
        let error = PluginList::own(&NetworkConfig::default()).check(&dirs, &[]).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(text.contains("bridge, host-local, portmap"), "{text}");
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
    }

    #[test]
    fn ports_need_a_plugin_that_publishes_them() {
        let list =
            PluginList::parse(r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"sh"}]}"#).unwrap();
        let dirs = [PathBuf::from("/bin")];
        list.check(&dirs, &[]).unwrap();
        let error = list.check(&dirs, &[PortMapping::tcp(80, 80)]).unwrap_err();
        assert!(error.to_string().contains("portMappings"), "{error}");
    }
}
