//! Processes of their own that use the library, to be killed or run side by side.

use super::Rig;
use dunnage::Config;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const HELPER: &str = env!("CARGO_BIN_EXE_dunnage-faults");

/// A helper process that is ended at the latest when the test ends.
pub(crate) struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts one.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(HELPER).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Starts one that says when it begins its work, and waits until it does.
    pub(crate) fn begun(arguments: &[&str]) -> Self {
        let mut helper = Self::start(arguments);
        assert_eq!(helper.lines.next().unwrap().unwrap(), "begin");
        helper
    }

    /// What it prints until it ends; it must succeed.
    pub(crate) fn output(mut self) -> String {
        let lines: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {lines:?}");
        lines.join("\n")
    }

    /// Kills it. Returns whether it was in time: it had not told of its end.
    pub(crate) fn kill(mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.next().is_none()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a configuration for helpers.
pub(crate) fn write_config(rig: &Rig, config: &Config) -> PathBuf {
    let file = rig.containerd.dir().join("config.json");
    std::fs::write(&file, serde_json::to_string(config).unwrap()).unwrap();
    file
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
