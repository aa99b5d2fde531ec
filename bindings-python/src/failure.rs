use dunnage::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The library's error as the exception of its kind.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    static FROM_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let exception = || -> PyResult<Bound<'_, PyAny>> {
        let from_json = FROM_JSON.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("dunnage._errors")?.getattr("from_json")?.unbind())
        })?;
        // The message alone: the exception shows operation and context by itself.
        let mut json = error.to_json();
        if let Some(object) = json.as_object_mut() {
            object.insert("message".to_owned(), error.message_with_cause().into());
        }
        from_json.bind(py).call1((json.to_string(),))
    };
    match exception() {
        Ok(exception) => PyErr::from_value(exception),
        Err(fault) => fault,
    }
}
