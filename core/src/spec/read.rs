use crate::backend::{GuestMount, NetworkNamespace, ResolvedUser};
use serde::Deserialize;
use std::path::PathBuf;

/// The parts of a specification that are read back. Everything is optional: containers of other programs are read too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seen {
    mounts: Vec<SeenMount>,
    process: SeenProcess,
    linux: Option<SeenLinux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeenProcess {
    user: SeenUser,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SeenUser {
    uid: u32,
    gid: u32,
    additional_gids: Vec<u32>,
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

/// What is read back of a specification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadBack {
    /// The host paths that show inside.
    pub(crate) mounts: Vec<GuestMount>,
    pub(crate) network: NetworkNamespace,
    /// Whose the first process is.
    pub(crate) user: ResolvedUser,
}

/// Reads a specification in JSON, whoever wrote it. One that cannot be read has no mounts, a private network and root as
/// its user: such a container is not ours, and listing it must not fail.
pub(crate) fn read_back(json: &[u8]) -> ReadBack {
    let Ok(seen) = serde_json::from_slice::<Seen>(json) else {
        let user = ResolvedUser::default();
        return ReadBack { mounts: Vec::new(), network: NetworkNamespace::Private, user };
    };
    let mounts = seen.mounts.into_iter().filter_map(guest_mount).collect();
    let namespaces = seen.linux.unwrap_or_default().namespaces.unwrap_or_default();
    let network = match namespaces.into_iter().find(|namespace| namespace.kind == "network") {
        None => NetworkNamespace::Host,
        Some(namespace) if namespace.path.as_os_str().is_empty() => NetworkNamespace::Private,
        Some(namespace) => NetworkNamespace::Path(namespace.path),
    };
    let SeenUser { uid, gid, additional_gids } = seen.process.user;
    ReadBack { mounts, network, user: ResolvedUser { uid, gid, additional_gids } }
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
        let json = br#"{"ociVersion":"1.1.0","process":{"user":{"uid":7,"gid":8,"additionalGids":[9]}},"mounts":[
            {"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/data","type":"bind","source":"/srv/bots/a","options":["rbind","rw"]},
            {"destination":"/etc/resolv.conf","source":"/r","options":["bind","ro"]}],
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/a"}]},"windows":{"odd":1}}"#;
        let ReadBack { mounts, network, user } = read_back(json);
        assert_eq!(user, ResolvedUser { uid: 7, gid: 8, additional_gids: vec![9] });
        let mount = |source: &str, target: &str, read_only| GuestMount {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        assert_eq!(mounts, [mount("/srv/bots/a", "/data", false), mount("/r", "/etc/resolv.conf", true)]);
        assert_eq!(network, NetworkNamespace::Path("/run/netns/a".into()));
        assert_eq!(read_back(br#"{"linux":{}}"#).network, NetworkNamespace::Host);
        assert_eq!(
            read_back(br#"{"linux":{"namespaces":[{"type":"network"}]}}"#).network,
            NetworkNamespace::Private
        );
        let unread = read_back(b"\x0a\x02");
        assert!(unread.mounts.is_empty() && unread.network == NetworkNamespace::Private, "{unread:?}");
    }
}
