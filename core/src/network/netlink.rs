//! The few rtnetlink requests that namespaces need. They act on the calling thread's network namespace.

use rustix::io::retry_on_intr;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const HEADER: usize = 16;
/// The index of the loopback interface: it is the first of every namespace.
const LOOPBACK: u32 = 1;

/// A link as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
}

/// A connection to the kernel's routing tables, bound to the namespace it was opened in.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// Connects in the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self(socket))
    }

    /// Sets the loopback interface up.
    pub(super) fn loopback_up(&self) -> io::Result<()> {
        let body = link_body(LOOPBACK, IFF_UP, IFF_UP);
        self.acknowledged(RTM_NEWLINK, 0, &body)
    }

    /// The link of this name, if there is one.
    pub(super) fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let mut body = link_body(0, 0, 0);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        let mut found = None;
        let asked = self.request(RTM_GETLINK, 0, &body, |kind, payload| {
            if kind == RTM_NEWLINK
                && let (Some(index), Some(flags)) = (u32_at(payload, 4), u32_at(payload, 8))
            {
                found = Some(Link { index, up: flags & IFF_UP != 0 });
            }
        });
        match asked {
            Ok(()) => Ok(found),
            Err(e) if e.raw_os_error() == Some(NO_DEVICE) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The addresses of a link, with their prefix lengths.
    pub(super) fn addresses(&self, index: u32) -> io::Result<Vec<(IpAddr, u8)>> {
        let mut found = Vec::new();
        self.request(RTM_GETADDR, NLM_F_DUMP, &[0; 8], |kind, payload| {
            if kind == RTM_NEWADDR && u32_at(payload, 4) == Some(index) {
                let prefix = payload.get(1).copied().unwrap_or(0);
                let mut address = None;
                for (attribute, value) in attributes(payload.get(8..).unwrap_or_default()) {
                    // The local address decides: on a point-to-point link the other one is the peer's.
                    if attribute == IFA_LOCAL || (attribute == IFA_ADDRESS && address.is_none()) {
                        address = ip(value).or(address);
                    }
                }
                found.extend(address.map(|a| (a, prefix)));
            }
        })?;
        Ok(found)
    }

    /// Makes a virtual Ethernet link of this name; its peer stays in the same namespace.
    pub(super) fn add_stand_in(&self, name: &str) -> io::Result<()> {
        let mut body = link_body(0, 0, 0);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, b"veth");
        attribute(&mut body, IFLA_LINKINFO, &info);
        self.acknowledged(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Gives a link an address. One that it has already is no fault.
    pub(super) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, bytes) = match address {
            IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
        };
        let mut body = vec![family, prefix, IFA_F_NODAD, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes);
        attribute(&mut body, IFA_ADDRESS, &bytes);
        match self.acknowledged(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn acknowledged(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.request(kind, flags, body, |_, _| {})
    }

    /// Sends one request and reads until its end: the acknowledgement, or the end of a dump.
    fn request(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let flags = flags | NLM_F_REQUEST | if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        let mut message = Vec::with_capacity(HEADER + body.len());
        let length = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&1u32.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        sendto(&self.0, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        // A dump comes in pieces of at most 32 KiB: netlink_dump in net/netlink/af_netlink.c.
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let (received, _) = retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
            let mut rest = buffer.get(..received).unwrap_or_default();
            while rest.len() >= HEADER {
                let length = u32_at(rest, 0).unwrap_or(0) as usize;
                let Some(payload) = rest.get(HEADER..length) else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a cut netlink message"));
                };
                match u16_at(rest, 4).unwrap_or(0) {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = u32_at(payload, 0).unwrap_or(0) as i32;
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    kind => each(kind, payload),
                }
                rest = rest.get(aligned(length)..).unwrap_or_default();
            }
        }
    }
}

/// ENODEV: the answer to a question about a link that is not there.
const NO_DEVICE: i32 = 19;

fn link_body(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for field in [index, flags, change] {
        body.extend_from_slice(&field.to_ne_bytes());
    }
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(aligned(body.len()), 0);
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let found = (u16_at(rest, 2)?, rest.get(4..length)?);
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(found)
    })
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_of_this_host_is_found_with_its_address() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().unwrap();
        assert_eq!(lo.index, LOOPBACK);
        if lo.up {
            let addresses = netlink.addresses(lo.index).unwrap();
            assert!(addresses.contains(&(IpAddr::from([127, 0, 0, 1]), 8)), "{addresses:?}");
        }
        assert_eq!(netlink.link("dunnage-none").unwrap(), None);
    }

    #[test]
    fn cut_attributes_end_the_walk() {
        let mut body = Vec::new();
        attribute(&mut body, 7, b"abc");
        body.extend_from_slice(&[200, 0, 1, 0]);
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found, [(7, &b"abc"[..])]);
    }
}
