use crate::backend::{GuestMount, NetworkNamespace};
use serde::Deserialize;
use std::path::PathBuf;

/// The parts of a specification that are read back. Everything is optional: containers of other programs are read too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seen {
    mounts: Vec<SeenMount>,
    linux: Option<SeenLinux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeenMount {
    destination: PathBuf,
    #[serde(rename = "type")]
    kind: String,
    source: PathBuf,
    options: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeenLinux {
    namespaces: Option<Vec<SeenNamespace>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeenNamespace {
    #[serde(rename = "type")]
    kind: String,
    path: PathBuf,
}

/// The host paths that show inside and the network of a specification in JSON, whoever wrote it. One that cannot be
/// read has no mounts and a private network: such a container is not ours, and listing it must not fail.
pub(crate) fn read_back(json: &[u8]) -> (Vec<GuestMount>, NetworkNamespace) {
    let seen: Seen = match serde_json::from_slice(json) {
        Ok(seen) => seen,
        Err(_) => return (Vec::new(), NetworkNamespace::Private),
    };
    let mounts = seen.mounts.into_iter().filter_map(guest_mount).collect();
    let namespaces = seen.linux.unwrap_or_default().namespaces.unwrap_or_default();
    let network = match namespaces.into_iter().find(|namespace| namespace.kind == "network") {
        None => NetworkNamespace::Host,
        Some(namespace) if namespace.path.as_os_str().is_empty() => NetworkNamespace::Private,
        Some(namespace) => NetworkNamespace::Path(namespace.path),
    };
    (mounts, network)
}

fn guest_mount(mount: SeenMount) -> Option<GuestMount> {
    let options = mount.options.unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option == name);
    let bind = mount.kind == "bind" || has("bind") || has("rbind");
    bind.then(|| GuestMount {
        source: mount.source,
        target: mount.destination,
        read_only: has("ro") || has("rro"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_of_others_are_read() {
        let json = br#"{"ociVersion":"1.1.0","mounts":[
            {"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/data","type":"bind","source":"/srv/bots/a","options":["rbind","rw"]},
            {"destination":"/etc/resolv.conf","source":"/r","options":["bind","ro"]}],
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/a"}]},"windows":{"odd":1}}"#;
        let (mounts, network) = read_back(json);
        let mount = |source: &str, target: &str, read_only| GuestMount {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        assert_eq!(mounts, [mount("/srv/bots/a", "/data", false), mount("/r", "/etc/resolv.conf", true)]);
        assert_eq!(network, NetworkNamespace::Path("/run/netns/a".into()));
        assert_eq!(read_back(br#"{"linux":{}}"#).1, NetworkNamespace::Host);
        assert_eq!(
            read_back(br#"{"linux":{"namespaces":[{"type":"network"}]}}"#).1,
            NetworkNamespace::Private
        );
        assert_eq!(read_back(b"\x0a\x02"), (Vec::new(), NetworkNamespace::Private));
    }
}
