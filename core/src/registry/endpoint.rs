use super::tls::TlsSettings;
use http::HeaderMap;
use std::net::IpAddr;

/// What a host may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// For content by digest.
    pub(super) pull: bool,
    /// For what a tag points at.
    pub(super) resolve: bool,
}

/// A host that serves a registry's content, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `scheme://host[:port]/path`, to which `/<repository>/…` is added.
    pub(super) base: String,
    /// The host with its port, as credentials name it.
    pub(super) host: String,
    /// The registry it serves.
    pub(super) registry: String,
    /// Whether it stands in for the registry instead of being it.
    pub(super) is_mirror: bool,
    pub(super) capabilities: Capabilities,
    /// Headers that every request to it carries.
    pub(super) headers: HeaderMap,
    pub(super) tls: TlsSettings,
}

/// Where Docker Hub answers.
const DOCKER_HUB: &str = "registry-1.docker.io";

impl Endpoint {
    pub(super) fn new(
        scheme: &str,
        host: &str,
        path: &str,
        registry: &str,
        capabilities: Capabilities,
        headers: HeaderMap,
        tls: TlsSettings,
    ) -> Self {
        let own = if registry == "docker.io" { DOCKER_HUB } else { registry };
        Self {
            base: format!("{scheme}://{host}{path}"),
            host: host.to_owned(),
            registry: registry.to_owned(),
            is_mirror: host != own && host != registry,
            capabilities,
            headers,
            tls,
        }
    }

    /// The registry itself: https, but plain http on a loopback address with a port other than 443, as containerd
    /// and Docker have it for local registries.
    pub(super) fn of_registry(registry: &str) -> Self {
        let host = if registry == "docker.io" { DOCKER_HUB } else { registry };
        let scheme = if is_loopback(host) { "http" } else { "https" };
        Self::new(
            scheme,
            host,
            "/v2",
            registry,
            Capabilities { pull: true, resolve: true },
            HeaderMap::new(),
            TlsSettings::default(),
        )
    }

    /// Whether this host may be asked for content by digest, or for a tag.
    pub(super) fn serves(&self, by_digest: bool) -> bool {
        if by_digest { self.capabilities.pull } else { self.capabilities.resolve }
    }
}

/// Whether a registry is on this machine and so speaks plain http unless its port says https.
fn is_loopback(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    local && port != Some("443")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_registries_speak_plain_http() {
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("ghcr.io", "https://ghcr.io/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("localhost", "http://localhost/v2"),
            ("127.9.9.9:1", "http://127.9.9.9:1/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("127.0.0.1:443", "https://127.0.0.1:443/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
            ("localhost.example:80", "https://localhost.example:80/v2"),
        ] {
            let endpoint = Endpoint::of_registry(registry);
            assert_eq!(endpoint.base, base);
            assert!(!endpoint.is_mirror, "{registry}");
        }
    }
}
