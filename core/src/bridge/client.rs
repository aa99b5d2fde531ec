#[cfg(test)]
use super::connection::AgentInfo;
use super::connection::{Class, Connection};
use super::failure::{self, Fault};
use super::lane::Lane;
use super::path;
use super::pool::Slot;
use crate::error::{Error, Result};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How often a call that was surely not sent, or that may be repeated, is tried.
const TRIES: usize = 3;

/// The agent of one workspace. Clones are cheap and share its connection; all methods may be called from any task.
#[derive(Debug, Clone)]
pub(crate) struct BridgeClient {
    slot: Arc<Slot>,
}

/// Whether a call may reach the agent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only looks: a connection that breaks under it is replaced and it is asked again.
    Always,
    /// It changes something: it is only repeated when it surely was not sent.
    IfUnsent,
}

impl BridgeClient {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    /// What the agent is and can do; asks it if no connection tells.
    #[cfg(test)]
    pub(super) async fn agent(&self) -> Result<AgentInfo> {
        Ok(self.slot.connection().await?.agent().clone())
    }

    /// Ends the server of the workspace's files, where this process has started one, and returns once that has ended and
    /// what it held is let go of.
    pub(crate) async fn end_tree(&self) {
        self.slot.end_tree().await;
    }

    /// Connects, unless it is connected.
    ///
    /// # Errors
    /// UNAVAILABLE when nothing answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn reach(&self) -> Result<()> {
        self.slot.connection().await.map(drop)
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// See [`path::clean`].
    pub(crate) fn clean(&self, path: &str) -> Result<String> {
        path::clean(path, &self.slot.limits.data_dir).map_err(|e| self.at(e))
    }

    /// See [`path::clean_below_root`].
    pub(super) fn clean_below_root(&self, path: &str, verb: &str) -> Result<String> {
        path::clean_below_root(path, &self.slot.limits.data_dir, verb).map_err(|e| self.at(e))
    }

    /// Names the workspace in an error.
    pub(super) fn at(&self, error: Error) -> Error {
        error.with("workspace", &self.slot.key)
    }

    /// The error for a failed piece of a call; drops the connection when that is what failed.
    pub(super) fn failed(&self, connection: &Arc<Connection>, status: &Status) -> Error {
        if failure::fault(status) != Fault::Answered {
            self.slot.forget(connection);
        }
        self.at(failure::error(status))
    }

    /// Makes one call, within the time limit of calls, and again where that does no harm.
    ///
    /// # Cancel safety
    /// Dropping it resets the call. What the agent had done by then stays done.
    pub(super) async fn call<T, F, Fut>(
        &self,
        class: Class,
        repeat: Repeat,
        call: F,
    ) -> Result<(T, Arc<Connection>)>
    where
        F: Fn(Arc<Connection>, Lane) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.call_within(class, repeat, self.slot.limits.call, call).await
    }

    /// [`BridgeClient::call`] with a time limit of its own.
    pub(super) async fn call_within<T, F, Fut>(
        &self,
        class: Class,
        repeat: Repeat,
        limit: Duration,
        call: F,
    ) -> Result<(T, Arc<Connection>)>
    where
        F: Fn(Arc<Connection>, Lane) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let connection = self.slot.connection().await?;
            let lane = match self.lane(&connection, class).await {
                Ok(lane) => lane,
                // The agent was replaced since the connection was made.
                Err(_) if tries > 0 => {
                    self.slot.forget(&connection);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = match tokio::time::timeout(limit, call(Arc::clone(&connection), lane)).await {
                Ok(Ok(value)) => return Ok((value, connection)),
                Ok(Err(status)) => status,
                Err(_) => return Err(self.late(limit)),
            };
            let error = self.failed(&connection, &status);
            match failure::fault(&status) {
                Fault::Unsent if tries > 0 => {}
                Fault::Broken if tries > 0 && repeat == Repeat::Always => {}
                _ => return Err(error),
            }
        }
    }

    async fn lane(&self, connection: &Connection, class: Class) -> Result<Lane> {
        let limit = self.slot.limits.connect;
        match tokio::time::timeout(limit, connection.lane(class)).await {
            Ok(lane) => lane.map_err(|e| self.at(e)),
            Err(_) => Err(self.late(limit)),
        }
    }

    /// Waits for the next piece of a transfer, within the time limit of calls.
    pub(super) async fn next_piece<T>(
        &self,
        connection: &Arc<Connection>,
        piece: impl Future<Output = Result<Option<T>, Status>>,
    ) -> Result<Option<T>> {
        let limit = self.slot.limits.call;
        match tokio::time::timeout(limit, piece).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(status)) => Err(self.failed(connection, &status)),
            Err(_) => Err(self.late(limit)),
        }
    }

    pub(super) fn late(&self, limit: Duration) -> Error {
        self.at(Error::timeout(format!(
            "the agent did not answer within {} ms; see whether the workspace is paused or overloaded",
            limit.as_millis()
        )))
    }
}
