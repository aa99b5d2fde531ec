//! Real daemons start, serve and run containers, and go away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use dunnage_harness::{Containerd, ContainerdOptions, Registry, RegistryOptions, Version, fixtures};

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Pulls busybox from a registry, runs it, crashes the daemon under it and revives it, then stops everything.
fn tour(version: Version) {
    let registry = Registry::start(RegistryOptions::default()).unwrap();
    let image = registry.add(&fixtures::image("busybox").unwrap()).unwrap();
    let mut containerd = Containerd::start(ContainerdOptions { version, ..Default::default() }).unwrap();
    let namespace = containerd.namespace();

    run(containerd.ctr(&namespace).args(["image", "pull", "--plain-http", &image]));
    // Told by its exit code: `ctr` sometimes ends before it has copied what a short command printed.
    let check = "test \"$(id -u) $(cat /etc/hostname)\" = '0 fixture'";
    run(containerd.ctr(&namespace).args(["run", "--rm", &image, "one", "sh", "-c", check]));

    run(containerd.ctr(&namespace).args(["run", "-d", &image, "two", "sleep", "600"]));
    containerd.kill9().unwrap();
    containerd.restart().unwrap();
    let tasks = run(containerd.ctr(&namespace).args(["task", "ls"]));
    assert!(tasks.contains("two") && tasks.contains("RUNNING"), "{tasks}");

    let dir = containerd.dir().to_owned();
    let state = format!("/run/containerd/runc/{namespace}");
    assert!(std::path::Path::new(&state).exists());
    containerd.stop().unwrap();
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&state).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&dir.display().to_string()), "{mounts}");
}

#[test]
fn the_installed_containerd_runs_a_container() {
    tour(Version::V1_6);
}

#[test]
fn containerd_1_7_runs_a_container() {
    tour(Version::V1_7);
}

#[test]
fn containerd_2_1_runs_a_container() {
    tour(Version::V2_1);
}
