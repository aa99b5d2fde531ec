//! The tool exec.

use super::Told;
use super::cut::{Gap, cut};
use crate::bridge::BridgeClient;
use crate::error::Result;
use crate::types::RunOptions;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::fmt::Write;

/// How much of each output is taken from the agent, of its beginning and of its end, in bytes: more than is told of it.
const FIRST: u64 = 64 << 10;
const LAST: u64 = 8 << 10;

/// What to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecArguments {
    /// The command line, for /bin/sh.
    command: String,
    /// The working directory; a relative path is under /data.
    #[serde(default = "here")]
    work_dir: String,
    /// Seconds until it is killed with all it started; 0 for no limit.
    #[serde(default = "half_a_minute")]
    timeout: u32,
}

fn here() -> String {
    ".".to_owned()
}

fn half_a_minute() -> u32 {
    30
}

pub(super) async fn exec(client: &BridgeClient, arguments: ExecArguments) -> Result<Told> {
    let ExecArguments { command, work_dir, timeout } = arguments;
    let options = RunOptions::default()
        .command(command)
        .work_dir(work_dir)
        .timeout_ms(u64::from(timeout) * 1000)
        .max_output_bytes(FIRST)
        .tail_bytes(LAST);
    let output = client.run(&options, Bytes::new()).await?;
    let result = &output.result;
    let gap = |at: Option<u64>, dropped| {
        at.map(|at| Gap { at: usize::try_from(at).unwrap_or(usize::MAX), dropped })
    };
    let stdout = cut(&output.stdout, gap(result.stdout_cut_at, result.stdout_dropped));
    let stderr = cut(&output.stderr, gap(result.stderr_cut_at, result.stderr_dropped));
    let mut text = stdout.clone();
    let line = |text: &mut String| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    };
    if !stderr.is_empty() {
        line(&mut text);
        text.push_str("[stderr]\n");
        text.push_str(&stderr);
    }
    if result.timed_out {
        line(&mut text);
        let _ = writeln!(text, "[killed after {timeout} s]");
    }
    if result.exit_code != 0 {
        line(&mut text);
        let _ = writeln!(text, "[exit code {}]", result.exit_code);
    }
    let structured = json!({
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
        "stdout": stdout,
        "stderr": stderr,
    });
    Ok((text, structured))
}
