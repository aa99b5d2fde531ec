//! One run of one CNI plugin: a program with its orders in the environment, its configuration on the standard input
//! and its answer on the standard output.

use crate::error::{Error, ErrorKind};
use crate::failpoints::step;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::Instant;

/// The most of an answer that is read, in bytes: far above any real one.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;
/// Where plugins find `iptables` and the like.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Check,
    Del,
}

impl Verb {
    /// The verb as the specification spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) verb: Verb,
    pub(super) program: &'a Path,
    pub(super) dirs: &'a [PathBuf],
    pub(super) id: &'a str,
    pub(super) netns: &'a Path,
    pub(super) interface: &'a str,
    pub(super) input: &'a [u8],
    /// When it is killed, with everything it started.
    pub(super) deadline: Instant,
}

/// A failed run.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the same run may succeed a moment later.
    pub(super) transient: bool,
}

impl Failure {
    /// One that repeating does not mend.
    pub(super) fn lasting(error: Error) -> Self {
        Self { error, transient: false }
    }
}

impl Run<'_> {
    /// Runs the plugin and returns what it printed.
    ///
    /// # Cancel safety
    /// Dropping the future kills the plugin and everything it started.
    pub(super) async fn run(&self) -> Result<Vec<u8>, Failure> {
        let path = self.dirs.iter().map(|d| d.as_os_str()).collect::<Vec<_>>().join(":".as_ref());
        let mut command = Command::new(self.program);
        command
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("CNI_COMMAND", self.verb.as_str())
            .env("CNI_CONTAINERID", self.id)
            .env("CNI_NETNS", self.netns)
            .env("CNI_IFNAME", self.interface)
            .env("CNI_PATH", path)
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let _step = match self.verb {
            Verb::Add => Some(step("cni.add")),
            Verb::Del => Some(step("cni.del")),
            Verb::Check => None,
        };
        let mut child = command.spawn().map_err(|e| {
            // ETXTBSY: the plugin is being replaced by an update; EAGAIN: too many processes just now.
            let transient = matches!(e.raw_os_error(), Some(26 | 11));
            Failure { error: self.named(Error::io(e, "cannot run the CNI plugin")), transient }
        })?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A plugin that fails early closes its input; what it then says is the better error.
                    let _ = stdin.write_all(self.input).await;
                }
            };
            let ((), answer, complaint) = tokio::join!(feed, read(stdout), read(stderr));
            Ok::<_, std::io::Error>((answer?, complaint?, child.wait().await))
        };
        let (answer, complaint, status) = match tokio::time::timeout_at(self.deadline, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(e)) => {
                return Err(Failure::lasting(self.named(Error::io(e, "cannot hear the CNI plugin"))));
            }
            Err(_) => {
                drop(group);
                let error = Error::timeout(
                    "the CNI plugin took too long and was killed: see what blocks it, or raise time_limits.network_ms",
                );
                return Err(Failure::lasting(self.named(error)));
            }
        };
        group.forget();
        let succeeded = match status {
            Ok(status) => status.success(),
            // ECHILD: the host's program reaps children of its own accord. The answer itself tells then.
            Err(e) if e.raw_os_error() == Some(10) => fault_in(&answer).is_none(),
            Err(e) => {
                return Err(Failure::lasting(self.named(Error::io(e, "cannot wait for the CNI plugin"))));
            }
        };
        if succeeded { Ok(answer) } else { Err(self.failure(&answer, &complaint)) }
    }

    fn named(&self, error: Error) -> Error {
        error.with("plugin", self.program.display()).with("command", self.verb.as_str())
    }

    /// What a plugin that failed said.
    fn failure(&self, answer: &[u8], complaint: &[u8]) -> Failure {
        let complaint = tail(complaint);
        let (code, message) = fault_in(answer).unwrap_or_else(|| (0, complaint.clone()));
        let said = if message.is_empty() { "it said nothing" } else { &message };
        let (kind, transient) = classify(code, said);
        let mut error =
            self.named(Error::new(kind, format!("the CNI plugin failed: {said}"))).with("code", code);
        if !complaint.is_empty() && complaint != message {
            error = error.with("stderr", complaint);
        }
        Failure { error, transient }
    }
}

/// The code and the text of an error that a plugin printed.
fn fault_in(answer: &[u8]) -> Option<(u64, String)> {
    let value: Value = serde_json::from_slice(answer).ok()?;
    let code = value.get("code")?.as_u64()?;
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let (message, details) = (text("msg"), text("details"));
    let joined = match (message.is_empty(), details.is_empty()) {
        (false, false) => format!("{message}: {details}"),
        _ => message + &details,
    };
    Some((code, joined))
}

/// What the caller can do about a plugin's error, and whether it is worth a second try at once.
fn classify(code: u64, message: &str) -> (ErrorKind, bool) {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    if code == 11
        || says(&[
            "resource temporarily unavailable",
            "try again",
            "device or resource busy",
            "xtables lock",
            "text file busy",
            "interrupted system call",
            "dump was interrupted",
            // Another program made a chain between this one's look and its making.
            "chain_user_add failed",
            "chain already exists",
        ])
    {
        return (ErrorKind::Unavailable, true);
    }
    if says(&["no ip addresses available", "no space left", "too many open files", "cannot allocate memory"])
    {
        return (ErrorKind::ResourceExhausted, false);
    }
    if says(&["permission denied", "operation not permitted"]) {
        return (ErrorKind::PermissionDenied, false);
    }
    match code {
        // Of the specification: 1 version, 2 field, 4 environment, 6 decoding, 7 configuration.
        1 | 2 | 4 | 6 | 7 => (ErrorKind::FailedPrecondition, false),
        _ => (ErrorKind::Unavailable, false),
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(MAX_ANSWER).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The end of what a plugin complained, short enough for an error.
fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(2048);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

/// The process group of a plugin, killed when dropped.
struct Group(Option<i32>);

impl Group {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(rustix::process::Pid::from_raw) {
            // Its leader was not waited for yet, so that the number is still its own.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    async fn run(script: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for _ in 0..100 {
            let run = Run {
                verb: Verb::Add,
                program: &program,
                dirs: &[PathBuf::from("/a"), PathBuf::from("/b")],
                id: "c",
                netns: Path::new("/n"),
                interface: "eth0",
                input: b"{}",
                deadline: Instant::now() + limit,
            };
            match run.run().await {
                // Another test's fork may hold the script open for writing for a moment.
                Err(f) if f.error.to_string().contains("Text file busy") => {}
                done => return done,
            }
        }
        panic!("the script stays busy");
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_environment_holds_the_orders_and_nothing_else() {
        let printed =
            run("cat; env | sort | grep -v -e ^PWD -e ^_ -e ^OLDPWD -e ^SHLVL", LONG).await.unwrap();
        let text = String::from_utf8(printed).unwrap();
        let expected = format!(
            "{{}}CNI_ARGS=IgnoreUnknown=1\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c\nCNI_IFNAME=eth0\nCNI_NETNS=/n\nCNI_PATH=/a:/b\nPATH={SYSTEM_PATH}\n"
        );
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let failure = run(&script, Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::Timeout);
        let pid = std::fs::read_to_string(&file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        for _ in 0..100 {
            match std::fs::read_to_string(&status) {
                Err(_) => return,
                Ok(stat) if stat.contains(") Z") => return,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("the grandchild {pid} lives");
    }

    #[tokio::test]
    async fn errors_keep_the_plugins_words_and_get_a_kind() {
        for (script, kind, transient, word) in [
            (r#"echo '{"code":11,"msg":"later"}'; exit 1"#, ErrorKind::Unavailable, true, "later"),
            (
                r#"echo '{"code":100,"msg":"m","details":"Device or resource busy"}'; exit 1"#,
                ErrorKind::Unavailable,
                true,
                "m: Device",
            ),
            (
                r#"echo '{"code":7,"msg":"no bridge"}'; exit 1"#,
                ErrorKind::FailedPrecondition,
                false,
                "no bridge",
            ),
            (
                r#"echo '{"code":999,"msg":"no IP addresses available in range set"}'; exit 1"#,
                ErrorKind::ResourceExhausted,
                false,
                "range set",
            ),
            ("echo oops >&2; exit 3", ErrorKind::Unavailable, false, "oops"),
            ("kill -9 $$", ErrorKind::Unavailable, false, "said nothing"),
        ] {
            let failure = run(script, LONG).await.unwrap_err();
            assert_eq!((failure.error.kind(), failure.transient), (kind, transient), "{script}");
            assert!(failure.error.to_string().contains(word), "{}", failure.error);
        }
    }
}
