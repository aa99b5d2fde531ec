//! Resident memory: of an agent that has nothing to do, and of a C program that uses the library.

use crate::Failure;
use crate::bed::Bed;
use crate::host;
use crate::report::{Bar, Row};
use dunnage::Workspace;
use std::time::Duration;

/// How long an agent is left alone before it is looked at.
pub(super) const IDLE: Duration = Duration::from_secs(1);

pub(super) async fn resident(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut agent = Row {
        name: "agent_rss".into(),
        about: "resident memory of an agent a second after its start and one command".into(),
        unit: "MB",
        bars: vec![Bar::AtMost(3.0)],
        ..Row::default()
    };
    let mut workspaces: Vec<Workspace> = Vec::new();
    for _ in 0..bed.rounds {
        let workspace = bed.workspace("rss").await?;
        workspace.exec().run(dunnage::types::RunOptions::default().command("true"), "").await?;
        workspaces.push(workspace);
    }
    tokio::time::sleep(IDLE).await;
    for workspace in &workspaces {
        agent.ours.push(resident_mb(workspace.info().await?.pid)?);
        bed.delete(workspace).await?;
    }
    let mut host = Row {
        name: "host_rss_c".into(),
        about: "resident memory of a C program that has opened an engine, made a workspace and run a command"
            .into(),
        unit: "MB",
        bars: vec![Bar::AtMost(25.0)],
        ..Row::default()
    };
    let program = host::build(bed)?;
    for _ in 0..bed.rounds {
        host.ours.push(program.run(bed)?);
    }
    Ok(vec![agent, host])
}

/// `VmRSS` of a process, in millions of bytes.
pub(super) fn resident_mb(pid: u32) -> Result<f64, Failure> {
    status_mb(pid, "VmRSS")
}

fn status_mb(pid: u32, name: &str) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))?;
    host::status_mb(&status, name)
}

/// How much memory a process takes at most from now on.
pub(super) struct Peak {
    pid: u32,
    before: f64,
}

impl Peak {
    /// Begins to watch: what was most until now is forgotten (`clear_refs` of proc(5)).
    pub(super) fn begin(pid: u32) -> Result<Self, Failure> {
        let path = format!("/proc/{pid}/clear_refs");
        std::fs::write(&path, "5").map_err(|e| format!("cannot write {path}: {e}"))?;
        Ok(Self { pid, before: resident_mb(pid)? })
    }

    /// `VmHWM` beyond what was resident at first, in millions of bytes.
    pub(super) fn growth_mb(&self) -> Result<f64, Failure> {
        Ok((status_mb(self.pid, "VmHWM")? - self.before).max(0.0))
    }
}
