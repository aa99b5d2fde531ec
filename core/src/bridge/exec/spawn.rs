use super::super::client::BridgeClient;
use super::input::channel;
use super::launch::Launch;
use super::process::Process;
use super::stream::ExecStream;
use crate::error::Result;
use crate::types::ExecOptions;
use std::sync::{Mutex, PoisonError};

impl BridgeClient {
    /// Starts a command with its streams open.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for malformed options, before anything is sent; what the agent refuses to start it with, such as
    /// NOT_FOUND for a working directory; UNAVAILABLE when the agent cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping it ends a command that has started; a session may have begun.
    pub(crate) async fn spawn(&self, options: &ExecOptions) -> Result<Process> {
        self.spawn_inner(options).await.map_err(|e| self.at(e).in_operation("exec.spawn"))
    }

    async fn spawn_inner(&self, options: &ExecOptions) -> Result<Process> {
        let launch = Launch::of_exec(self, options)?;
        // A call that was not sent is made again, with an input of its own.
        let latest = Mutex::new(None);
        let stream = ExecStream::start(self, &launch, || {
            let (sender, stream) = channel();
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            stream
        })
        .await?;
        let sender = latest.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.unwrap_or_else(|| channel().0);
        let session = launch.session_id().map(str::to_owned);
        let process = Process::new(self.clone(), stream, sender, launch.is_pty(), session);
        if !launch.takes_input() {
            process.close_stdin().await;
        }
        Ok(process)
    }
}
