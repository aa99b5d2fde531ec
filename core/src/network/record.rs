//! What is kept of an attachment: the intent while the plugins run, and their answer afterwards.

use super::conflist::PluginList;
use crate::error::{Error, Result};
use crate::own_file::{self, Durability};
use crate::types::{NetworkInfo, NetworkMode, PortMapping};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// An attachment, or one that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The container.
    pub(super) container: String,
    /// The id that the plugins know it by.
    pub(super) cni_id: String,
    /// The list it was made with: it is taken down with the same, whatever the configuration says by then.
    pub(super) list: PluginList,
    /// The published ports.
    pub(super) ports: Vec<PortMapping>,
    /// The answer of the last plugin; none while they run.
    pub(super) result: Option<Value>,
    /// While they run, the answer of the last one that is through: what the next one made is found by it.
    #[serde(default)]
    pub(super) partial: Option<Value>,
}

/// What the file of a record holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kept {
    /// No file.
    Nothing,
    /// A record.
    Record(Box<Record>),
    /// Something else: nothing is known but that there was one.
    Unreadable,
}

impl Record {
    /// Reads the record at `path`.
    pub(super) fn load(path: &Path) -> Result<Kept> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .map_or(Kept::Unreadable, |record| Kept::Record(Box::new(record)))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Kept::Nothing),
            Err(e) => Err(Error::io(e, "cannot read the network record").with("path", path.display())),
        }
    }

    /// Writes the record, on the disk once it has an answer.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| Error::unexpected("cannot spell the network record").caused_by(e))?;
        // Without an answer it is there for a crash of this process only: a crash of the host takes the half-made
        // attachment itself away.
        let durability = if self.result.is_some() { Durability::Synced } else { Durability::Cached };
        own_file::write(path, &bytes, 0o600, durability)
            .map_err(|e| Error::io(e, "cannot write the network record").with("path", path.display()))
    }

    /// Removes the record at `path`, if there is one, and what is left of one that was being written.
    pub(super) fn remove(path: &Path) -> Result<()> {
        own_file::remove(path)
            .map_err(|e| Error::io(e, "cannot remove the network record").with("path", path.display()))
    }

    /// The attachment as it is shown; none while it is being made.
    pub(super) fn info(&self) -> Option<NetworkInfo> {
        self.result.as_ref().map(|result| self.shown(result))
    }

    /// The answer that tells most: the last one, be it of the whole list or not.
    pub(super) fn newest(&self) -> Option<&Value> {
        self.result.as_ref().or(self.partial.as_ref())
    }

    fn shown(&self, result: &Value) -> NetworkInfo {
        let mut info = NetworkInfo {
            mode: NetworkMode::Cni,
            network: self.list.name.clone(),
            ports: self.ports.clone(),
            ..NetworkInfo::default()
        };
        for ip in inside(result) {
            info.addresses.extend(ip.get("address").and_then(Value::as_str).map(str::to_owned));
            if let Some(gateway) = ip.get("gateway").and_then(Value::as_str)
                && !info.gateways.iter().any(|g| g == gateway)
            {
                info.gateways.push(gateway.to_owned());
            }
        }
        info
    }

    /// The addresses inside, with prefix lengths, as far as they are known.
    pub(super) fn addresses(&self) -> Vec<(IpAddr, u8)> {
        let info = self.newest().map(|result| self.shown(result)).unwrap_or_default();
        let parsed = info.addresses.iter().filter_map(|text| {
            let (address, prefix) = text.split_once('/')?;
            Some((address.parse().ok()?, prefix.parse().ok()?))
        });
        parsed.collect()
    }
}

/// The addresses of a result that are inside the container: those of an interface with a sandbox, or of none named.
fn inside(result: &Value) -> impl Iterator<Item = &Value> {
    let interfaces = result.get("interfaces").and_then(Value::as_array);
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ips.iter().filter(move |ip| {
        let index = ip.get("interface").and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok());
        let interface = index.and_then(|i| interfaces?.get(i));
        interface.is_none_or(|i| i.get("sandbox").and_then(Value::as_str).is_some_and(|s| !s.is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(result: Option<Value>) -> Record {
        let list = json!({"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge"}]});
        Record {
            container: "c".to_owned(),
            cni_id: "c-1".to_owned(),
            list: serde_json::from_value(list).unwrap(),
            ports: vec![PortMapping::tcp(1, 2)],
            result,
            partial: None,
        }
    }

    #[test]
    fn only_addresses_inside_are_shown() {
        let result = json!({
            "interfaces": [{"name":"br"}, {"name":"eth0","sandbox":"/x"}],
            "ips": [
                {"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},
                {"interface":0,"address":"10.0.0.1/24"},
                {"address":"fd00::2/64","gateway":"10.0.0.1"},
            ],
        });
        let record = record(Some(result));
        let info = record.info().unwrap();
        assert_eq!(info.addresses, ["10.0.0.2/24", "fd00::2/64"]);
        assert_eq!(info.gateways, ["10.0.0.1"]);
        assert_eq!(record.addresses()[1], ("fd00::2".parse().unwrap(), 64));
    }

    #[test]
    fn a_record_survives_the_file_and_an_intent_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/c.json");
        assert_eq!(Record::load(&path).unwrap(), Kept::Nothing);
        let intent = record(None);
        intent.save(&path).unwrap();
        assert_eq!(Record::load(&path).unwrap(), Kept::Record(Box::new(intent.clone())));
        assert_eq!(intent.info(), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Record::load(&path).unwrap(), Kept::Unreadable);
        // A writer that died before it moved its file.
        std::fs::write(own_file::temporary(&path), "{").unwrap();
        intent.save(&path).unwrap();
        std::fs::write(own_file::temporary(&path), "{").unwrap();
        Record::remove(&path).unwrap();
        Record::remove(&path).unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
