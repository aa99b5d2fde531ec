//! What to run, made ready from a request.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use tonic::Status;

use super::pty::Size;
use super::user::{self, Identity};

/// `PATH` of commands when the image sets none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with all it starts with.
#[derive(Debug)]
pub(crate) struct Program {
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) work_dir: PathBuf,
    /// `None`: the agent's own.
    pub(crate) identity: Option<Identity>,
    /// A terminal of that size in place of pipes.
    pub(crate) pty: Option<Size>,
    /// Whether standard input takes anything.
    pub(crate) stdin: bool,
}

/// The arguments that make `/bin/sh` run a command line.
pub(crate) fn shell(command: &[u8]) -> Vec<OsString> {
    vec!["/bin/sh".into(), "-c".into(), OsStr::from_bytes(command).to_owned()]
}

/// A terminal's command line: the absolute path of a program is started as it is, so that an interactive shell is
/// the terminal's own process (and an image without `/bin/sh` can have one); anything else goes through the shell.
pub(crate) fn terminal_command(command: &str) -> Vec<OsString> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if command.starts_with('/') && command.chars().all(plain) && Path::new(command).is_file() {
        vec![command.into()]
    } else {
        shell(command.as_bytes())
    }
}

/// Refuses what no argument or variable can hold.
///
/// # Errors
/// `INVALID_ARGUMENT` when a NUL byte is in it.
pub(crate) fn no_nul(what: &str, value: &[u8]) -> Result<(), Status> {
    if value.contains(&0) {
        return Err(Status::invalid_argument(format!("{what} cannot hold a NUL byte")));
    }
    Ok(())
}

/// The name of an environment variable from the wire.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is empty or holds `=` or a NUL byte.
pub(crate) fn variable_name(name: &[u8]) -> Result<OsString, Status> {
    no_nul("an environment variable", name)?;
    if name.is_empty() || name.contains(&b'=') {
        let shown = String::from_utf8_lossy(name).into_owned();
        return Err(Status::invalid_argument(format!("{shown:?} cannot name an environment variable")));
    }
    Ok(OsString::from_vec(name.to_vec()))
}

/// An environment variable from the wire.
///
/// # Errors
/// `INVALID_ARGUMENT` when the name is empty or holds `=`, or when there is a NUL byte.
pub(crate) fn variable(name: &[u8], value: &[u8]) -> Result<(OsString, OsString), Status> {
    no_nul("an environment variable", value)?;
    Ok((variable_name(name)?, OsString::from_vec(value.to_vec())))
}

/// `NAME=value` from the wire.
///
/// # Errors
/// `INVALID_ARGUMENT` when there is no `=`, or as [`variable`].
pub(crate) fn assignment(entry: &str) -> Result<(OsString, OsString), Status> {
    let (name, value) = entry
        .split_once('=')
        .ok_or_else(|| Status::invalid_argument(format!("environment entry {entry:?} must be NAME=value")))?;
    variable(name.as_bytes(), value.as_bytes())
}

/// The whole environment of a command.
///
/// The agent's own (unless `clear`), then `HOME`, `USER` and `LOGNAME` of another identity, then `TERM` on a terminal,
/// each replacing the former; of these all but the `unset` ones; then what was asked for. A `PATH` is always there, and ends with `toolkit`
/// when that directory exists.
pub(crate) fn environment(
    clear: bool,
    unset: &[OsString],
    identity: Option<&Identity>,
    terminal: bool,
    asked: Vec<(OsString, OsString)>,
    toolkit: &Path,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = if clear { Vec::new() } else { std::env::vars_os().collect() };
    if let Some(identity) = identity {
        set(&mut env, "HOME", identity.home.as_deref().unwrap_or("/"));
        if let Some(name) = &identity.name {
            set(&mut env, "USER", name);
            set(&mut env, "LOGNAME", name);
        }
    }
    if terminal {
        set(&mut env, "TERM", "xterm-256color");
    }
    env.retain(|(name, _)| !unset.contains(name));
    for (name, value) in asked {
        set(&mut env, name, value);
    }
    if !clear && get(&env, "HOME").is_none() && !unset.iter().any(|name| name == "HOME") {
        let home = user::own().and_then(|own| own.home);
        set(&mut env, "HOME", home.as_deref().unwrap_or("/"));
    }
    let path = get(&env, "PATH").unwrap_or(OsStr::new(DEFAULT_PATH)).to_owned();
    let path = with_toolkit(path, toolkit);
    set(&mut env, "PATH", path);
    env
}

fn with_toolkit(mut path: OsString, toolkit: &Path) -> OsString {
    let there =
        path.as_bytes().split(|byte| *byte == b':').any(|part| part == toolkit.as_os_str().as_bytes());
    if !there && toolkit.is_dir() {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(toolkit);
    }
    path
}

fn get<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

fn set(env: &mut Vec<(OsString, OsString)>, name: impl Into<OsString>, value: impl Into<OsString>) {
    let (name, value) = (name.into(), value.into());
    match env.iter_mut().find(|(key, _)| *key == name) {
        Some(entry) => entry.1 = value,
        None => env.push((name, value)),
    }
}

/// Where a command starts: `asked` when given, else the data directory, else `/` in a container that has none.
///
/// # Errors
/// `NOT_FOUND` or `FAILED_PRECONDITION` when the directory asked for is not one.
pub(crate) fn work_dir(data_dir: &Path, asked: &[u8]) -> Result<PathBuf, Status> {
    if asked.is_empty() {
        return Ok(if data_dir.is_dir() { data_dir.to_owned() } else { PathBuf::from("/") });
    }
    let path = super::paths::resolve(data_dir, asked)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(Status::failed_precondition(format!(
            "cannot start in {}: it is not a directory",
            path.display()
        ))),
        Err(error) => Err(super::errors::status("start in", &path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_variables_replace_and_path_always_exists() {
        let env = environment(
            true,
            &[],
            None,
            true,
            vec![assignment("TERM=dumb").unwrap()],
            Path::new("/no/toolkit"),
        );
        assert_eq!(get(&env, "TERM"), Some(OsStr::new("dumb")));
        assert_eq!(get(&env, "PATH"), Some(OsStr::new(DEFAULT_PATH)));
        assert_eq!(env.len(), 2);
    }

    #[test]
    fn names_taken_out_stay_out_unless_they_are_put_in() {
        let unset = ["HOME".into(), "CARGO_MANIFEST_DIR".into()];
        let asked = vec![assignment("CARGO_MANIFEST_DIR=new").unwrap()];
        let env = environment(false, &unset, None, false, asked, Path::new("/no/toolkit"));
        assert_eq!(get(&env, "HOME"), None);
        assert_eq!(get(&env, "CARGO_MANIFEST_DIR"), Some(OsStr::new("new")));
        assert!(get(&env, "PATH").is_some());
    }

    #[test]
    fn the_toolkit_comes_last_and_once() {
        let toolkit = tempfile::tempdir().unwrap();
        let expected = format!("/a:{}", toolkit.path().display());
        let path = with_toolkit("/a".into(), toolkit.path());
        assert_eq!(path, OsString::from(&expected));
        assert_eq!(with_toolkit(path, toolkit.path()), OsString::from(&expected));
        assert_eq!(with_toolkit("/a".into(), Path::new("/no/toolkit")), OsString::from("/a"));
    }

    #[test]
    fn bad_variables_are_refused() {
        for entry in ["novalue", "=x", "a\0=b", "a=b\0"] {
            assert_eq!(assignment(entry).unwrap_err().code(), tonic::Code::InvalidArgument, "{entry:?}");
        }
        assert_eq!(assignment("a=b=c").unwrap(), ("a".into(), "b=c".into()));
    }

    #[test]
    fn only_a_plain_absolute_path_skips_the_shell() {
        assert_eq!(terminal_command("/bin/sh").len(), 1);
        assert_eq!(terminal_command("/bin/sh -l").len(), 3);
        assert_eq!(terminal_command("sh").len(), 3);
        assert_eq!(terminal_command("/no/such/shell").len(), 3);
    }
}
