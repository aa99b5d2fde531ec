//! Trees of files that benches are measured with.

use crate::Failure;
use crate::bed::{Bed, run};
use dunnage_harness::target_dir;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const MIB: u64 = 1 << 20;

/// Turns of each side: one takes seconds.
pub(super) fn turns(bed: &Bed) -> usize {
    bed.rounds.min(7)
}

/// A tree that is measured with.
pub(super) struct Set {
    name: &'static str,
    about: String,
    tree: PathBuf,
    place: tempfile::TempDir,
}

impl Set {
    /// About 1.3 GB in files of 3 to 60 MiB, of the installed toolchains.
    pub(super) fn large() -> Result<Self, Failure> {
        let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]))?;
        let roots = [PathBuf::from(sysroot.trim()), "/usr/lib".into(), "/usr/local".into()];
        Self::of("large", &roots, |size| (3 * MIB..60 * MIB).contains(&size), 1_300_000_000, usize::MAX)
    }

    /// 25,000 small files.
    pub(super) fn small() -> Result<Self, Failure> {
        Self::of("small", &["/usr/share".into()], |size| size < 16 << 10, u64::MAX, 25_000)
    }

    fn of(
        name: &'static str,
        roots: &[PathBuf],
        wanted: impl Fn(u64) -> bool,
        bytes: u64,
        files: usize,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(target_dir())?;
        let place = tempfile::Builder::new().prefix("bench-").tempdir_in(target_dir())?;
        let tree = place.path().join("tree");
        fs::create_dir(&tree)?;
        let (mut count, mut sum) = (0, 0);
        for root in roots {
            let mut next = vec![root.clone()];
            while let Some(directory) = next.pop() {
                let Ok(listed) = fs::read_dir(&directory) else { continue };
                let mut listed: Vec<_> = listed.collect::<Result<_, _>>()?;
                listed.sort_by_key(fs::DirEntry::file_name);
                for entry in listed {
                    let meta = entry.metadata()?;
                    if meta.is_dir() {
                        next.push(entry.path());
                    } else if meta.is_file() && wanted(meta.size()) && count < files && sum < bytes {
                        // As many directories as where they come from, a hundred files each.
                        let into = tree.join((count / 100).to_string());
                        fs::create_dir_all(&into)?;
                        let name = entry.file_name().to_string_lossy().into_owned();
                        fs::copy(entry.path(), into.join(format!("{count}-{name}")))?;
                        count += 1;
                        sum += meta.size();
                    }
                }
            }
        }
        rustix::fs::syncfs(File::open(&tree)?)?;
        let about = format!("{count} files, {} MB", sum / 1_000_000);
        Ok(Self { name, about, tree, place })
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// How much it is, for people.
    pub(super) fn about(&self) -> &str {
        &self.about
    }

    /// Where other things of the bench may lie, on the same file system.
    pub(super) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

/// Runs a script of bash with arguments, to its end.
pub(super) fn shell(script: &str, arguments: &[&Path]) -> Result<(), Failure> {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments)).map(drop)
}
