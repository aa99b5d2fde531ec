//! Paths that try to leave a tree, while what they lead through is exchanged.

use super::super::{BridgeClient, BridgePool, TreeServer};
use super::tree::{LIMIT, dirs, lock, tree};
use crate::bridge::Hold;
use crate::config::Config;
use crate::types::{
    ChmodOptions, ChownOptions, CopyOptions, GlobOptions, GrepOptions, ListDirOptions, MkdirOptions,
    ReadOptions, ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, SymlinkOptions, WalkOptions,
    WriteOptions,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What stands in the file outside.
const SECRET: &str = "of the host, and nobody else's";
/// How many calls are made.
const CALLS: usize = 1500;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn path(&mut self, outside: &Path) -> String {
        let outside = outside.display().to_string();
        let long = "x".repeat(256);
        let parts = [
            "..",
            "../..",
            "../../../../../../../..",
            ".",
            "",
            "/",
            "a",
            "b",
            "dir",
            "data",
            "abs",
            "up",
            "loop",
            "file",
            "secret",
            "proc",
            "self",
            "root",
            "fd",
            "1",
            "0",
            "\u{ff}",
            "e\u{301}",
            "nul\0",
            &long,
            &outside,
            "proc/self/root",
            "proc/1/root",
            "proc/thread-self/cwd",
            "dev/fd/0",
            "abs/..",
            "up/../..",
        ];
        let count = 1 + self.below(5);
        let path: Vec<&str> = (0..count).map(|_| parts[self.below(parts.len())]).collect();
        let start = ["", "/", "./", "//", "/.."][self.below(5)];
        let end = ["", "", "/", "/.", "/secret"][self.below(5)];
        format!("{start}{}{end}", path.join("/"))
    }
}

/// Puts everything in the tree that could lead out of it.
fn traps(root: &Path, outside: &Path) {
    let _ = std::fs::create_dir_all(root.join("data/dir"));
    let _ = std::fs::create_dir_all(root.join("proc/self"));
    for (link, target) in [
        ("abs", outside.to_owned()),
        ("data/abs", outside.to_owned()),
        ("up", PathBuf::from(format!("../../../../../../../../..{}", outside.display()))),
        ("data/up", PathBuf::from("../../outside")),
        ("data/file", outside.join("secret")),
        ("data/loop", PathBuf::from("loop")),
        ("proc/self/root", PathBuf::from("/")),
    ] {
        // What a call has put in its place stays.
        let _ = symlink(target, root.join(link));
    }
}

/// Everything about a tree that a call could change.
fn state(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = path.symlink_metadata().unwrap();
        if found.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (found.mode(), found.uid(), found.len(), found.mtime_nsec(), found.ctime_nsec()));
    }
    all
}

async fn call(client: &BridgeClient, dice: &mut Dice, outside: &Path) {
    let (path, other) = (dice.path(outside), dice.path(outside));
    let told = match dice.below(16) {
        0..3 => client.read(&ReadOptions::default().path(&path)).await.map(|bytes| format!("{bytes:?}")),
        3 => client.read_text(&ReadTextOptions::default().path(&path)).await.map(|text| text.content),
        4..6 => client
            .write(&WriteOptions::default().path(&path), Bytes::from_static(b"x"))
            .await
            .map(drop)
            .map(|()| String::new()),
        6 => client.stat(&StatOptions::default().path(&path)).await.map(drop).map(|()| String::new()),
        7 => client
            .list(&ListDirOptions::default().path(&path).recursive(true))
            .await
            .map(|list| format!("{list:?}")),
        8 => client.mkdir(&MkdirOptions::default().path(&path)).await.map(|()| String::new()),
        9 => client.rename(&RenameOptions::default().from(&path).to(&other)).await.map(|()| String::new()),
        10 => {
            client.remove(&RemoveOptions::default().path(&path).recursive(true)).await.map(|()| String::new())
        }
        11 => client
            .symlink(&SymlinkOptions::default().target(other).path(&path).overwrite(true))
            .await
            .map(|()| String::new()),
        12 => client
            .chmod(&ChmodOptions::default().path(&path).mode("0777").recursive(true))
            .await
            .map(drop)
            .map(|()| String::new()),
        13 => client
            .chown(&ChownOptions::default().path(&path).owner("4242").recursive(true))
            .await
            .map(drop)
            .map(|()| String::new()),
        14 => client
            .copy(&CopyOptions::default().from(&path).to(&other).overwrite(true))
            .await
            .map(drop)
            .map(|()| String::new()),
        _ => {
            let walked =
                client.walk(&WalkOptions::default().path(&path)).await.map(|page| format!("{page:?}"));
            let globbed = client.glob(&GlobOptions::default().path(&path).pattern("**")).await;
            let found = client.grep(&GrepOptions::default().path(&path).pattern("nobody else")).await;
            assert!(found.as_ref().map_or(true, |found| found.matches.is_empty()), "{path:?}: {found:?}");
            assert!(!format!("{globbed:?}").contains("canary"), "{path:?}: {globbed:?}");
            walked
        }
    };
    if let Ok(told) = told {
        assert!(!told.contains(SECRET) && !told.contains("canary"), "{path:?} told {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leaves_a_tree() {
    let dir = dirs();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir_all(outside.join("canary")).unwrap();
    std::fs::write(outside.join("secret"), SECRET).unwrap();
    traps(&root, &outside);
    let hold = Hold::Lock(lock(&dir.path().join("lock")));
    let server = TreeServer::start(tree(dir.path(), hold), Box::new(()), LIMIT).await.unwrap();
    let client = BridgePool::new(&Config::default()).files("w", server);
    let before = state(&outside);

    // Somebody inside exchanges a directory and a link all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let exchanging = std::thread::spawn({
        let (root, stop) = (root.clone(), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Acquire) {
                for (a, b) in [
                    ("data/dir", "data/held"),
                    ("data/abs", "data/dir"),
                    ("data/dir", "data/abs"),
                    ("data/held", "data/dir"),
                ] {
                    let _ = std::fs::rename(root.join(a), root.join(b));
                }
                std::thread::yield_now();
            }
        }
    });
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for number in 0..CALLS {
        if number % 10 == 0 {
            traps(&root, &outside);
        }
        call(&client, &mut dice, &outside).await;
    }
    stop.store(true, Ordering::Release);
    exchanging.join().unwrap();
    assert_eq!(state(&outside), before);
    client.end_tree().await;
}
