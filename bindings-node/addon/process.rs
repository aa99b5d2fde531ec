use crate::engine::{buffer, json};
use crate::failure::to_js;
use crate::promise::promise;
use bytes::Bytes;
use dunnage::{Output, Process, StreamKind};
use napi::Env;
use napi::bindgen_prelude::{Buffer, Object};
use napi_derive::napi;
use std::sync::Arc;

/// A command that has run.
#[napi(object)]
pub struct NativeOutput {
    /// Its `ExecResult` as JSON text.
    pub result: String,
    /// What it wrote to stdout.
    pub stdout: Buffer,
    /// What it wrote to stderr.
    pub stderr: Buffer,
}

impl NativeOutput {
    pub(crate) fn new(output: Output) -> dunnage::Result<Self> {
        Ok(Self {
            result: json(&output.result)?,
            stdout: buffer(output.stdout),
            stderr: buffer(output.stderr),
        })
    }
}

/// A piece of a command's output.
#[napi(object)]
pub struct NativeChunk {
    /// Whether it came from stderr.
    pub stderr: bool,
    /// The bytes.
    pub data: Buffer,
}

/// A command with its streams open. Its process group is killed when JavaScript's garbage collector finds it, unless
/// the command has ended or is a session.
#[napi]
pub struct NativeProcess {
    process: Arc<Process>,
}

impl NativeProcess {
    pub(crate) fn new(process: Process) -> Self {
        Self { process: Arc::new(process) }
    }
}

#[napi]
impl NativeProcess {
    /// The next piece of output; settles with null at the end of both streams.
    #[napi(catch_unwind)]
    pub fn next_output<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let process = self.process.clone();
        promise(env, async move {
            let chunk = process.next_output().await?;
            Ok(chunk.map(|(kind, data)| NativeChunk {
                stderr: matches!(kind, StreamKind::Stderr),
                data: buffer(data),
            }))
        })
    }

    /// Writes to stdin; settles when there is room for more.
    #[napi(catch_unwind)]
    pub fn write_stdin<'env>(&self, env: &'env Env, data: &[u8]) -> napi::Result<Object<'env>> {
        let (process, data) = (self.process.clone(), Bytes::copy_from_slice(data));
        promise(env, async move { process.write_stdin(data).await })
    }

    /// Ends stdin.
    #[napi(catch_unwind)]
    pub fn close_stdin<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let process = self.process.clone();
        promise(env, async move {
            process.close_stdin().await;
            Ok(())
        })
    }

    /// Its process id inside; none where the agent is too old to tell.
    #[napi(getter)]
    pub fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    /// The id by which it can be attached to; none when it is no session.
    #[napi(getter)]
    pub fn session_id(&self) -> Option<String> {
        self.process.session_id().map(str::to_owned)
    }

    /// Lets go of a session.
    #[napi(catch_unwind)]
    pub fn detach(&self) -> napi::Result<()> {
        self.process.detach().map_err(|e| to_js(&e))
    }

    /// Throws away its output from here on.
    #[napi]
    pub fn discard_output(&self) {
        self.process.discard_output();
    }

    /// Sets the size of its terminal.
    #[napi(catch_unwind)]
    pub fn resize(&self, cols: u32, rows: u32) -> napi::Result<()> {
        self.process.resize(cols, rows).map_err(|e| to_js(&e))
    }

    /// Sends a signal, a name or a number in digits, to its process group.
    #[napi(catch_unwind)]
    pub fn signal<'env>(&self, env: &'env Env, signal: String) -> napi::Result<Object<'env>> {
        let process = self.process.clone();
        promise(env, async move { process.signal(signal).await })
    }

    /// Waits for its end; settles with its `ExitStatus` as JSON text.
    #[napi(catch_unwind)]
    pub fn wait<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let process = self.process.clone();
        promise(env, async move { json(&process.wait().await?) })
    }

    /// Kills its process group with SIGKILL and waits for its end.
    #[napi(catch_unwind)]
    pub fn kill<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let process = self.process.clone();
        promise(env, async move { json(&process.kill().await?) })
    }
}
