//! Detached commands.

use super::{Failure, expect, fails, running, text};
use crate::vars::Vars;
use dunnage::types::{AttachOptions, ExecOptions, SessionWaitOptions};
use dunnage::{Engine, ErrorKind, Process};

async fn until(process: &Process, part: &str) -> Result<(), Failure> {
    let mut seen = String::new();
    while !seen.contains(part) {
        let output = process.next_output().await.map_err(text)?;
        let (_, bytes) = output.ok_or_else(|| format!("the end before {part:?}, after {seen:?}"))?;
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok(())
}

pub(super) async fn session(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let exec = running(engine, vars).await?.exec();
    let options = ExecOptions::default().command("echo up; cat").detach(true).session_id("s");
    let first = exec.spawn(options.clone()).await.map_err(text)?;
    expect(first.session_id() == Some("s"), || format!("its id is {:?}", first.session_id()))?;
    until(&first, "up\n").await?;
    drop(first);
    let wait = SessionWaitOptions::default().session_id("s");
    fails(exec.wait(wait.clone().timeout_ms(50_u64)).await, ErrorKind::Timeout)?;
    fails(exec.spawn(options).await, ErrorKind::AlreadyExists)?;

    let attach = AttachOptions::default().session_id("s");
    let (one, other) = (exec.attach(attach.clone()).await, exec.attach(attach).await);
    let (one, other) = (one.map_err(text)?, other.map_err(text)?);
    one.write_stdin("more\n").await.map_err(text)?;
    for process in [&one, &other] {
        until(process, "up\nmore\n").await?;
    }
    other.detach().map_err(text)?;
    fails(other.wait().await, ErrorKind::FailedPrecondition)?;
    fails(one.signal("NOTHING").await, ErrorKind::InvalidArgument)?;
    one.signal("USR1").await.map_err(text)?;
    for exit in [one.wait().await.map_err(text)?, exec.wait(wait).await.map_err(text)?] {
        let good = exit.signal == Some(10) && exit.session_id.as_deref() == Some("s");
        expect(good, || format!("it ended with {exit:?}"))?;
    }
    Ok(())
}
