use crate::engine::{held, json};
use crate::failure::to_python;
use crate::host::Host;
use crate::keep::Keep;
use crate::pending::{Call, Pending};
use dunnage::{ErrorKind, Process, Result, StreamKind};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::future::Future;
use std::sync::Arc;

/// A running command. Its process group is killed when this is dropped, unless it is a session.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeProcess {
    process: Keep<Arc<Process>>,
}

impl NativeProcess {
    pub(crate) fn new(host: &'static Host, process: Process) -> Self {
        Self { process: Keep::new(host, Arc::new(process)) }
    }

    fn guard<T, F>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(Arc<Process>) -> F,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Pending>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (host, process) = self.process.get().map_err(|e| to_python(py, &e))?;
        Ok(Call::new(host, None).guard(work(Arc::clone(process)), convert))
    }
}

#[pymethods]
impl NativeProcess {
    /// Its process id inside the workspace; None where the agent is too old to tell.
    #[getter]
    fn pid(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        Ok(self.process.get().map_err(|e| to_python(py, &e))?.1.pid())
    }

    /// The id by which it can be attached to; None when it is no session.
    #[getter]
    fn session_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.process.get().map_err(|e| to_python(py, &e))?.1.session_id().map(str::to_owned))
    }

    /// Lets go of a session.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        let (_, process) = self.process.get().map_err(|e| to_python(py, &e))?;
        process.detach().map_err(|e| to_python(py, &e))
    }

    /// The next piece of output: whether it is of stderr, and its bytes; ends with None when all was returned.
    fn next(&self, py: Python<'_>) -> PyResult<Pending> {
        self.guard(
            py,
            async move |process| process.next_output().await,
            |py, output| {
                output
                    .map(|(kind, bytes)| (kind == StreamKind::Stderr, PyBytes::new(py, &bytes)))
                    .into_py_any(py)
            },
        )
    }

    /// Throws away the output from here on.
    fn discard_output(&self, py: Python<'_>) -> PyResult<()> {
        self.process.get().map_err(|e| to_python(py, &e))?.1.discard_output();
        Ok(())
    }

    /// Writes `input`, closes stdin and reads to the end; ends with the `ExitStatus` as JSON text, stdout and stderr.
    fn communicate(&self, py: Python<'_>, input: PyBackedBytes) -> PyResult<Pending> {
        let input = held(input);
        let work = async move |process: Arc<Process>| {
            let write = async {
                let written = if input.is_empty() { Ok(()) } else { process.write_stdin(input).await };
                process.close_stdin().await;
                match written {
                    // A command may end without reading all its input, as in a shell's pipe.
                    Err(error) if error.kind() == ErrorKind::FailedPrecondition => Ok(()),
                    other => other,
                }
            };
            let read = async {
                let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
                while let Some((kind, bytes)) = process.next_output().await? {
                    let kept = if kind == StreamKind::Stderr { &mut stderr } else { &mut stdout };
                    kept.extend_from_slice(&bytes);
                }
                Ok((stdout, stderr))
            };
            let ((), (stdout, stderr)) = tokio::try_join!(write, read)?;
            Ok((json(&process.wait().await?)?, stdout, stderr))
        };
        self.guard(py, work, |py, (text, stdout, stderr)| {
            (text, PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)).into_py_any(py)
        })
    }

    /// Writes to its stdin; ends when the bytes are on their way.
    fn write(&self, py: Python<'_>, data: PyBackedBytes) -> PyResult<Pending> {
        let data = held(data);
        self.guard(
            py,
            async move |process: Arc<Process>| process.write_stdin(data).await,
            |py, ()| Ok(py.None()),
        )
    }

    /// Ends its stdin.
    fn close_stdin(&self, py: Python<'_>) -> PyResult<Pending> {
        let close = async move |process: Arc<Process>| {
            process.close_stdin().await;
            Ok(())
        };
        self.guard(py, close, |py, ()| Ok(py.None()))
    }

    /// Sets the size of its terminal.
    fn resize(&self, py: Python<'_>, cols: u32, rows: u32) -> PyResult<()> {
        let (_, process) = self.process.get().map_err(|e| to_python(py, &e))?;
        process.resize(cols, rows).map_err(|e| to_python(py, &e))
    }

    /// Sends a signal, a name or a number in digits, to its process group.
    fn signal(&self, py: Python<'_>, signal: String) -> PyResult<Pending> {
        self.guard(
            py,
            async move |process: Arc<Process>| process.signal(signal).await,
            |py, ()| Ok(py.None()),
        )
    }

    /// Kills its process group, or lets go of a session.
    fn close(&self, py: Python<'_>) -> PyResult<Pending> {
        self.guard(py, async move |process: Arc<Process>| process.close().await, |py, ()| Ok(py.None()))
    }

    /// Kills its process group; ends with its `ExitStatus` as JSON text.
    fn kill(&self, py: Python<'_>) -> PyResult<Pending> {
        self.guard(
            py,
            async move |process: Arc<Process>| json(&process.kill().await?),
            |py, text| text.into_py_any(py),
        )
    }

    /// Waits for its end; ends with its `ExitStatus` as JSON text.
    fn wait(&self, py: Python<'_>) -> PyResult<Pending> {
        self.guard(
            py,
            async move |process: Arc<Process>| json(&process.wait().await?),
            |py, text| text.into_py_any(py),
        )
    }
}
