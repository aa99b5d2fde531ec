//! The files that a container needs to find names: `resolv.conf`, `hosts` and `hostname`.

use crate::error::{Error, Result};
use crate::own_file::{self, Durability};
use crate::types::{NetworkInfo, NetworkMode};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Where the host's resolvers are written down, best first: behind a local stub resolver the first has the real ones.
pub(super) const SOURCES: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// Files of the host that are mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestFiles {
    /// For `/etc/resolv.conf`.
    pub(crate) resolv_conf: PathBuf,
    /// For `/etc/hosts`.
    pub(crate) hosts: PathBuf,
    /// For `/etc/hostname`.
    pub(crate) hostname: PathBuf,
}

/// Writes the files into `dir`.
pub(super) fn write(
    dir: &Path,
    hostname: &str,
    info: Option<&NetworkInfo>,
    nameservers: &[String],
    sources: &[&str],
) -> Result<GuestFiles> {
    if hostname.is_empty() || hostname.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(Error::invalid_argument("malformed host name: use letters, digits, dots and dashes")
            .with("hostname", format!("{hostname:?}")));
    }
    let shares_host = info.is_some_and(|i| i.mode == NetworkMode::Host);
    let files = GuestFiles {
        resolv_conf: dir.join("resolv.conf"),
        hosts: dir.join("hosts"),
        hostname: dir.join("hostname"),
    };
    for (path, text) in [
        (&files.resolv_conf, resolv_conf(&source(sources)?, shares_host, nameservers)),
        (&files.hosts, hosts(hostname, info)),
        (&files.hostname, format!("{hostname}\n")),
    ] {
        // They are written anew at each start, so a crash of the host needs no care.
        own_file::write(path, text.as_bytes(), 0o644, Durability::Cached).map_err(|e| {
            Error::io(e, "cannot write a file for the container").with("path", path.display())
        })?;
    }
    Ok(files)
}

/// The first source that there is; nothing when there is none.
fn source(sources: &[&str]) -> Result<String> {
    for path in sources {
        match std::fs::read(path) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(e, "cannot read the host's resolvers").with("path", path)),
        }
    }
    Ok(String::new())
}

/// The host's resolvers without those that only the host reaches, or `fallback` when none is left.
fn resolv_conf(source: &str, shares_host: bool, fallback: &[String]) -> String {
    let mut servers = Vec::new();
    let mut settings = Vec::new();
    for line in source.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                servers
                    .extend(words.next().filter(|s| shares_host || reachable_inside(s)).map(str::to_owned));
            }
            Some("search" | "domain" | "options" | "sortlist") => settings.push(line.trim()),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers = fallback.to_vec();
    }
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for setting in settings {
        text.push_str(setting);
        text.push('\n');
    }
    text
}

/// Whether a resolver can be reached from another network namespace: no loopback address, none of one link only.
fn reachable_inside(server: &str) -> bool {
    match server.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => !v4.is_loopback() && !v4.is_unspecified() && !v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            let mapped = v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback());
            v6 != Ipv6Addr::UNSPECIFIED && !v6.is_loopback() && !mapped && !v6.is_unicast_link_local()
        }
        // With a zone, such as `fe80::1%eth0`, or no address at all.
        Err(_) => false,
    }
}

/// The container's own name and those that every system has.
fn hosts(hostname: &str, info: Option<&NetworkInfo>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let addresses = info.map(|i| i.addresses.as_slice()).unwrap_or_default();
    for address in addresses.iter().map(|a| a.split_once('/').map_or(a.as_str(), |(ip, _)| ip)) {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    if addresses.is_empty() && hostname != "localhost" {
        text.push_str(&format!("127.0.1.1\t{hostname}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    fn fallback() -> Vec<String> {
        vec!["1.1.1.1".to_owned(), "8.8.8.8".to_owned()]
    }

    #[test]
    fn resolvers_that_only_the_host_reaches_are_dropped() {
        let source = "# made by x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions edns0 trust-ad\n";
        assert_eq!(
            resolv_conf(source, false, &fallback()),
            "nameserver 10.0.0.2\nsearch a.example b.example\noptions edns0 trust-ad\n"
        );
        assert!(
            resolv_conf(source, true, &fallback()).starts_with("nameserver 127.0.0.53\nnameserver ::1\n")
        );
    }

    #[test]
    fn a_stub_alone_gives_the_configured_ones() {
        for source in
            ["nameserver 127.0.0.53\noptions edns0\n", "", "nameserver\n", "nameserver ::ffff:127.0.0.1\n"]
        {
            let text = resolv_conf(source, false, &fallback());
            assert!(text.starts_with("nameserver 1.1.1.1\nnameserver 8.8.8.8\n"), "{text}");
            assert!(!text.contains("127.0.0"), "{text}");
        }
    }

    #[test]
    fn the_files_follow_the_host_at_each_start_and_all_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let (stub, real) = (dir.path().join("real"), dir.path().join("etc"));
        let sources = [stub.to_str().unwrap(), real.to_str().unwrap()];
        let out = dir.path().join("out");
        std::fs::write(&real, "nameserver 10.0.0.1\n").unwrap();
        let info = NetworkInfo { addresses: vec!["10.1.0.2/24".to_owned()], ..NetworkInfo::default() };
        let files = write(&out, "box", Some(&info), &fallback(), &sources).unwrap();
        assert_eq!(std::fs::read_to_string(&files.resolv_conf).unwrap(), "nameserver 10.0.0.1\n");
        assert!(std::fs::read_to_string(&files.hosts).unwrap().ends_with("10.1.0.2\tbox\n"));
        assert_eq!(std::fs::read_to_string(&files.hostname).unwrap(), "box\n");
        std::fs::write(&stub, "nameserver 10.0.0.9\n").unwrap();
        write(&out, "box", None, &fallback(), &sources).unwrap();
        assert_eq!(std::fs::read_to_string(&files.resolv_conf).unwrap(), "nameserver 10.0.0.9\n");
        assert!(std::fs::read_to_string(&files.hosts).unwrap().ends_with("127.0.1.1\tbox\n"));
        for path in [&files.resolv_conf, &files.hosts, &files.hostname] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3);
    }

    #[test]
    fn a_host_name_cannot_add_lines() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "a b", "a\n1.2.3.4 bank.example"] {
            let error = write(dir.path(), bad, None, &fallback(), &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
