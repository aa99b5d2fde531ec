//! What no size of a data directory may do: need the memory of its host, or time out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "how much memory was needed is worth reading")]

mod common;

use std::path::Path;
use std::process::Command;

use common::data::{from, preserve, restore, to};
use common::disk::{memory, rig_on};
use common::{run, running};
use dunnage::types::{ArchiveFormat, DataDiscardOptions, PreserveForm, PreservedData, RunOptions};
use dunnage::{Engine, Workspace};

/// The most memory that the host's process may need, in bytes.
const MOST: u64 = 200 << 20;

const MIB: u64 = 1 << 20;

/// The most memory that this process has had since it was asked last (proc(5), `VmHWM`). The library may have needed it.
#[track_caller]
fn bounded(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
    println!("{what}: at most {} MiB", peak >> 20);
    assert!(peak <= MOST, "{what}: {peak} bytes");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Runs a command inside that may take its time.
async fn slow(workspace: &Workspace, command: &str) -> String {
    let options = RunOptions::default().command(command).timeout_ms(0u64);
    let output = workspace.exec().run(options, "").await.unwrap();
    assert_eq!(output.result.exit_code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The test of sizes runs again in a process of its own, where nothing else needs memory.
#[test]
fn no_size_is_too_much() {
    const ALONE: &str = "DUNNAGE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().unwrap();
        let arguments = ["no_size_is_too_much", "--exact", "--nocapture", "--test-threads=1"];
        println!("{}", run(Command::new(this).args(arguments).env(ALONE, "1")));
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(sizes());
}

async fn sizes() {
    let rig = rig_on(|root| memory(root, 5 << 30));
    let root = rig.containerd.dir().join("root/w");
    let engine = Engine::open(rig.config().data_root(&root)).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "large", &image).await;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    sparse(&workspace, &root).await;
    many(&workspace, &root).await;
    large(&workspace, &root).await;
    workspace.delete(common::kill()).await.unwrap();
    engine.close().await;
}

/// Five GiB with a MiB of data.
async fn sparse(workspace: &Workspace, root: &Path) {
    const SHOW: &str = "stat -c %s sparse && [ $(stat -c %b sparse) -le 4096 ] && dd if=sparse bs=1M skip=3072 count=1 | md5sum";
    slow(
        workspace,
        "dd if=/dev/urandom of=sparse bs=1M seek=3072 count=1 && dd if=/dev/null of=sparse bs=1M seek=5120",
    )
    .await;
    let before = slow(workspace, SHOW).await;
    assert!(before.starts_with("5368709120\n"), "{before}");
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Tar] {
        let archive = root.join("archive");
        let told = workspace.data().export(to(&archive).format(format)).await.unwrap();
        assert!(told.bytes == MIB && told.archive_bytes < 2 * MIB, "{told:?}");
        let listed = run(Command::new("tar").args(["-tvf"]).arg(&archive));
        assert!(listed.contains("5368709120"), "{listed}");
        slow(workspace, "rm sparse").await;
        workspace.data().import(from(&archive)).await.unwrap();
        assert_eq!(slow(workspace, SHOW).await, before, "{format:?}");
        bounded(&format!("a sparse file as {format:?}"));
        std::fs::remove_file(&archive).unwrap();
    }
}

/// Two hundred thousand files.
async fn many(workspace: &Workspace, root: &Path) {
    const SHOW: &str = "find . -type f | wc -l; find . | wc -l; for d in 1 77 200; do md5sum $d/1 $d/500 $d/999 $d/1000; done";
    slow(workspace, "rm -rf * && for d in $(seq 200); do mkdir $d && for f in $(seq 1000); do echo $d $f > $d/$f; done; done").await;
    let before = slow(workspace, SHOW).await;
    assert!(before.starts_with("200000\n200201\n"), "{before}");
    let archive = root.join("archive");
    let told = workspace.data().export(to(&archive)).await.unwrap();
    assert_eq!(told.entries, 200_201);
    bounded("many files exported");
    slow(workspace, "rm -rf 77 && echo other > 1/1").await;
    let told = workspace.data().import(from(&archive)).await.unwrap();
    assert_eq!(told.entries, 200_201);
    assert_eq!(slow(workspace, SHOW).await, before);
    bounded("many files imported");
    std::fs::remove_file(&archive).unwrap();
    let kept = workspace.data().preserve(preserve(PreserveForm::Archive)).await.unwrap().preserved.unwrap();
    assert_eq!(kept.entries, 200_201);
    bounded("many files preserved");
    slow(workspace, "rm -rf 77 && echo other > 1/1").await;
    workspace.data().restore(restore(kept.generation)).await.unwrap();
    assert_eq!(slow(workspace, SHOW).await, before);
    bounded("many files restored");
    discard(workspace, &kept).await;
}

async fn discard(workspace: &Workspace, one: &PreservedData) {
    let options = DataDiscardOptions::default().generation(one.generation);
    workspace.data().discard(options).await.unwrap();
}

/// A GiB and a half, the half of which is zeros.
async fn large(workspace: &Workspace, root: &Path) {
    const SHOW: &str = "stat -c %s large && md5sum large";
    slow(
        workspace,
        "rm -rf * && dd if=/dev/urandom of=block bs=1M count=64 && \
        for n in $(seq 12); do cat block; dd if=/dev/zero bs=1M count=64; done > large && rm block",
    )
    .await;
    let before = slow(workspace, SHOW).await;
    assert!(before.starts_with("1610612736\n"), "{before}");
    let archive = root.join("archive");
    for format in [ArchiveFormat::TarZst, ArchiveFormat::TarGz] {
        workspace.data().export(to(&archive).format(format).overwrite(true)).await.unwrap();
        bounded(&format!("large data as {format:?}"));
    }
    slow(workspace, "rm large").await;
    workspace.data().import(from(&archive)).await.unwrap();
    bounded("large data imported");
    assert_eq!(slow(workspace, SHOW).await, before);
    std::fs::remove_file(&archive).unwrap();
    let kept = workspace.data().preserve(preserve(PreserveForm::Archive)).await.unwrap().preserved.unwrap();
    bounded("large data preserved");
    run(Command::new("gzip").arg("-t").arg(kept.path.as_ref().unwrap()));
    discard(workspace, &kept).await;
}
