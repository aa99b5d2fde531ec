//! Bandwidth of a running container, which runc can begin with but not change: its update leaves it out.

use super::{BlockDevice, InForce, LimitChange};
use crate::types::LimitName;
use std::io;
use std::path::PathBuf;

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
            (group, FILE_V2, format!("{device} {key}={value}"))
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

/// The files of both versions that hold bandwidth.
const FILES_V1: [&str; 4] = [
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
];
const FILE_V2: &str = "io.max";

/// All bandwidth that a container is held to, of all disks: an update by runc brings back what its task began with, also
/// what was changed or lifted since.
pub(crate) struct Bandwidth(Vec<(PathBuf, String)>);

impl Bandwidth {
    /// As it is now.
    pub(crate) fn of(groups: &InForce) -> Self {
        let (group, files): (_, &[&str]) = match groups.unified() {
            Some(group) => (Some(group), &[FILE_V2]),
            None => (groups.controller("blkio"), &FILES_V1),
        };
        let read = |file: &&str| group.and_then(|group| Some((group.path(file), group.text(file)?)));
        Self(files.iter().filter_map(read).collect())
    }

    /// Makes it as it was again.
    ///
    /// # Errors
    /// The kernel's own.
    pub(crate) fn restore(&self) -> io::Result<()> {
        for (path, before) in &self.0 {
            let now = std::fs::read_to_string(path)?;
            for line in lines_to_restore(before, &now, path.ends_with(FILE_V2)) {
                std::fs::write(path, line)?;
            }
        }
        Ok(())
    }
}

/// What to write for a file to say what it said before. Each line is of a disk: `8:0 1048576`, or `8:0 rbps=max wbps=4096 …`.
fn lines_to_restore(before: &str, now: &str, v2: bool) -> Vec<String> {
    let device = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let had = |device: &str| before.lines().any(|line| line.split(' ').next() == Some(device));
    let lifted = if v2 { "rbps=max wbps=max riops=max wiops=max" } else { "0" };
    let gone =
        now.lines().map(device).filter(|device| !had(device)).map(|device| format!("{device} {lifted}"));
    let changed = before.lines().filter(|line| now.lines().all(|now| now != *line)).map(str::to_owned);
    gone.chain(changed).collect()
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

#[cfg(test)]
mod tests {
    use super::lines_to_restore;

    #[test]
    fn what_an_update_brings_back_is_taken_back() {
        for (before, now, v2, written) in [
            ("8:0 4096\n", "8:0 8192\n", false, vec!["8:0 4096"]),
            ("", "8:0 8192\n", false, vec!["8:0 0"]),
            ("8:0 1\n8:16 2\n", "8:16 2\n", false, vec!["8:0 1"]),
            ("8:0 1\n", "8:0 1\n", false, vec![]),
            (
                "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 rbps=2 wbps=max riops=max wiops=max\n8:16 rbps=1 wbps=max riops=max wiops=max\n",
                true,
                vec!["8:16 rbps=max wbps=max riops=max wiops=max", "8:0 rbps=1 wbps=max riops=max wiops=max"],
            ),
        ] {
            assert_eq!(lines_to_restore(before, now, v2), written, "{before:?} {now:?}");
        }
    }
}
