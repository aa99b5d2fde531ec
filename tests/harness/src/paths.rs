//! Where build products, cached fixtures and short-lived state live.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// Longest directory that still leaves room for socket names below it (a socket path ends at 108 bytes).
const LONGEST_BASE: usize = 48;

/// The build directory: `$CARGO_TARGET_DIR`, else the one this program was built into, else `<repository>/target`.
pub fn target_dir() -> PathBuf {
    if let Some(dir) = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    let from_exe = env::current_exe()
        .ok()
        .and_then(|exe| exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_owned));
    from_exe.unwrap_or_else(|| repository().join("target"))
}

/// The repository this crate was built from.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// Where the short-lived directories of all harnesses live: `$DUNNAGE_HARNESS_DIR`, else `dunh` in the
/// temporary directory. It belongs to us alone (mode 0700), and is short enough for sockets.
///
/// # Errors
/// When it cannot be made, or exists and belongs to somebody else.
pub(crate) fn base_dir() -> Result<PathBuf> {
    let base = match env::var_os("DUNNAGE_HARNESS_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let tmp = env::temp_dir();
            let fits = tmp.is_absolute() && tmp.as_os_str().len() + 5 <= LONGEST_BASE;
            if fits { tmp } else { PathBuf::from("/tmp") }.join("dunh")
        }
    };
    if base.as_os_str().len() > LONGEST_BASE || !base.is_absolute() {
        return Err(Error::new(format!(
            "{} cannot hold sockets: set DUNNAGE_HARNESS_DIR to an absolute path of at most {LONGEST_BASE} bytes",
            base.display()
        )));
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&base)
        .context(format_args!("cannot make {}", base.display()))?;
    let base = fs::canonicalize(&base).context(format_args!("cannot resolve {}", base.display()))?;
    let meta = fs::symlink_metadata(&base).context(format_args!("cannot look at {}", base.display()))?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Error::new(format!(
            "{} must belong to us and be writable by nobody else: remove it or set DUNNAGE_HARNESS_DIR",
            base.display()
        )));
    }
    Ok(base)
}

/// Random bytes as lower-case hex, two characters a byte.
///
/// # Errors
/// When the kernel's random source cannot be read.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut raw = vec![0u8; bytes];
    fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut raw))
        .context("cannot read /dev/urandom")?;
    Ok(hex(&raw))
}

/// Bytes as lower-case hex.
pub(crate) fn hex(raw: &[u8]) -> String {
    use std::fmt::Write;
    raw.iter().fold(String::with_capacity(raw.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
