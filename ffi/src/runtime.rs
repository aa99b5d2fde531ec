use crate::sigpipe::NoSigpipe;
use dunnage::{Error, Result};
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// Threads that drive connections. Two keep a slow decompression from holding up everything else, and cost little.
const WORKERS: usize = 2;
/// How long an idle thread of callbacks stays.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a free waits for callbacks that still run.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// An engine's own runtime. Blocking calls poll on the caller's thread, connections live on the workers, callbacks run
/// on threads of their own where they may block and call back.
#[derive(Debug)]
pub(crate) struct EngineRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
    /// The process that made it: its threads are nowhere else.
    pid: u32,
}

impl EngineRuntime {
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("dunnage")
            .thread_keep_alive(KEEP_ALIVE)
            .on_thread_start(NoSigpipe::for_good)
            .enable_all()
            .build()
            .map_err(|e| Error::io(e, "cannot start the library's threads"))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle, pid: std::process::id() })
    }

    /// Waits for a future on this thread.
    ///
    /// # Errors
    /// FAILED_PRECONDITION in a process that was forked after the runtime was made.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.check()?;
        let _quiet = NoSigpipe::on_this_thread();
        self.handle.block_on(future)
    }

    /// The handle, for tasks.
    ///
    /// # Errors
    /// As [`EngineRuntime::wait`].
    pub(crate) fn handle(&self) -> Result<&Handle> {
        self.check()?;
        Ok(&self.handle)
    }

    /// Whether this is another process than the one that made it.
    pub(crate) fn forked(&self) -> bool {
        self.pid != std::process::id()
    }

    fn check(&self) -> Result<()> {
        if self.forked() {
            return Err(Error::failed_precondition(
                "the process was forked after the engine was opened: open one in the child",
            ));
        }
        Ok(())
    }
}

impl Drop for EngineRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.forked() {
            // Its threads are not here; waiting for them, or waking them, would never end.
            std::mem::forget(runtime);
        } else if Handle::try_current().is_ok() {
            // On a thread of a runtime, which may be this one: nobody can wait for himself.
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(SHUTDOWN);
        }
    }
}

/// Waits for work on a handle: until its token ends it, or for at most `limit_ms` when that is not negative. Work that
/// is ready wins over both.
///
/// # Errors
/// CANCELLED, TIMEOUT, or those of the work.
pub(crate) async fn bounded<T>(
    token: &CancellationToken,
    limit_ms: i64,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let expired = async {
        match u64::try_from(limit_ms) {
            Ok(limit) => tokio::time::sleep(Duration::from_millis(limit)).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = token.cancelled() => Err(Error::cancelled("the call was cancelled, or its handle freed")),
        () = expired => {
            Err(Error::timeout("nothing came within the time limit: call again").with("limit_ms", limit_ms))
        }
    }
}
