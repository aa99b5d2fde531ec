//! However the owner ends, nothing stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A served harness with a container that runs in a network namespace on its bridge.
struct Busy {
    child: Child,
    dir: PathBuf,
    address: String,
    bridge: String,
    namespace: String,
    netns: PathBuf,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn start() -> Busy {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dunnage-harness"))
        .args(["serve", "--registry", "--images", "busybox", "--containerd", "1.6"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let about: Value = serde_json::from_str(&line).unwrap();
    let field = |name: &str| about[name].as_str().unwrap().to_owned();
    let (address, namespace) = (field("address"), field("namespace"));
    let ctr = || {
        let mut command = Command::new("ctr");
        command.args(["-a", &address, "-n", &namespace]);
        command
    };
    let image = about["images"]["busybox"].as_str().unwrap();
    run(ctr().args(["image", "pull", "--plain-http", image]));

    // The plugins themselves wire a named network namespace, as a library would.
    let bridge = field("bridge");
    let name = format!("wired-{bridge}");
    run(Command::new("ip").args(["netns", "add", &name]));
    let netns = Path::new("/run/netns").join(&name);
    let conf_dir = PathBuf::from(field("cni_conf_dir"));
    let conf = std::fs::read_dir(conf_dir).unwrap().next().unwrap().unwrap().path();
    add_to_network(&std::fs::read_to_string(conf).unwrap(), &netns);
    run(ctr().args([
        "run",
        "-d",
        "--with-ns",
        &format!("network:{}", netns.display()),
        image,
        "busy",
        "sleep",
        "600",
    ]));
    let rules = Command::new("iptables-save").output().unwrap();
    assert!(String::from_utf8_lossy(&rules.stdout).contains(&field("cni_network")));
    Busy { child, dir: field("dir").into(), address, bridge, namespace, netns }
}

/// ADD of the list's first plugin, which makes the bridge, the address and the masquerading.
fn add_to_network(list: &str, netns: &Path) {
    let list: Value = serde_json::from_str(list).unwrap();
    let mut conf = list["plugins"][0].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    conf["name"] = list["name"].clone();
    let mut child = Command::new("/usr/lib/cni/bridge")
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "busy"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/usr/lib/cni"),
        ])
        .env("CNI_NETNS", netns)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

impl Busy {
    /// What is left of it, in words.
    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let text = self.dir.display().to_string();
        // The owner's directory is the one above the daemon's.
        if self.dir.parent().unwrap().exists() {
            left.push(format!("directory {}", self.dir.parent().unwrap().display()));
        }
        if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&text) {
            left.push("a mount".to_owned());
        }
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&text) {
                left.push(format!("process {line}"));
            }
        }
        let groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let groups = groups.chain([PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/run/containerd/runc")]);
        let named = groups.map(|place| place.join(&self.namespace));
        for path in named.chain([Path::new("/sys/class/net").join(&self.bridge), self.netns.clone()]) {
            if path.exists() {
                left.push(path.display().to_string());
            }
        }
        let rules = Command::new("iptables-save").output().unwrap();
        let network = self.bridge.strip_prefix("dh").unwrap();
        if String::from_utf8_lossy(&rules.stdout).contains(network) {
            left.push("firewall rules".to_owned());
        }
        left
    }

    fn expect_nothing(&mut self) {
        let _ = self.child.wait();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn signal(child: &Child, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]));
}

#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    let mut busy = start();
    assert!(!busy.leftovers().is_empty());
    signal(&busy.child, "KILL");
    busy.expect_nothing();
}

#[test]
fn an_owner_that_is_interrupted_leaves_nothing() {
    let mut busy = start();
    signal(&busy.child, "INT");
    busy.expect_nothing();
}

#[test]
fn an_owner_that_closes_the_pipe_leaves_nothing_when_it_ends() {
    let mut busy = start();
    drop(busy.child.stdin.take());
    assert!(busy.child.wait().unwrap().success());
    // No waiting: it ends when all is gone.
    assert_eq!(busy.leftovers(), Vec::<String>::new());
}

#[test]
fn a_container_that_has_gone_before_leaves_nothing_either() {
    let mut busy = start();
    let ctr = |words: &[&str]| {
        run(Command::new("ctr").args(["-a", &busy.address, "-n", &busy.namespace]).args(words));
    };
    ctr(&["task", "rm", "--force", "busy"]);
    ctr(&["container", "rm", "busy"]);
    assert!(busy.leftovers().iter().any(|left| left.starts_with("/sys/fs/cgroup")), "{:?}", busy.leftovers());
    drop(busy.child.stdin.take());
    busy.expect_nothing();
}

#[test]
fn what_a_killed_warden_leaves_is_removed_by_the_next() {
    let mut busy = start();
    // The warden is the one child of the owner.
    let children = format!("/proc/{0}/task/{0}/children", busy.child.id());
    let warden = std::fs::read_to_string(children).unwrap();
    run(Command::new("kill").args(["-KILL", warden.trim()]));
    signal(&busy.child, "KILL");
    let _ = busy.child.wait();
    assert!(!busy.leftovers().is_empty());
    let mut next = start();
    busy.expect_nothing();
    drop(next.child.stdin.take());
    next.expect_nothing();
}
