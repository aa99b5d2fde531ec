use super::*;
use crate::backend::{GuestMount, ResolvedUser};
use crate::error::ErrorKind;
use crate::types::Limits;
use serde_json::Value;
use std::collections::BTreeMap;

const V1: HostTraits = HostTraits { cgroup_v2: false, compat_32bit: false, open_files: 1 << 20 };
const V2: HostTraits = HostTraits { cgroup_v2: true, compat_32bit: true, open_files: 1 << 20 };

fn container() -> NewContainer {
    let mount = |source: &str, target: &str, read_only| GuestMount {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    NewContainer {
        id: "workspace-a".to_owned(),
        image: "docker.io/library/debian:bookworm-slim".to_owned(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "workspace-a".to_owned(),
        labels: BTreeMap::new(),
        args: vec!["/opt/memoh/bridge".to_owned()],
        env: vec!["PATH=/bin".to_owned(), "BRIDGE_SOCKET_PATH=/run/memoh/bridge.sock".to_owned()],
        working_dir: String::new(),
        user: ResolvedUser { uid: 1000, gid: 1000, additional_gids: vec![44] },
        hostname: "a".to_owned(),
        mounts: vec![
            mount("/srv/deep", "/opt/memoh/toolkit", true),
            mount("/srv/runtime", "/opt/memoh", true),
            mount("/srv/run/a", "/run/memoh", false),
        ],
        network: NetworkNamespace::Path("/run/netns/a".into()),
        limits: Limits::default().cpus(1.5).memory_bytes(1 << 28).pids(512),
        io_device: None,
    }
}

/// As JSON, with the sets of capabilities in a fixed order: they are sets to the library as well.
fn json(container: &NewContainer, host: HostTraits) -> Value {
    let mut json = serde_json::to_value(build(container, "default", host).unwrap()).unwrap();
    for set in json["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by_key(|name| name.as_str().map(str::to_owned));
    }
    json
}

#[test]
fn the_specification_of_a_workspace() {
    let mut json = json(&container(), V2);
    // The profile has its own test; here its length would hide the rest.
    json["linux"].as_object_mut().unwrap().remove("seccomp").unwrap();
    insta::assert_json_snapshot!(json);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_seccomp_profile_of_a_workspace() {
    let json = json(&container(), V1);
    insta::assert_json_snapshot!(json["linux"]["seccomp"]);
}

#[test]
fn dangerous_calls_are_not_allowed() {
    let names: Vec<&str> = syscalls::ALLOWED.split_whitespace().collect();
    let unique: std::collections::HashSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "a name stands twice");
    for call in [
        "add_key",
        "bpf",
        "clone",
        "clone3",
        "delete_module",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mount",
        "move_mount",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "personality",
        "pivot_root",
        "process_vm_writev",
        "quotactl",
        "reboot",
        "request_key",
        "setns",
        "socket",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        assert!(!unique.contains(call), "{call} is allowed");
    }
    for call in ["execve", "futex", "openat2", "fchmodat2", "rseq", "statx"] {
        assert!(unique.contains(call), "{call} is not allowed");
    }
}

#[test]
fn hosts_with_version_1_cgroups_get_no_cgroup_namespace_and_mount() {
    let text = json(&container(), V1).to_string();
    assert!(!text.contains("/sys/fs/cgroup"));
    assert!(!text.contains(r#""type":"cgroup""#));
}

#[test]
fn the_network_is_where_it_was_said_to_be() {
    let network = |network| {
        let container = NewContainer { network, ..container() };
        let json = json(&container, V1);
        read_back(json.to_string().as_bytes()).network
    };
    for wanted in [NetworkNamespace::Host, NetworkNamespace::Private, NetworkNamespace::Path("/n".into())] {
        assert_eq!(network(wanted.clone()), wanted);
    }
}

#[test]
fn mounts_are_read_back_and_parents_come_first() {
    let json = json(&container(), V2);
    let mounts = read_back(json.to_string().as_bytes()).mounts;
    let mut given = container().mounts;
    given.swap(0, 1);
    assert_eq!(
        mounts.iter().map(|m| &m.target).collect::<Vec<_>>(),
        [&given[0].target, &given[2].target, &given[1].target]
    );
    assert!(mounts[0].read_only && !mounts[1].read_only);
}

#[test]
fn open_files_stay_within_what_the_host_allows() {
    let host = HostTraits { open_files: 20_000, ..V1 };
    let limit = &json(&container(), host)["process"]["rlimits"][0];
    assert_eq!((limit["soft"].as_u64(), limit["hard"].as_u64()), (Some(1024), Some(20_000)));
}

#[test]
fn absurd_limits_are_refused() {
    let limits = Limits::default;
    for bad in [
        limits().cpus(0.0),
        limits().cpus(f64::NAN),
        limits().cpus(-1.0),
        limits().cpus(1e9),
        limits().memory_bytes(-1),
        limits().pids(0),
    ] {
        let container = NewContainer { limits: bad.clone(), ..container() };
        let error = build(&container, "default", V1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}
