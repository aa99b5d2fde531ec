//! A tool for language models: called in this process, and by a client of the MCP server.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use dunnage::types::{ToolCallOptions, WriteOptions};
use dunnage_harness::target_dir;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Calls each turn.
const CALLS: usize = 20;

pub(super) async fn read(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("tools").await?;
    workspace.fs().write(WriteOptions::default().path("file"), "a line\n".repeat(50)).await?;
    let row = |name: &str, about: &str| Row {
        name: name.into(),
        about: about.into(),
        unit: "ms",
        bars: vec![Bar::AtMost(1.5)],
        ..Row::default()
    };
    let mut inside = row("tool_read", "tools.call of `read` of 50 lines, in this process");
    let mut served = row("mcp_read", "the same by a client of dunnage-mcp on stdio, a request at a time");
    let call = ToolCallOptions::default().name("read").arguments(
        [("path".to_owned(), Value::from("file"))].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    let mut client = Client::start(bed, workspace.id())?;
    for turn in 0..=bed.rounds {
        for _ in 0..CALLS {
            let began = Instant::now();
            let told = workspace.tools().call(call.clone()).await?;
            let took = began.elapsed();
            if told.is_error {
                return Err(told.text.into());
            }
            let asked = Instant::now();
            let answer =
                client.ask("tools/call", &json!({ "name": "read", "arguments": { "path": "file" } }))?;
            let answered = asked.elapsed();
            if answer["isError"] == true || answer["structuredContent"]["total_lines"] != 50 {
                return Err(format!("the server answered {answer}").into());
            }
            if turn > 0 {
                inside.ours.push_time(took);
                served.ours.push_time(answered);
            }
        }
    }
    client.end()?;
    bed.delete(&workspace).await?;
    Ok(vec![inside, served])
}

/// The simplest client.
struct Client {
    server: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    _config: tempfile::TempDir,
}

impl Client {
    fn start(bed: &Bed, workspace: &str) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("config.json");
        std::fs::write(&config, bed.config(&bed.namespace).to_string())?;
        let mut server = Command::new(target_dir().join("release/dunnage-mcp"))
            .args(["--workspace", workspace, "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = server.stdin.take().ok_or("the server has no stdin")?;
        let from = BufReader::new(server.stdout.take().ok_or("the server has no stdout")?);
        let mut client = Self { server, to, from, last: 0, _config: directory };
        client.ask(
            "initialize",
            &json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bench", "version": "0" } }),
        )?;
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(client)
    }

    fn say(&mut self, message: &Value) -> Result<(), Failure> {
        Ok(self.to.write_all(format!("{message}\n").as_bytes())?)
    }

    fn ask(&mut self, method: &str, params: &Value) -> Result<Value, Failure> {
        self.last += 1;
        self.say(&json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params }))?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        if answer["id"] != self.last {
            return Err(format!("the server answered {line}").into());
        }
        Ok(answer["result"].take())
    }

    fn end(mut self) -> Result<(), Failure> {
        drop(self.to);
        let status = self.server.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}
