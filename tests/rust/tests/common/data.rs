//! Options for archives and what is preserved, with no grace for what runs.

use std::path::Path;

use dunnage::types::{
    DataExportOptions, DataImportOptions, DataPreserveOptions, DataRestoreOptions, PreserveForm,
};

pub(crate) fn to(path: &Path) -> DataExportOptions {
    DataExportOptions::default().destination(path.display().to_string()).grace_ms(0u64)
}

pub(crate) fn from(path: &Path) -> DataImportOptions {
    DataImportOptions::default().source(path.display().to_string()).grace_ms(0u64)
}

pub(crate) fn preserve(form: PreserveForm) -> DataPreserveOptions {
    DataPreserveOptions::default().form(form).grace_ms(0u64)
}

pub(crate) fn restore(generation: u64) -> DataRestoreOptions {
    DataRestoreOptions::default().generation(generation).grace_ms(0u64)
}
