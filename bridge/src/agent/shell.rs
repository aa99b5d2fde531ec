//! Which shell a terminal gets.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::program::DEFAULT_PATH;
use super::user::{self, Identity};

/// Shells in the order in which they are looked for in `PATH`, when the user has none.
const KNOWN: &[&str] = &["bash", "sh"];
/// What accounts have in place of a shell when nobody is to log in: of no use on a terminal.
const REFUSING: &[&str] = &["nologin", "false"];

/// The shell of `/etc/passwd` for this identity (`None`: the agent's own) when it is there, else bash, else sh.
pub(crate) fn choose(identity: Option<&Identity>) -> Option<PathBuf> {
    let own = if identity.is_none() { user::own() } else { None };
    let named = identity.or(own.as_ref()).and_then(|identity| identity.shell.as_deref());
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    find(named, &path)
}

/// An interactive shell that is no login shell.
pub(crate) fn arguments(shell: &Path) -> Vec<OsString> {
    vec![shell.into(), "-i".into()]
}

fn find(named: Option<&str>, path: &OsStr) -> Option<PathBuf> {
    let named = named.map(PathBuf::from).filter(|shell| {
        let name = shell.file_name().and_then(OsStr::to_str).unwrap_or_default();
        shell.is_absolute() && !REFUSING.contains(&name)
    });
    let known = KNOWN.iter().flat_map(|name| std::env::split_paths(path).map(move |dir| dir.join(name)));
    named.into_iter().chain(known.filter(|shell| shell.is_absolute())).find(|shell| is_program(shell))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_comes_first_then_bash_then_sh() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let path = dir.path().as_os_str();
        assert_eq!(find(None, path), None);
        let sh = place("sh", 0o755);
        assert_eq!(find(None, path), Some(sh.clone()));
        let bash = place("bash", 0o644);
        assert_eq!(find(Some("/no/such/shell"), path), Some(sh));
        place("bash", 0o755);
        assert_eq!(find(None, path), Some(bash.clone()));
        let (zsh, nologin) = (place("zsh", 0o755), place("nologin", 0o755));
        assert_eq!(find(zsh.to_str(), path), Some(zsh));
        assert_eq!(find(nologin.to_str(), path), Some(bash));
    }
}
