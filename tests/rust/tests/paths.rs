//! Random paths, links and calls: whatever is asked for, nothing beside the workspace is read or changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::random::Random;
use common::{Rig, remove, run, running, said, sh};
use dunnage::types::{
    ArchiveFormat, ArchiveOptions, ChmodOptions, ChownOptions, CopyOptions, DownloadOptions, ExtractMode,
    ExtractOptions, GlobOptions, GrepOptions, ListDirOptions, MkdirOptions, OpenReadOptions, ReadOptions,
    ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, StopOptions, SymlinkOptions, ToolCallOptions,
    UploadOptions, WalkOptions, WriteOptions,
};
use dunnage::{Error, Workspace};

/// Calls in each state of the workspace.
const CALLS: usize = 1200;
/// Calls between two looks at the host.
const BETWEEN: usize = 100;
/// What only the host's file holds.
const SECRET: &str = "of the host, and nobody else's";
/// Names that nothing else has, so that not even a call that got out could harm this machine.
const NAMES: [&str; 10] =
    ["zq-dir", "zq-up", "zq-file", "zq-magic", "zq-loop", "zq-a", "zq-b é", "zq-secret", "zq-deep", "zq-*"];

/// The host's side: a directory that may not be touched, and files for calls that take one of the host's.
struct Host {
    outside: PathBuf,
    /// An archive of the tree that the workspace has at first.
    first: PathBuf,
    archive: PathBuf,
    file: PathBuf,
    before: String,
}

impl Host {
    fn new(dir: &Path) -> Self {
        let outside = dir.join("zq-outside");
        std::fs::create_dir_all(outside.join("zq-deep")).unwrap();
        for name in ["zq-secret", "zq-deep/zq-secret", "zq-file"] {
            std::fs::write(outside.join(name), SECRET).unwrap();
        }
        let before = shown(&outside);
        let [first, archive, file] = ["first.tar", "archive.tar", "file"].map(|name| dir.join(name));
        Self { outside, first, archive, file, before }
    }

    /// A path that begins anywhere, goes anywhere, and ends in one of the names.
    fn path(&self, random: &mut Random) -> String {
        let outside = self.outside.display();
        let mut path = match random.below(7) {
            0 => String::new(),
            1 => "/".to_owned(),
            2 => format!("{outside}/"),
            3 => format!("/proc/self/root{outside}/"),
            4 => format!("/proc/1/cwd/../../..{outside}/"),
            5 => format!("{}{outside}/", "../".repeat(12)),
            _ => "/zq-tree/".to_owned(),
        };
        for _ in 0..random.below(5) {
            path.push_str(match random.below(4) {
                0 => "..",
                1 => random.one_of(&[".", ""]),
                _ => random.one_of(&NAMES),
            });
            path.push('/');
        }
        path + random.one_of(&NAMES)
    }

    fn check(&self, what: &str) {
        assert_eq!(shown(&self.outside), self.before, "{what}: the host's files were changed");
        let root = std::fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name());
        let strange: Vec<_> = root.filter(|name| name.as_encoded_bytes().starts_with(b"zq-")).collect();
        assert!(strange.is_empty(), "{what}: in the host's root: {strange:?}");
    }
}

/// Everything that can be seen of a tree without changing it.
fn shown(dir: &Path) -> String {
    let list =
        "find . -exec stat -c '%n %i %a %u %g %s %h %Y %Z' {} + | sort; cat zq-secret zq-file zq-deep/*";
    run(std::process::Command::new("sh").args(["-c", list]).current_dir(dir))
}

/// One random call. Returns what was read by it.
async fn call(random: &mut Random, workspace: &Workspace, host: &Host) -> Result<String, Error> {
    // Apart, since a frame of an unoptimised program holds the futures of all that it may call.
    match random.below(4) {
        0 => Box::pin(read(random, workspace, host)).await,
        1 => Box::pin(look(random, workspace, host)).await,
        2 => Box::pin(make(random, workspace, host)).await,
        _ => Box::pin(change(random, workspace, host)).await,
    }
}

async fn read(random: &mut Random, workspace: &Workspace, host: &Host) -> Result<String, Error> {
    let fs = workspace.fs();
    let path = host.path(random);
    match random.below(7) {
        0 => fs.read(ReadOptions::default().path(path)).await.map(|bytes| text(&bytes)),
        1 => fs.read_text(ReadTextOptions::default().path(path)).await.map(|read| format!("{read:?}")),
        2 => {
            let reader = fs.open_read(OpenReadOptions::default().path(path)).await?;
            let mut all = Vec::new();
            while let Some(bytes) = reader.next_chunk().await? {
                all.extend_from_slice(&bytes);
            }
            Ok(text(&all))
        }
        3 => {
            let options = DownloadOptions::default().path(path).destination(host.file.display().to_string());
            fs.download(options).await?;
            Ok(text(&std::fs::read(&host.file).unwrap()))
        }
        4 => {
            let options =
                GrepOptions::default().pattern("host").path(path).hidden(true).respect_ignore(false);
            fs.grep(options).await.map(|found| format!("{:?}", found.matches))
        }
        5 => {
            let options =
                ArchiveOptions::default().path(path).destination(host.archive.display().to_string());
            fs.archive(options.format(ArchiveFormat::Tar).overwrite(true)).await?;
            Ok(text(&std::fs::read(&host.archive).unwrap()))
        }
        _ => tool(workspace, "read", &path).await,
    }
}

async fn look(random: &mut Random, workspace: &Workspace, host: &Host) -> Result<String, Error> {
    let fs = workspace.fs();
    let path = host.path(random);
    match random.below(4) {
        0 => fs.glob(GlobOptions::default().pattern("**").path(path)).await.map(|found| format!("{found:?}")),
        1 => fs.walk(WalkOptions::default().path(path)).await.map(|found| format!("{found:?}")),
        2 => fs
            .list(ListDirOptions::default().path(path).recursive(true))
            .await
            .map(|found| format!("{found:?}")),
        _ => fs.stat(StatOptions::default().path(path).follow(true)).await.map(|found| format!("{found:?}")),
    }
}

async fn make(random: &mut Random, workspace: &Workspace, host: &Host) -> Result<String, Error> {
    let fs = workspace.fs();
    let (path, other) = (host.path(random), host.path(random));
    let first = host.first.display().to_string();
    match random.below(8) {
        0 | 1 => fs.write(WriteOptions::default().path(path), "x").await.map(drop),
        2 => fs.upload(UploadOptions::default().source(first).path(path)).await.map(drop),
        3 | 4 => fs.mkdir(MkdirOptions::default().path(path)).await.map(drop),
        5 => {
            let mode = random.one_of(&[ExtractMode::New, ExtractMode::Replace, ExtractMode::Merge]);
            fs.extract(ExtractOptions::default().path(path).source(first).mode(mode)).await.map(drop)
        }
        6 => {
            let outside = host.outside.to_str().unwrap();
            let target = random.one_of(&[outside, &other, "/proc/self/cwd", "/proc/1/root", ".."]).to_owned();
            let options = SymlinkOptions::default().target(target).path(path).overwrite(true);
            fs.symlink(options).await.map(drop)
        }
        _ => tool(workspace, "write", &path).await.map(drop),
    }
    .map(|()| String::new())
}

async fn change(random: &mut Random, workspace: &Workspace, host: &Host) -> Result<String, Error> {
    let fs = workspace.fs();
    let (path, other) = (host.path(random), host.path(random));
    match random.below(6) {
        0 | 1 => fs.rename(RenameOptions::default().from(path).to(other)).await.map(drop),
        2 => fs.remove(RemoveOptions::default().path(path).recursive(true)).await.map(drop),
        3 => fs.copy(CopyOptions::default().from(path).to(other).overwrite(true)).await.map(drop),
        4 => fs.chmod(ChmodOptions::default().path(path).mode("0777").recursive(true)).await.map(drop),
        _ => fs.chown(ChownOptions::default().path(path).owner("7:8").recursive(true)).await.map(drop),
    }
    .map(|()| String::new())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn tool(workspace: &Workspace, name: &str, path: &str) -> Result<String, Error> {
    let mut arguments = vec![("path".to_owned(), path.into())];
    if name == "write" {
        arguments.push(("content".to_owned(), "y".into()));
    }
    let options =
        ToolCallOptions::default().name(name).arguments(arguments.into_iter().collect::<BTreeMap<_, _>>());
    workspace.tools().call(options).await.map(|answer| format!("{answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_beside_the_workspace_is_read_or_changed() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = running(&engine, "paths", &image).await;
    let host = Host::new(rig.containerd.dir());
    let at = host.outside.display();
    let traps = format!(
        "mkdir -p /zq-tree/zq-deep /data/zq-a; cd /zq-tree; ln -s {at} zq-dir; ln -s ../../../../../..{at} zq-up; \
         ln -s {at}/zq-secret zq-file; ln -s /proc/self/root{at} zq-magic; ln -s /zq-tree/zq-loop zq-loop; \
         echo inside > zq-a; cp -a zq-dir zq-up zq-file zq-magic /data; cp -a zq-dir /"
    );
    said(sh(&workspace, &traps).await);
    let options = ArchiveOptions::default().path("/zq-tree").destination(host.first.display().to_string());
    workspace.fs().archive(options.format(ArchiveFormat::Tar)).await.unwrap();

    let mut random = Random::new("paths");
    for state in ["running", "stopped"] {
        let (mut done, mut refused) = (0, 0);
        for turn in 0..CALLS {
            match call(&mut random, &workspace, &host).await {
                Ok(seen) => {
                    assert!(!seen.contains(SECRET), "{state}, call {turn}: {seen}");
                    done += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().contains(SECRET), "{state}, call {turn}: {error}");
                    refused += 1;
                }
            }
            if turn % BETWEEN == 0 {
                host.check(&format!("{state}, call {turn}"));
            }
        }
        host.check(state);
        assert!(done > CALLS / 10 && refused > CALLS / 10, "{state}: {done} done, {refused} refused");
        if state == "running" {
            said(sh(&workspace, "echo it still works").await);
            workspace.stop(StopOptions::default().grace_ms(0_u64)).await.unwrap();
        }
    }
    remove(&workspace).await;
    engine.close().await;
}
