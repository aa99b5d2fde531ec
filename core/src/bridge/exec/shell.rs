use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, v1};
use super::super::failure;
use super::launch::checked_user;
use super::stream::too_old;
use crate::error::Result;
use crate::types::{RunOptions, ShellInfo, ShellOptions};
use bytes::Bytes;
use dunnage_bridge::v1::{ShellRequest, ShellResponse};
use std::sync::Arc;
use tonic::Status;

/// Finds the shell where the agent does not look for it itself. A shell may know the name of another without its place.
const LOOK: &str = "IFS=:; for name in bash sh; do for dir in $PATH; do \
    [ -x \"$dir/$name\" ] && echo \"$dir/$name\" && exit; done; done; exit 1";
/// The longest path that is believed.
const MAX_PATH: usize = 4096;

impl BridgeClient {
    /// Which shell a terminal without a command would get.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown user; UNSUPPORTED for another user where the agent is too old; UNAVAILABLE when it
    /// cannot be reached.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn shell(&self, options: &ShellOptions) -> Result<ShellInfo> {
        self.shell_inner(options).await.map_err(|e| self.at(e).in_operation("exec.shell"))
    }

    async fn shell_inner(&self, options: &ShellOptions) -> Result<ShellInfo> {
        let user = checked_user(options.user.as_deref())?;
        let ask = async |connection: Arc<Connection>, lane| -> Result<Option<ShellResponse>, Status> {
            if connection.agent().shell {
                let found = v1(lane).shell(ShellRequest { user: user.clone() }).await?;
                return Ok(Some(found.into_inner()));
            }
            if user.is_empty() || self.slot().commands.is_some() {
                Ok(None)
            } else {
                Err(Status::unimplemented(too_old("another user")))
            }
        };
        let (found, _) = self.call(Class::Control, Repeat::Always, ask).await?;
        let (available, shell) = match found {
            Some(found) => (found.available, found.shell),
            None => {
                let mut look = RunOptions::default().command(LOOK).work_dir("/");
                look.user.clone_from(&options.user);
                let output = self.run(&look, Bytes::new()).await?;
                (output.result.exit_code == 0, output.stdout)
            }
        };
        let path = String::from_utf8_lossy(shell.get(..shell.len().min(MAX_PATH)).unwrap_or_default());
        let path = failure::clean(path.lines().next().unwrap_or_default());
        Ok(ShellInfo { available, shell: (!path.is_empty()).then_some(path) })
    }
}
