//! What runc and the shims leave outside a containerd's own directories: state, control groups, sockets, FIFOs.
//!
//! These places are global to the host, so each trace is matched to our directory before it is touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::processes;

/// Where runc keeps the state of every container of every containerd, a directory a namespace.
const RUNC: &str = "/run/containerd/runc";
/// Where control groups are: a hierarchy of version 2, or one of version 1 in each directory.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where shims listen.
const SHIM_SOCKETS: &str = "/run/containerd/s/";
/// Where containerd's Go client makes FIFOs.
const FIFOS: &str = "/run/containerd/fifo";

/// Files and directories that belong to the containers of one directory; collected while the shims still run.
#[derive(Debug, Default)]
pub(super) struct Traces {
    files: BTreeSet<PathBuf>,
    trees: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    empty_dirs: BTreeSet<PathBuf>,
}

impl Traces {
    /// Looks for what belongs to the containers of `dir`.
    pub(super) fn collect(dir: &Path) -> Self {
        let mut traces = Self::default();
        traces.add_runc_state(dir);
        traces.add_shim_sockets(dir, 6);
        for pid in processes::owned_by(dir) {
            traces.trees.extend(processes::fifo_dirs(pid, Path::new(FIFOS)));
        }
        traces
    }

    fn add_runc_state(&mut self, dir: &Path) {
        for namespace in children(Path::new(RUNC)) {
            for container in children(&namespace) {
                let Ok(state) = fs::read(container.join("state.json")) else { continue };
                let Ok(state) = serde_json::from_slice::<serde_json::Value>(&state) else { continue };
                let labels = state.pointer("/config/labels").and_then(|labels| labels.as_array());
                let ours = labels.into_iter().flatten().filter_map(|label| label.as_str()).any(|label| {
                    label.strip_prefix("bundle=").is_some_and(|bundle| Path::new(bundle).starts_with(dir))
                });
                if !ours {
                    continue;
                }
                let cgroups = state.get("cgroup_paths").and_then(|paths| paths.as_object());
                for path in cgroups.into_iter().flatten().filter_map(|(_, path)| path.as_str()) {
                    let path = PathBuf::from(path);
                    // Clients put a container's group into one that is named like the namespace.
                    let parent = path.parent().filter(|parent| parent.file_name() == namespace.file_name());
                    self.empty_dirs.extend(parent.map(Path::to_owned));
                    self.cgroups.insert(path);
                }
                self.trees.insert(container);
                self.empty_dirs.insert(namespace.clone());
            }
        }
    }

    /// Bundles name the socket of their shim: `address` up to 1.7, `bootstrap.json` from 2.0.
    fn add_shim_sockets(&mut self, dir: &Path, depth: usize) {
        for path in children(dir) {
            let name = path.file_name().unwrap_or_default();
            if name == "address" || name == "bootstrap.json" {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let socket = text.split("unix://").nth(1).and_then(|rest| rest.split(['"', '\n']).next());
                self.files.extend(socket.filter(|path| path.starts_with(SHIM_SOCKETS)).map(PathBuf::from));
            } else if depth > 0
                && !matches!(name.to_str(), Some("rootfs" | "root" | "storage" | "data"))
                && path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
            {
                self.add_shim_sockets(&path, depth - 1);
            }
        }
    }

    /// Removes it all; the processes must be gone. What is not there any more is fine.
    pub(super) fn remove(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for tree in &self.trees {
            let _ = fs::remove_dir_all(tree);
        }
        for group in &self.cgroups {
            remove_cgroup(group);
        }
        for dir in self.empty_dirs.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Removes the empty directories that namespaces of this token leave when their containers have gone before: of runc's
/// state, and of control groups.
pub(super) fn remove_namespaces(token: &str) {
    let ours = format!("dunh{token}-");
    let groups = Path::new(CGROUPS);
    let places = [PathBuf::from(RUNC), groups.to_owned()].into_iter().chain(children(groups));
    for dir in places.flat_map(|place| children(&place)) {
        if dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours)) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Control groups are removed from the leaves up; their files go with them.
fn remove_cgroup(group: &Path) {
    for child in children(group) {
        if child.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            remove_cgroup(&child);
        }
    }
    let _ = fs::remove_dir(group);
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}
