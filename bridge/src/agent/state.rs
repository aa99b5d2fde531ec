//! What every part of the agent shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::process::Rlimit;
use tokio::sync::watch;
use tonic::Status;

use super::config::Config;
use super::reaper::Reaper;
use super::sessions::Sessions;

/// The agent: configuration, children, and whether it is stopping.
pub(crate) struct Agent {
    /// Where it listens and works.
    pub(crate) config: Config,
    /// Who waits for children.
    pub(crate) reaper: Arc<Reaper>,
    /// When it started.
    pub(crate) started: Instant,
    /// The limit of open files that commands start with; `None`: as it is.
    pub(crate) nofile: Option<Rlimit>,
    /// Programs that live on without a client.
    pub(crate) sessions: Sessions,
    running: AtomicU32,
    stopping: watch::Sender<bool>,
}

impl Agent {
    /// An agent that runs nothing yet.
    pub(crate) fn new(config: Config, nofile: Option<Rlimit>) -> Self {
        Self {
            config,
            nofile,
            reaper: Arc::default(),
            started: Instant::now(),
            sessions: Sessions::default(),
            running: AtomicU32::new(0),
            stopping: watch::Sender::new(false),
        }
    }

    /// Refuses whatever has to do with commands, where it serves files only.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`.
    pub(crate) fn check_commands(&self) -> Result<(), Status> {
        if self.config.files_only {
            return Err(Status::failed_precondition("only files are served here: no command can run"));
        }
        Ok(())
    }

    /// Counts a command, from before its start until the guard is dropped: one that starts while the agent is told to stop
    /// either sees that or is waited for.
    pub(crate) fn enter(self: &Arc<Self>) -> RunningGuard {
        self.running.fetch_add(1, Ordering::Relaxed);
        RunningGuard(Arc::clone(self))
    }

    /// Commands and terminals running now, with and without a client.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// Tells every command to end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the agent is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Completes once the agent is stopping.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.subscribe();
        async move {
            // The sender lives as long as any command, so that an error means the agent is gone.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }
}

/// One running command; see [`Agent::enter`].
pub(crate) struct RunningGuard(Arc<Agent>);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        super::memory::settle_later();
    }
}
