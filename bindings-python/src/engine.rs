use crate::data::{NativeDataExport, NativeDataImport};
use crate::failure::to_python;
use crate::files::{NativeReader, NativeWriter};
use crate::host::Host;
use crate::items::NativeItems;
use crate::keep::Keep;
use crate::pending::{Call, Pending};
use crate::process::NativeProcess;
use bytes::Bytes;
use dunnage::{Config, Data, Engine, Workspace, WorkspaceId};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// An engine. Every method that moves no bytes goes through `call`.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeEngine {
    engine: Keep<Engine>,
}

/// Opens an engine: from JSON text, else from a configuration file, else from the environment. Ends with a
/// `NativeEngine`.
#[pyfunction]
#[pyo3(signature = (config, file, time_limit))]
pub fn open_engine(
    py: Python<'_>,
    config: Option<String>,
    file: Option<PathBuf>,
    time_limit: Option<f64>,
) -> PyResult<Pending> {
    let host = Host::get().map_err(|e| to_python(py, &e))?;
    let open = async move {
        let config = match (config, file) {
            (Some(text), _) => Config::from_json(&text),
            (None, Some(path)) => Config::from_file(path),
            (None, None) => Config::from_env(),
        };
        let engine = Engine::open(config.map_err(|e| e.in_operation("engine.open"))?).await?;
        Ok(NativeEngine { engine: Keep::new(host, engine) })
    };
    let guarded = |options: dunnage::CallOptions| async move {
        options.guard(open).await.map_err(|e| e.in_operation("engine.open"))
    };
    Ok(Call::new(host, time_limit).start(guarded, |py, engine| engine.into_py_any(py)))
}

/// Raises when the id is malformed.
#[pyfunction]
pub fn check_workspace_id(py: Python<'_>, id: String) -> PyResult<()> {
    WorkspaceId::new(id).map(drop).map_err(|e| to_python(py, &e.in_operation("engine.workspace")))
}

#[pymethods]
impl NativeEngine {
    /// Calls an operation with options as JSON text; ends with its result as JSON text.
    #[pyo3(signature = (operation, workspace, options, events, time_limit))]
    fn call(
        &self,
        py: Python<'_>,
        operation: String,
        workspace: Option<String>,
        options: String,
        events: bool,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let (host, engine) = self.engine.get().map_err(|e| to_python(py, &e))?;
        let engine = engine.clone();
        let call = Call::new(host, time_limit);
        let call = if events { call.watched() } else { call };
        let work = |call| async move { engine.call(&operation, workspace.as_deref(), &options, call).await };
        Ok(call.start(work, |py, text| text.into_py_any(py)))
    }

    /// Calls an operation that yields items, with options as JSON text; ends with a `NativeItems`.
    #[pyo3(signature = (operation, workspace, options, time_limit))]
    fn items(
        &self,
        py: Python<'_>,
        operation: String,
        workspace: Option<String>,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let (host, engine) = self.engine.get().map_err(|e| to_python(py, &e))?;
        let engine = engine.clone();
        // What cancels the beginning must not go on to end the items: they end when they are dropped.
        let open = async move {
            let call = dunnage::CallOptions::default();
            let items = engine.call_items(&operation, workspace.as_deref(), &options, call).await?;
            Ok(NativeItems::new(host, items))
        };
        Ok(Call::new(host, time_limit).guard(open, |py, items| items.into_py_any(py)))
    }

    /// Closes the engine; ends when nothing runs any more.
    fn close(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, engine) = self.engine.get().map_err(|e| to_python(py, &e))?;
        let engine = engine.clone();
        // Not guarded: it goes on however it was asked to stop.
        let work = |_| async move {
            engine.close().await;
            Ok(())
        };
        Ok(Call::new(host, None).start(work, |py, ()| Ok(py.None())))
    }

    /// Begins an export whose archive Python takes: what it takes it from, and what ends with the result as JSON text.
    fn data_export_stream(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        events: bool,
        time_limit: Option<f64>,
    ) -> PyResult<(NativeDataExport, Pending)> {
        let export = |data: Data, options| data.export_stream(options);
        let (host, begun) = self.begin(py, "data.export_stream", workspace, &options, export)?;
        let call = Call::new(host, time_limit);
        Ok(NativeDataExport::begin(host, if events { call.watched() } else { call }, begun))
    }

    /// Begins an import whose archive Python gives: what it gives it to, and what ends with the result as JSON text.
    fn data_import_stream(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        events: bool,
        time_limit: Option<f64>,
    ) -> PyResult<(NativeDataImport, Pending)> {
        let import = |data: Data, options| data.import_stream(options);
        let (host, begun) = self.begin(py, "data.import_stream", workspace, &options, import)?;
        let call = Call::new(host, time_limit);
        Ok(NativeDataImport::begin(host, if events { call.watched() } else { call }, begun))
    }

    /// Runs a command; ends with its result as JSON text, its stdout and its stderr.
    fn exec_run(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        input: PyBackedBytes,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let run = async move |_, workspace: Workspace, options| {
            let output = workspace.exec().run(options, held(input)).await?;
            Ok((json(&output.result)?, output.stdout, output.stderr))
        };
        self.with(py, "exec.run", workspace, options, time_limit, run, |py, (text, stdout, stderr)| {
            (text, PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)).into_py_any(py)
        })
    }

    /// Starts a command; ends with a `NativeProcess`.
    fn exec_spawn(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let spawn = async move |host, workspace: Workspace, options| {
            Ok(NativeProcess::new(host, workspace.exec().spawn(options).await?))
        };
        self.with(py, "exec.spawn", workspace, options, time_limit, spawn, |py, process| {
            process.into_py_any(py)
        })
    }

    /// Attaches to a session; ends with a `NativeProcess`.
    fn exec_attach(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let attach = async move |host, workspace: Workspace, options| {
            Ok(NativeProcess::new(host, workspace.exec().attach(options).await?))
        };
        self.with(py, "exec.attach", workspace, options, time_limit, attach, |py, process| {
            process.into_py_any(py)
        })
    }

    /// Reads a file; ends with bytes.
    fn fs_read(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let read = async move |_, workspace: Workspace, options| workspace.fs().read(options).await;
        self.with(py, "fs.read", workspace, options, time_limit, read, |py, bytes| {
            PyBytes::new(py, &bytes).into_py_any(py)
        })
    }

    /// Replaces a file; ends with the result as JSON text.
    fn fs_write(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        content: PyBackedBytes,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let write = async move |_, workspace: Workspace, options| {
            json(&workspace.fs().write(options, held(content)).await?)
        };
        self.with(py, "fs.write", workspace, options, time_limit, write, |py, text| text.into_py_any(py))
    }

    /// Opens a file for reading; ends with a `NativeReader`.
    fn fs_open_read(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let open = async move |host, workspace: Workspace, options| {
            Ok(NativeReader::new(host, workspace.fs().open_read(options).await?))
        };
        self.with(py, "fs.open_read", workspace, options, time_limit, open, |py, reader| {
            reader.into_py_any(py)
        })
    }

    /// Opens a file for writing; ends with a `NativeWriter`.
    fn fs_open_write(
        &self,
        py: Python<'_>,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
    ) -> PyResult<Pending> {
        let open = async move |host, workspace: Workspace, options| {
            Ok(NativeWriter::new(host, workspace.fs().open_write(options).await?))
        };
        self.with(py, "fs.open_write", workspace, options, time_limit, open, |py, writer| {
            writer.into_py_any(py)
        })
    }
}

impl NativeEngine {
    /// Reads the options and begins an operation on the workspace's data.
    fn begin<O: DeserializeOwned, T>(
        &self,
        py: Python<'_>,
        operation: &'static str,
        workspace: String,
        options: &str,
        work: impl FnOnce(Data, O) -> T,
    ) -> PyResult<(&'static Host, T)> {
        let begun = || {
            let (host, engine) = self.engine.get()?;
            let _runtime = host.enter();
            let options = dunnage::catalog::parse::<O>(options)?;
            Ok((host, work(engine.workspace(workspace)?.data(), options)))
        };
        begun().map_err(|e: dunnage::Error| to_python(py, &e.in_operation(operation)))
    }

    /// Reads the options and runs `work` on the workspace under the call's token and time limit.
    #[expect(clippy::too_many_arguments, reason = "it is one call with all that belongs to it")]
    fn with<O, T, W, F>(
        &self,
        py: Python<'_>,
        operation: &'static str,
        workspace: String,
        options: String,
        time_limit: Option<f64>,
        work: W,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Pending>
    where
        O: DeserializeOwned + Send + 'static,
        T: Send + 'static,
        W: FnOnce(&'static Host, Workspace, O) -> F + Send + 'static,
        F: Future<Output = dunnage::Result<T>> + Send + 'static,
    {
        let (host, engine) = self.engine.get().map_err(|e| to_python(py, &e))?;
        let engine = engine.clone();
        let run = move |call: dunnage::CallOptions| async move {
            let run = async {
                let options = dunnage::catalog::parse::<O>(&options)?;
                call.guard(work(host, engine.workspace(workspace)?, options)).await
            };
            run.await.map_err(|e| e.in_operation(operation))
        };
        Ok(Call::new(host, time_limit).start(run, convert))
    }
}

/// Python's bytes as the library's, not copied: the object is kept as long as they are used.
pub(crate) fn held(bytes: PyBackedBytes) -> Bytes {
    Bytes::from_owner(bytes)
}

/// A result as JSON text.
pub(crate) fn json(value: &impl serde::Serialize) -> dunnage::Result<String> {
    serde_json::to_string(value)
        .map_err(|e| dunnage::Error::unexpected("cannot write the result").caused_by(e))
}
