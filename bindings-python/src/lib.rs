//! The native half of the PyPI package `dunnage`.
//!
//! It converts between Python and the `dunnage` crate and does nothing else: options and results pass as JSON text,
//! bytes as `bytes`, failures as the exceptions of the package. Its classes are private to the package; the Python
//! face over them is what programs see.
//!
//! No thread of the runtime ever waits for the interpreter: results lie in a `pending::Pending` until Python takes
//! them, and one thread of its own wakes event loops.

// What the module exports is reached from Python only.
#![allow(unreachable_pub)]

mod data;
mod engine;
mod failure;
mod files;
mod host;
mod items;
mod keep;
mod pending;
mod process;

use pyo3::prelude::*;

/// The native half of dunnage: private to the package.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::data::{NativeDataExport, NativeDataImport};
    #[pymodule_export]
    use crate::engine::{NativeEngine, check_workspace_id, open_engine};
    #[pymodule_export]
    use crate::files::{NativeReader, NativeWriter};
    #[pymodule_export]
    use crate::host::{report, shut_down};
    #[pymodule_export]
    use crate::items::NativeItems;
    #[pymodule_export]
    use crate::pending::Pending;
    #[pymodule_export]
    use crate::process::NativeProcess;

    /// The library's version.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
