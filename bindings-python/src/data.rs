use crate::engine::{held, json};
use crate::failure::to_python;
use crate::host::Host;
use crate::keep::Keep;
use crate::pending::{Call, Pending};
use dunnage::types::{DataExportResult, DataImportResult};
use dunnage::{DataFeed, DataPieces, Operation};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde::Serialize;
use std::io;
use std::sync::Arc;

/// What Python's own error is for the library.
fn fault(message: String, errno: Option<i32>) -> io::Error {
    let kind = errno.map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind());
    io::Error::new(kind, message)
}

/// Waits for an operation that has begun; ends with its result as JSON text.
fn drive<T: Serialize + Send + 'static>(call: Call, operation: Operation<T>) -> Pending {
    call.start(|call| async move { json(&call.drive(operation).await?) }, |py, text| text.into_py_any(py))
}

/// The archive of an export that has begun. Dropped before its end, it fails the export.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeDataExport {
    pieces: Keep<Arc<DataPieces>>,
}

impl NativeDataExport {
    /// The archive, and what waits for the operation.
    pub(crate) fn begin(
        host: &'static Host,
        call: Call,
        (operation, pieces): (Operation<DataExportResult>, DataPieces),
    ) -> (Self, Pending) {
        (Self { pieces: Keep::new(host, Arc::new(pieces)) }, drive(call, operation))
    }
}

#[pymethods]
impl NativeDataExport {
    /// The next piece; ends with None at the end of the archive, and when the export has failed.
    fn next(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, pieces) = self.pieces.get().map_err(|e| to_python(py, &e))?;
        let pieces = Arc::clone(pieces);
        Ok(Call::new(host, None).guard(async move { Ok(pieces.next().await) }, |py, piece| {
            piece.map(|piece| PyBytes::new(py, &piece)).into_py_any(py)
        }))
    }

    /// Ends the export: Python can take no more.
    #[pyo3(signature = (message, errno))]
    fn fail(&self, py: Python<'_>, message: String, errno: Option<i32>) -> PyResult<()> {
        let (_, pieces) = self.pieces.get().map_err(|e| to_python(py, &e))?;
        pieces.fail(fault(message, errno));
        Ok(())
    }
}

/// What an archive is written to that is imported. Dropped unfinished, it fails the import.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeDataImport {
    feed: Keep<Arc<DataFeed>>,
}

impl NativeDataImport {
    /// The place for the archive, and what waits for the operation.
    pub(crate) fn begin(
        host: &'static Host,
        call: Call,
        (operation, feed): (Operation<DataImportResult>, DataFeed),
    ) -> (Self, Pending) {
        (Self { feed: Keep::new(host, Arc::new(feed)) }, drive(call, operation))
    }
}

#[pymethods]
impl NativeDataImport {
    /// Gives a piece; ends when there is room for more.
    fn write(&self, py: Python<'_>, data: PyBackedBytes) -> PyResult<Pending> {
        let (host, feed) = self.feed.get().map_err(|e| to_python(py, &e))?;
        let feed = Arc::clone(feed);
        let write = async move { feed.write(held(data)).await };
        Ok(Call::new(host, None).guard(write, |py, ()| Ok(py.None())))
    }

    /// Tells that the archive is whole.
    fn finish(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, feed) = self.feed.get().map_err(|e| to_python(py, &e))?;
        let feed = Arc::clone(feed);
        let finish = async move { feed.finish().await };
        Ok(Call::new(host, None).guard(finish, |py, ()| Ok(py.None())))
    }

    /// Ends the import: Python has no more to give.
    #[pyo3(signature = (message, errno))]
    fn fail(&self, py: Python<'_>, message: String, errno: Option<i32>) -> PyResult<()> {
        let (_, feed) = self.feed.get().map_err(|e| to_python(py, &e))?;
        feed.fail(fault(message, errno));
        Ok(())
    }
}
