//! Bandwidth of a running container, which runc can begin with but not change: its update leaves it out.

use super::{BlockDevice, InForce, LimitChange};
use crate::types::LimitName;
use std::io;

/// Sets or lifts one limit of a disk's bandwidth. Other limits are not its part.
///
/// # Errors
/// The kernel's own; NotFound where the kernel has no such limit.
pub(crate) fn throttle(groups: &InForce, device: BlockDevice, change: LimitChange) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the kernel does not limit bandwidth here");
    let (group, file, line) = match groups.unified() {
        Some(group) => {
            let key = key_v2(change.name).ok_or_else(missing)?;
            let value = change.to.map_or_else(|| "max".to_owned(), |value| format!("{value:.0}"));
            (group, "io.max", format!("{device} {key}={value}"))
        }
        None => {
            let group = groups.controller("blkio").ok_or_else(missing)?;
            let file = file_v1(change.name).ok_or_else(missing)?;
            // 0 lifts it.
            (group, file, format!("{device} {:.0}", change.to.unwrap_or(0.0)))
        }
    };
    std::fs::write(group.path(file), line)
}

pub(super) fn file_v1(name: LimitName) -> Option<&'static str> {
    match name {
        LimitName::IoReadBytesPerSecond => Some("blkio.throttle.read_bps_device"),
        LimitName::IoWriteBytesPerSecond => Some("blkio.throttle.write_bps_device"),
        LimitName::IoReadOpsPerSecond => Some("blkio.throttle.read_iops_device"),
        LimitName::IoWriteOpsPerSecond => Some("blkio.throttle.write_iops_device"),
        _ => None,
    }
}

fn key_v2(name: LimitName) -> Option<&'static str> {
    match name {
        LimitName::IoReadBytesPerSecond => Some("rbps"),
        LimitName::IoWriteBytesPerSecond => Some("wbps"),
        LimitName::IoReadOpsPerSecond => Some("riops"),
        LimitName::IoWriteOpsPerSecond => Some("wiops"),
        _ => None,
    }
}
