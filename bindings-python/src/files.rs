use crate::engine::{held, json};
use crate::failure::to_python;
use crate::host::Host;
use crate::keep::Keep;
use crate::pending::{Call, Pending};
use dunnage::{FileReader, FileWriter};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// A file that is open for reading.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeReader {
    reader: Keep<Arc<FileReader>>,
}

impl NativeReader {
    pub(crate) fn new(host: &'static Host, reader: FileReader) -> Self {
        Self { reader: Keep::new(host, Arc::new(reader)) }
    }
}

#[pymethods]
impl NativeReader {
    /// Its length when it was opened; None where the agent does not tell.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.reader.get().map_err(|e| to_python(py, &e))?.1.size())
    }

    /// The next piece; ends with None at the end of the file.
    fn next(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, reader) = self.reader.get().map_err(|e| to_python(py, &e))?;
        let reader = Arc::clone(reader);
        Ok(Call::new(host, None).guard(async move { reader.next_chunk().await }, |py, chunk| {
            chunk.map(|chunk| PyBytes::new(py, &chunk)).into_py_any(py)
        }))
    }
}

/// A file that is open for writing. Dropped unfinished, it leaves the old file as it was.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeWriter {
    writer: Keep<Arc<FileWriter>>,
}

impl NativeWriter {
    pub(crate) fn new(host: &'static Host, writer: FileWriter) -> Self {
        Self { writer: Keep::new(host, Arc::new(writer)) }
    }
}

#[pymethods]
impl NativeWriter {
    /// Writes a piece; ends when there is room for more.
    fn write(&self, py: Python<'_>, data: PyBackedBytes) -> PyResult<Pending> {
        let (host, writer) = self.writer.get().map_err(|e| to_python(py, &e))?;
        let writer = Arc::clone(writer);
        let write = async move { writer.write(held(data)).await };
        Ok(Call::new(host, None).guard(write, |py, ()| Ok(py.None())))
    }

    /// Puts the file in its place; ends with its `WriteResult` as JSON text.
    fn finish(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, writer) = self.writer.get().map_err(|e| to_python(py, &e))?;
        let writer = Arc::clone(writer);
        let finish = async move { json(&writer.finish().await?) };
        Ok(Call::new(host, None).guard(finish, |py, text| text.into_py_any(py)))
    }

    /// Leaves the old file as it was. May be called again.
    fn abort(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, writer) = self.writer.get().map_err(|e| to_python(py, &e))?;
        let writer = Arc::clone(writer);
        let abort = |_| async move {
            writer.abort().await;
            Ok(())
        };
        Ok(Call::new(host, None).start(abort, |py, ()| Ok(py.None())))
    }
}
