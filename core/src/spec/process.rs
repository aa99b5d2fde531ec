use super::{HostTraits, broken};
use crate::backend::NewContainer;
use crate::error::Result;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilitiesBuilder, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, UserBuilder,
};
use std::path::{Path, PathBuf};

/// The capabilities of containerd's default
/// (<https://github.com/containerd/containerd/blob/main/pkg/oci/spec.go>, `defaultUnixCaps`).
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// What systemd gives a service: a low soft limit, and room for programs that raise it themselves.
const OPEN_FILES_SOFT: u64 = 1024;
const OPEN_FILES_HARD: u64 = 524_288;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(container: &NewContainer, host: HostTraits) -> Result<Process> {
    let user = &container.user;
    // The primary group belongs to the list too: without it, a program that drops the group keeps none of its rights
    // and a denied group is evaded (CVE-2023-25173).
    let mut groups = user.additional_gids.clone();
    if !groups.contains(&user.gid) {
        groups.insert(0, user.gid);
    }
    let oci_user = UserBuilder::default().uid(user.uid).gid(user.gid).additional_gids(groups);
    let set: Capabilities = CAPABILITIES.into_iter().collect();
    // No inheritable and no ambient set: a user other than root has none of these.
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .map_err(broken)?;
    let open_files = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(OPEN_FILES_SOFT.min(host.open_files))
        .hard(OPEN_FILES_HARD.min(host.open_files))
        .build()
        .map_err(broken)?;
    ProcessBuilder::default()
        .terminal(false)
        .user(oci_user.build().map_err(broken)?)
        .args(container.args.clone())
        .env(environment(&container.env))
        .cwd(working_dir(&container.working_dir))
        .capabilities(capabilities)
        .rlimits(vec![open_files])
        .no_new_privileges(true)
        .build()
        .map_err(broken)
}

/// Each name once, with its last value, where it first stood; a PATH when there is none.
fn environment(given: &[String]) -> Vec<String> {
    fn name(entry: &str) -> &str {
        entry.split_once('=').map_or(entry, |(name, _)| name)
    }
    let mut env: Vec<String> = Vec::with_capacity(given.len() + 1);
    for entry in given {
        match env.iter_mut().find(|known| name(known) == name(entry)) {
            Some(known) => known.clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    if env.iter().all(|entry| name(entry) != "PATH") {
        env.push(DEFAULT_PATH.to_owned());
    }
    env
}

/// The runtime wants an absolute path; an image may say none or a relative one, which counts from the root.
fn working_dir(given: &str) -> PathBuf {
    Path::new("/").join(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_decide_and_a_path_is_always_there() {
        let given = ["A=1", "PATH=/x", "B=", "A=2=3"].map(str::to_owned);
        assert_eq!(environment(&given), ["A=2=3", "PATH=/x", "B="]);
        assert_eq!(environment(&[]), [DEFAULT_PATH]);
    }

    #[test]
    fn working_directories_are_absolute() {
        for (given, expected) in [("", "/"), ("app", "/app"), ("/srv", "/srv")] {
            assert_eq!(working_dir(given), Path::new(expected));
        }
    }
}
