//! Published ports: what is valid, and which two cannot be together.

use crate::error::{Error, Result};
use crate::types::{PortMapping, Protocol};
use std::net::IpAddr;

/// Checks that every port is valid and that none is published twice.
///
/// # Errors
/// INVALID_ARGUMENT that names the port.
pub(super) fn check(ports: &[PortMapping]) -> Result<()> {
    for (index, port) in ports.iter().enumerate() {
        if port.host_port == 0 || port.container_port == 0 {
            return Err(Error::invalid_argument("malformed port: use 1 to 65535 on both sides")
                .with("port", shown(port)));
        }
        if let Some(address) = &port.host_ip
            && address.parse::<IpAddr>().is_err()
        {
            return Err(Error::invalid_argument("malformed host address of a port: use an IP address")
                .with("host_ip", format!("{address:?}"))
                .with("port", shown(port)));
        }
        if ports[..index].iter().any(|other| clash(port, other)) {
            return Err(Error::invalid_argument("the same host port twice: publish it once")
                .with("port", shown(port)));
        }
    }
    Ok(())
}

/// Whether two mappings want the same port of the host.
pub(super) fn clash(one: &PortMapping, other: &PortMapping) -> bool {
    let addresses = match (listening(one), listening(other)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    addresses && one.host_port == other.host_port && one.protocol == other.protocol
}

/// The one address a mapping listens on; none for all.
fn listening(port: &PortMapping) -> Option<IpAddr> {
    let address: IpAddr = port.host_ip.as_ref()?.parse().ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// The protocol's name, as CNI and people write it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// A mapping as people write it: `[address:]host:container/protocol`.
pub(super) fn shown(port: &PortMapping) -> String {
    let address = port.host_ip.as_ref().map(|a| format!("{a}:")).unwrap_or_default();
    format!("{address}{}:{}/{}", port.host_port, port.container_port, protocol(port.protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn on(address: &str, host: u16) -> PortMapping {
        PortMapping { host_ip: Some(address.to_owned()), ..PortMapping::tcp(host, 80) }
    }

    #[test]
    fn ports_are_valid_and_not_twice() {
        let udp = PortMapping { protocol: Protocol::Udp, ..PortMapping::tcp(80, 80) };
        check(&[PortMapping::tcp(80, 80), udp, PortMapping::tcp(81, 80)]).unwrap();
        check(&[on("127.0.0.1", 80), on("10.0.0.1", 80), on("::1", 80)]).unwrap();
        for bad in [
            vec![PortMapping::tcp(0, 80)],
            vec![PortMapping::tcp(80, 0)],
            vec![on("localhost", 80)],
            vec![PortMapping::tcp(80, 80), PortMapping::tcp(80, 81)],
            vec![PortMapping::tcp(80, 80), on("127.0.0.1", 80)],
            vec![on("0.0.0.0", 80), on("127.0.0.1", 80)],
        ] {
            assert_eq!(check(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn a_port_is_shown_as_people_write_it() {
        assert_eq!(shown(&on("127.0.0.1", 8080)), "127.0.0.1:8080:80/tcp");
    }
}
