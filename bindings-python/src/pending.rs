use crate::failure::to_python;
use crate::host::Host;
use dunnage::types::{Event, EventType};
use dunnage::{CallOptions, Error, Result};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a thread that waits looks whether a signal has come: what Ctrl-C takes at most to be seen.
const SIGNAL_CHECK: Duration = Duration::from_millis(20);

/// Makes a Python object of a result, once Python takes it.
type Convert = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What a call has told so far.
#[derive(Default)]
struct State {
    events: VecDeque<(EventType, String)>,
    outcome: Option<Result<Convert>>,
    done: bool,
    /// Called once when there is something to take; whoever takes it gives it again.
    wake: Option<Py<PyAny>>,
}

impl State {
    fn is_ready(&self) -> bool {
        self.done || !self.events.is_empty()
    }

    fn take(&mut self) -> (Vec<String>, bool) {
        (self.events.drain(..).map(|(_, text)| text).collect(), self.done)
    }
}

/// Where a call and whoever waits for it meet. Neither side waits for the other's lock for long.
pub(crate) struct Meeting {
    host: &'static Host,
    state: Mutex<State>,
    changed: Condvar,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if state.is_ready()
            && let Some(wake) = state.wake.take()
        {
            self.host.wake(wake);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Adds an event; progress that nobody has taken yet gives way to newer progress.
    fn event(&self, event: &Event) {
        let Ok(text) = serde_json::to_string(event) else { return };
        self.tell(|state| {
            if event.kind == EventType::PullProgress
                && state.events.back().is_some_and(|(kind, _)| *kind == EventType::PullProgress)
            {
                state.events.pop_back();
            }
            state.events.push_back((event.kind, text));
        });
    }

    fn finish(&self, outcome: Result<Convert>) {
        self.tell(|state| {
            if !state.done {
                state.done = true;
                state.outcome = Some(outcome);
            }
        });
    }
}

/// Ends a call whose task went away without an end: it panicked, or its runtime was shut down.
struct EndGuard(Arc<Meeting>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.finish(Err(Error::unexpected("the call ended without a result; please report it")));
    }
}

/// A call under way. Dropping it cancels the call.
#[pyclass(frozen, module = "dunnage._native")]
pub struct Pending {
    meeting: Arc<Meeting>,
    cancel: CancellationToken,
}

/// How a call is made: its time limit, whether it is watched, and what cancels it.
pub(crate) struct Call {
    meeting: Arc<Meeting>,
    cancel: CancellationToken,
    options: CallOptions,
}

impl Call {
    /// `time_limit` is in seconds; the face has refused what is no positive number.
    pub(crate) fn new(host: &'static Host, time_limit: Option<f64>) -> Self {
        let meeting = Arc::new(Meeting { host, state: Mutex::default(), changed: Condvar::new() });
        let cancel = CancellationToken::new();
        let mut options = CallOptions::default().cancel_token(cancel.clone());
        // Durations beyond what the type can carry are no limit in practice.
        if let Some(limit) = time_limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            options = options.time_limit(limit);
        }
        Self { meeting, cancel, options }
    }

    /// Has the call's events kept for whoever waits.
    pub(crate) fn watched(mut self) -> Self {
        let meeting = Arc::clone(&self.meeting);
        self.options = self.options.on_event(move |event| meeting.event(&event));
        self
    }

    /// Starts `work`, which gets the options to guard or drive itself with.
    pub(crate) fn start<T, F>(
        self,
        work: impl FnOnce(CallOptions) -> F,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Pending
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Self { meeting, cancel, options } = self;
        let work = work(options);
        let end = EndGuard(Arc::clone(&meeting));
        meeting.host.spawn(async move {
            let outcome =
                work.await.map(|value| Box::new(move |py: Python<'_>| convert(py, value)) as Convert);
            end.0.finish(outcome);
        });
        Pending { meeting, cancel }
    }

    /// As [`Call::start`], for work that may be dropped at any time.
    pub(crate) fn guard<T, F>(
        self,
        work: F,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Pending
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.start(|options| async move { options.guard(work).await }, convert)
    }
}

#[pymethods]
impl Pending {
    /// Waits until there is something to take: the events, and whether the call is done. The interpreter is free
    /// meanwhile, and signal handlers run.
    fn wait(&self, py: Python<'_>) -> PyResult<(Vec<String>, bool)> {
        self.wait_until(py, State::is_ready)?;
        Ok(self.meeting.lock().take())
    }

    /// What there is to take now. `wake`, if given, is called once, from another thread, when there is more.
    #[pyo3(signature = (wake=None))]
    fn poll(&self, wake: Option<Py<PyAny>>) -> (Vec<String>, bool) {
        let mut state = self.meeting.lock();
        let taken = state.take();
        if !taken.1 {
            state.wake = wake;
        }
        taken
    }

    /// Waits until the call is done, and forgets its events.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.wait_until(py, |state| state.done)
    }

    /// Asks the call to undo what it did and to end in CANCELLED. Returns at once.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The call's result, once, after it is done.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let outcome = self.meeting.lock().outcome.take();
        match outcome {
            Some(Ok(convert)) => convert(py),
            Some(Err(error)) => Err(to_python(py, &error)),
            None => Err(to_python(
                py,
                &Error::failed_precondition("the call is not done, or its result was taken"),
            )),
        }
    }
}

impl Pending {
    fn wait_until(&self, py: Python<'_>, ready: impl Fn(&State) -> bool + Sync) -> PyResult<()> {
        loop {
            let is_ready = py.detach(|| {
                let state = self.meeting.lock();
                let waiting = |state: &mut State| !ready(state);
                let waited = self.meeting.changed.wait_timeout_while(state, SIGNAL_CHECK, waiting);
                let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                ready(&state)
            });
            if is_ready {
                return Ok(());
            }
            py.check_signals()?;
            self.meeting.host.check().map_err(|error| to_python(py, &error))?;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After the end it does nothing.
        self.cancel.cancel();
    }
}
