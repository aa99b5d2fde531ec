//! Docker's credential helpers: programs that keep secrets and tell them on request
//! (<https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>).

use super::credentials::Secret;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a helper may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The longest answer.
const LONGEST_ANSWER: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What `docker-credential-<name> get` has for a server; none when it says that it has nothing.
///
/// # Errors
/// INVALID_ARGUMENT for a name that is none; FAILED_PRECONDITION when the helper is missing, fails or answers something
/// else; TIMEOUT. None of them tells what the helper said.
///
/// # Cancel safety
/// Dropping the future kills the helper.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Secret>> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(Error::invalid_argument("docker's configuration names a malformed credential helper")
            .with("helper", format!("{name:?}")));
    }
    let program = format!("docker-credential-{name}");
    ask_program(program.as_ref(), server, tokio::time::sleep(TIME_LIMIT))
        .await
        .map_err(|error| error.with("helper", &program).with("registry", server))
}

/// Asks a program and kills it at `limit`.
async fn ask_program(
    program: &OsStr,
    server: &str,
    limit: impl Future<Output = ()>,
) -> Result<Option<Secret>> {
    let (status, answer) = tokio::select! {
        answer = run(program, server) => answer?,
        () = limit => {
            let seconds = TIME_LIMIT.as_secs();
            return Err(Error::timeout(format!("the credential helper gave no answer within {seconds} s")));
        }
    };
    understand(status, &answer)
}

async fn run(program: &OsStr, server: &str) -> Result<(ExitStatus, Vec<u8>)> {
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            Error::failed_precondition(
                "cannot run the credential helper: install it or mend docker's configuration",
            )
            .caused_by(e)
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input still gives an answer.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let unreadable = |e| Error::io(e, "cannot read the credential helper's answer");
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST_ANSWER as u64 + 1).read_to_end(&mut answer).await.map_err(unreadable)?;
    }
    if answer.len() > LONGEST_ANSWER {
        return Err(malformed());
    }
    Ok((child.wait().await.map_err(unreadable)?, answer))
}

fn understand(status: ExitStatus, answer: &[u8]) -> Result<Option<Secret>> {
    if !status.success() {
        // The protocol has one way to say "none": this text.
        if String::from_utf8_lossy(answer).contains("credentials not found") {
            return Ok(None);
        }
        return Err(Error::failed_precondition("the credential helper failed: run it by hand to see why"));
    }
    // The parser's words may quote the answer, which holds secrets.
    let reply: Reply = serde_json::from_slice(answer).map_err(|_| malformed())?;
    Ok(match (reply.username.as_str(), reply.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Secret::Refresh(secret)),
        (_, password) => Some(Secret::Basic { username: reply.username, password }),
    })
}

fn malformed() -> Error {
    Error::failed_precondition("the credential helper's answer is malformed: run it by hand to see why")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::path::{Path, PathBuf};

    /// A helper that runs these commands. It is put in place by another process: while this one has it open for
    /// writing, a child that another test starts just then would inherit it, and it could not be run.
    fn helper(dir: &Path, commands: &str) -> PathBuf {
        let (script, program) = (dir.join("script"), dir.join("helper"));
        std::fs::write(&script, format!("#!/bin/sh\n{commands}\n")).unwrap();
        let done =
            std::process::Command::new("install").args(["-m", "755"]).args([&script, &program]).status();
        assert!(done.unwrap().success());
        program
    }

    async fn answer(commands: &str) -> Result<Option<Secret>> {
        let dir = tempfile::tempdir().unwrap();
        let program = helper(dir.path(), commands);
        ask_program(program.as_os_str(), "a.example", std::future::pending()).await
    }

    #[tokio::test]
    async fn answers_are_understood() {
        let pair =
            r#"[ "$1 $(cat)" = "get a.example" ] && echo '{"ServerURL":"x","Username":"u","Secret":"s"}'"#;
        let basic = Secret::Basic { username: "u".to_owned(), password: "s".to_owned() };
        assert!(answer(pair).await.unwrap() == Some(basic));
        let token = r#"echo '{"Username":"<token>","Secret":"s"}'"#;
        assert!(answer(token).await.unwrap() == Some(Secret::Refresh("s".to_owned())));
        for none in ["echo '{}'", "echo credentials not found in native keychain; exit 1"] {
            assert!(answer(none).await.unwrap().is_none(), "{none}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_fails_and_is_not_shown() {
        for commands in [
            "echo swordfish; exit 1",
            "echo swordfish",
            r#"printf '{"Username":"u","Secret":"swordfish'"#,
            r#"echo '{"Username":"u","Secret":["swordfish"]}'"#,
            // Without end: nothing more is read than an answer may have.
            "exec yes swordfish",
        ] {
            let error = answer(commands).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{commands}");
            assert!(!format!("{error} {error:?}").contains("swordfish"), "{commands}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_killed_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let began = dir.path().join("began");
        let program = helper(
            dir.path(),
            &format!("echo $$ > {0}.part; mv {0}.part {0}; exec sleep 600", began.display()),
        );
        let pause = || tokio::time::sleep(Duration::from_millis(5));
        let limit = async {
            while !began.exists() {
                pause().await;
            }
        };
        let error = ask_program(program.as_os_str(), "a.example", limit).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let pid = std::fs::read_to_string(&began).unwrap();
        // Neither alive nor waiting to be reaped.
        let process = Path::new("/proc").join(pid.trim());
        let gone = async {
            while process.exists() {
                pause().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the helper is killed");
    }
}
