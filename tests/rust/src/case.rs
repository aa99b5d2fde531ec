//! The cases as the file has them.

use crate::Failure;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The whole file.
#[derive(Deserialize)]
pub(crate) struct File {
    pub(crate) config: Value,
    #[serde(rename = "case")]
    pub(crate) cases: Vec<Case>,
}

/// One case.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    #[serde(default)]
    pub(crate) native: bool,
    /// Why a language has none, by language.
    #[serde(default)]
    pub(crate) except: BTreeMap<String, String>,
    #[serde(default, rename = "step")]
    pub(crate) steps: Vec<Step>,
}

/// One step of a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) op: String,
    pub(crate) on: Option<String>,
    #[serde(default)]
    pub(crate) options: Value,
    pub(crate) input: Option<String>,
    pub(crate) repeat: Option<usize>,
    pub(crate) save: Option<String>,
    pub(crate) expect: Option<Value>,
    pub(crate) expect_output: Option<Value>,
    pub(crate) expect_output_len: Option<usize>,
    pub(crate) expect_stderr: Option<Value>,
    pub(crate) expect_error: Option<String>,
    pub(crate) error_contains: Option<String>,
    pub(crate) expect_events: Option<Vec<String>>,
    pub(crate) cancel_on: Option<String>,
    pub(crate) time_limit_ms: Option<u64>,
}

impl File {
    /// Reads `$DUNNAGE_TEST_CASES`, or the file beside this crate.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../behavior/cases.toml");
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        toml::from_str(&text).map_err(|e| format!("{path}: {e}"))
    }
}
