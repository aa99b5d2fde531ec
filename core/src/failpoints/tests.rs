//! No change is forgotten: what changes something tells of a step.

use std::path::{Path, PathBuf};

/// The methods of the traits that only look. A new method is either here, or told by the decorator.
const LOOKS: &[&str] = &[
    "version",
    "image",
    "images",
    "snapshot",
    "snapshots",
    "container",
    "containers",
    "task",
    "tasks",
    "watch",
    "mark",
    "wait_task",
    "open_root",
    "task_root",
    "exec",
    "workspace",
    "workspaces",
    "workspace_of",
    "started",
    "image_preference",
    "versions",
    "unfinished",
    "unfinished_workspaces",
    "check",
    "is_completed",
    "is_untouched",
    "tell",
    "events",
    "newest_event",
    "hear_events",
    "restarts",
    "snapshot_usage",
    "storage",
    "open_dir",
    "has_layers",
    "changes",
    "close",
];

/// What changes files, mounts or processes, as it is spelt in the sources.
const CHANGES: &[&str] = &[
    "fs::write(",
    "fs::remove_",
    "fs::rename(",
    "fs::create_dir",
    "fs::copy(",
    "fs::chown(",
    "fs::hard_link(",
    "File::create(",
    "DirBuilder::new(",
    ".create_new(",
    "mount::mount(",
    "umount2(",
    "command.spawn(",
];

/// Functions that change something that is nobody's state: a lock's file, an empty directory.
const NOT_STEPS: &[&str] = &["open", "wait", "private_dir", "remove_one", "unpin_here"];

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_method_of_a_seam_looks_or_is_told() {
    let mut told = 0;
    for (seam, file, decorator) in [
        ("backend", "backend/mod.rs", "failpoints/backend.rs"),
        ("store", "store/mod.rs", "failpoints/store.rs"),
    ] {
        let decorator = read(&source(decorator));
        let methods = read(&source(file));
        let methods =
            methods.lines().filter_map(|line| line.trim().strip_prefix("async fn ")?.split('(').next());
        for method in methods {
            let is_told = decorator.contains(&format!("step(\"{seam}.{method}\")"));
            assert_ne!(LOOKS.contains(&method), is_told, "{seam}.{method}: does it look, or is it told?");
            told += usize::from(is_told);
        }
    }
    assert!(told >= 20, "only {told} steps were found");
}

/// The functions of a source file, each as its name and its text up to the next one, without the tests at its end.
fn functions(text: &str) -> Vec<(String, String)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let name = code.split_once("fn ").and_then(|(_, rest)| rest.split(['(', '<']).next());
        match name
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        {
            Some(name) => found.push((name.to_owned(), String::new())),
            None => {
                if let Some((_, body)) = found.last_mut() {
                    body.push_str(code);
                    body.push('\n');
                }
            }
        }
    }
    found
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                files_below(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_direct_change_is_a_step() {
    let mut files = Vec::new();
    for dir in ["lifecycle", "network", "engine", "operation"] {
        files_below(&source(dir), &mut files);
    }
    let mut steps = 0;
    for file in files {
        for (name, body) in functions(&read(&file)) {
            let change = CHANGES.iter().find(|change| body.contains(**change));
            let told = body.contains("step(\"");
            steps += usize::from(told);
            if let Some(change) = change {
                let known = told || NOT_STEPS.contains(&name.as_str());
                assert!(known, "{}: {name} changes something with {change} and is no step", file.display());
            }
        }
    }
    assert!(steps >= 7, "only {steps} steps were found");
}
