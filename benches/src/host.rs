//! A small C host, compiled against the header and the library as any other.

use crate::Failure;
use crate::bed::{self, Bed};
use dunnage_harness::{repository, target_dir};
use std::path::PathBuf;
use std::process::Command;

/// The compiled program.
#[derive(Debug)]
pub(crate) struct Host {
    program: PathBuf,
    _directory: tempfile::TempDir,
}

/// Compiles it.
///
/// # Errors
/// When there is no C compiler, or `scripts/bench` has not built the library.
pub(crate) fn build(bed: &Bed) -> Result<Host, Failure> {
    let directory = tempfile::tempdir_in(bed.containerd.data_root())?;
    let program = directory.path().join("host");
    let library = target_dir().join("release");
    // It is loaded by its soname, as an installed one is.
    std::os::unix::fs::symlink(library.join("libdunnage_ffi.so"), directory.path().join("libdunnage.so.0"))?;
    let include = repository().join("include");
    bed::run(
        Command::new("cc")
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(&include)
            .arg("-o")
            .arg(&program)
            .arg(repository().join("benches/host.c"))
            .arg("-L")
            .arg(&library)
            .arg("-ldunnage_ffi")
            .arg(format!("-Wl,-rpath,{}", directory.path().display())),
    )?;
    Ok(Host { program, _directory: directory })
}

impl Host {
    /// Runs it in the namespace of the bed and returns its resident memory in millions of bytes.
    pub(crate) fn run(&self, bed: &Bed) -> Result<f64, Failure> {
        let mut config = bed.config(&bed.namespace);
        // Its records are its own: they would be another process's.
        config["data_root"] = bed.containerd.data_root().join(bed.name("host")).display().to_string().into();
        let options = serde_json::json!({ "image": bed.image, "network": "none" });
        let said = bed::run(
            Command::new(&self.program).arg(config.to_string()).arg(bed.name("h")).arg(options.to_string()),
        )?;
        status_mb(&said, "VmRSS")
    }
}

/// A number of a process's status (proc(5)), such as `VmRSS`, in millions of bytes.
pub(crate) fn status_mb(status: &str, name: &str) -> Result<f64, Failure> {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(of, _)| *of == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse::<f64>().ok())
        .map(|kib| kib * 1024.0 / 1e6)
        .ok_or_else(|| format!("no {name} was told").into())
}
