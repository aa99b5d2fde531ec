//! What a process has once: the runtime, and the thread that wakes event loops.
//!
//! A process that forks has neither in the child: their threads stay behind. The child then gets its own, and what
//! was opened before the fork is refused there by name.

use dunnage::Error;
use pyo3::prelude::*;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Threads that carry calls; they never wait for Python.
const WORKERS: usize = 2;
/// How long the interpreter's end waits for the waking thread.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// What the waking thread is told.
enum Order {
    /// Call this, which puts a wake-up into an event loop.
    Wake(Py<PyAny>),
    /// End, and say so.
    End(Sender<()>),
}

/// The runtime and the waking thread of one process.
pub(crate) struct Host {
    pid: u32,
    runtime: Runtime,
    orders: Mutex<Sender<Order>>,
}

/// The host of this process, and before a fork that of its parents. Never freed: threads use it to the very end.
static HOSTS: Mutex<Vec<&'static Host>> = Mutex::new(Vec::new());

/// Set when the interpreter ends: from then on no thread of ours enters it.
static ENDED: AtomicBool = AtomicBool::new(false);

impl Host {
    /// The host of this process, made on first use.
    pub(crate) fn get() -> dunnage::Result<&'static Self> {
        let pid = std::process::id();
        // A fork while another thread holds this for a moment would leave it locked in the child: it is never held
        // across anything that waits.
        let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.iter().find(|host| host.pid == pid) {
            return Ok(host);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("dunnage")
            .enable_all()
            .build()
            .map_err(|e| Error::io(e, "cannot start the threads of the library"))?;
        let (orders, waiting) = channel();
        std::thread::Builder::new()
            .name("dunnage-wake".to_owned())
            .spawn(move || wake_loops(&waiting))
            .map_err(|e| Error::io(e, "cannot start the threads of the library"))?;
        let host: &'static Self = Box::leak(Box::new(Self { pid, runtime, orders: Mutex::new(orders) }));
        hosts.push(host);
        Ok(host)
    }

    /// Whether this is the process it was made in.
    pub(crate) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    /// FAILED_PRECONDITION in a child of the process it was made in.
    pub(crate) fn check(&self) -> dunnage::Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::failed_precondition(
            "this was opened before the process forked: open an engine of its own in the child",
        )
        .with("opened_in", self.pid)
        .with("process", std::process::id()))
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Makes the runtime known to what is dropped or begun here.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Has `callback` called by the waking thread.
    pub(crate) fn wake(&self, callback: Py<PyAny>) {
        if !ENDED.load(Ordering::Acquire) {
            // Fails when that thread has ended, with the interpreter: nobody waits any more.
            let _ = self.orders.lock().unwrap_or_else(PoisonError::into_inner).send(Order::Wake(callback));
        }
    }
}

/// Calls what it is told to until it is told to end.
fn wake_loops(orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut end = None;
        let mut wakes = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Wake(callback) => wakes.push(callback),
                Order::End(done) => end = Some(done),
            }
        }
        if !wakes.is_empty() && !ENDED.load(Ordering::Acquire) {
            Python::try_attach(|py| {
                for wake in wakes {
                    // It fails when its loop is closed: nobody waits any more.
                    if let Err(error) = wake.call0(py)
                        && !error.is_instance_of::<pyo3::exceptions::PyRuntimeError>(py)
                    {
                        error.write_unraisable(py, Some(wake.bind(py)));
                    }
                }
            });
        }
        if let Some(done) = end {
            // Whoever asked may have gone on.
            let _ = done.send(());
            return;
        }
    }
}

/// Keeps the threads of the library out of the interpreter from here on. Called when the interpreter ends.
#[pyfunction]
pub fn shut_down(py: Python<'_>) {
    ENDED.store(true, Ordering::Release);
    let pid = std::process::id();
    let host = HOSTS.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().find(|h| h.pid == pid);
    if let Some(host) = host {
        let (done, wait) = channel();
        let asked = host.orders.lock().unwrap_or_else(PoisonError::into_inner).send(Order::End(done)).is_ok();
        if asked {
            // Detached: it may be about to enter the interpreter.
            py.detach(move || {
                // It has ended, or does not: either way the interpreter goes on.
                let _ = wait.recv_timeout(EXIT_WAIT);
            });
        }
    }
}

/// Reports an exception that a callback raised, as the interpreter does where nobody can catch one.
#[pyfunction]
pub fn report(py: Python<'_>, exception: Bound<'_, PyAny>, callback: Bound<'_, PyAny>) {
    PyErr::from_value(exception).write_unraisable(py, Some(&callback));
}
