//! The newer containerds, out of Debian's newer releases.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::apt::{self, Apt};
use crate::containerd::Version;
use crate::error::{Context, Error, Result};
use crate::paths;

/// The directory with the programs of a newer containerd, which is fetched when it is not there yet.
///
/// The package comes through the machine's own mirror into `<target>/containerd/<version>`; apt checks Debian's
/// signatures, and nothing is installed. The system's runc runs the containers of all versions.
///
/// # Errors
/// When the package cannot be fetched, or is of another version than asked for.
pub fn containerd(version: Version) -> Result<PathBuf> {
    let (suite, wanted) = match version {
        Version::V1_6 => return version.bin_dir(),
        Version::V1_7 => ("trixie", "1.7."),
        Version::V2_1 => ("sid", "2."),
    };
    let cache = paths::target_dir().join("containerd");
    fs::create_dir_all(&cache).context(format_args!("cannot make {}", cache.display()))?;
    let dir = cache.join(version.as_str());
    let bin = dir.join("usr/bin");
    if bin.join("containerd").is_file() {
        return Ok(bin);
    }
    let lock = File::create(cache.join("lock")).context("cannot make a lock")?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot wait for a lock")?;
    if bin.join("containerd").is_file() {
        return Ok(bin);
    }
    let doing = format!("cannot fetch containerd {}", version.as_str());
    fetch(&cache, suite, wanted, &dir).context(doing)?;
    Ok(bin)
}

fn fetch(cache: &Path, suite: &str, wanted: &str, dir: &Path) -> Result<()> {
    let apt = Apt::new(&cache.join("apt"), &["trixie", "sid"])?;
    let package = apt.download("containerd", suite)?;
    let part = dir.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).context("cannot remove a half-unpacked package")?;
    }
    apt::unpack(&package, &part)?;
    let found = version_of(&part.join("usr/bin/containerd"))?;
    if !found.starts_with(wanted) {
        return Err(Error::new(format!("{suite} has containerd {found} where {wanted}x was expected")));
    }
    fs::rename(&part, dir).context("cannot keep the package")
}

/// What `containerd --version` calls itself, without a leading `v`.
pub(crate) fn version_of(program: &Path) -> Result<String> {
    let output =
        Command::new(program).arg("--version").output().context("the fetched containerd does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split_whitespace().nth(2).unwrap_or_default();
    Ok(word.trim_start_matches('v').to_owned())
}
