use crate::failure::to_python;
use crate::host::Host;
use crate::keep::Keep;
use crate::pending::{Call, Pending};
use dunnage::catalog::JsonItems;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Items of an operation. They end when this is dropped.
#[pyclass(frozen, module = "dunnage._native")]
pub struct NativeItems {
    items: Keep<Arc<Mutex<JsonItems>>>,
}

impl NativeItems {
    pub(crate) fn new(host: &'static Host, items: JsonItems) -> Self {
        Self { items: Keep::new(host, Arc::new(Mutex::new(items))) }
    }
}

#[pymethods]
impl NativeItems {
    /// The next item, which is made now; ends with it as JSON text, or with None after the last one.
    fn next(&self, py: Python<'_>) -> PyResult<Pending> {
        let (host, items) = self.items.get().map_err(|e| to_python(py, &e))?;
        let items = Arc::clone(items);
        let next = async move { items.lock().await.next().await.transpose() };
        Ok(Call::new(host, None).guard(next, |py, text| text.into_py_any(py)))
    }
}
