//! Real overlays: what the kernel shows of layers is what counts.

use super::*;
use crate::backend::containerd::layers;
use proptest::prelude::*;
use rustix::fs::{Mode, XattrFlags};
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

/// Layers on this file system, the topmost first, by the names of their directories.
struct Stack {
    dir: TempDir,
}

impl Stack {
    fn new(layers: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for layer in layers {
            std::fs::create_dir(dir.path().join(layer)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// What containerd would say of a view of these layers.
    fn mounts(&self, layers: &[&str]) -> Vec<Mount> {
        let paths: Vec<_> = layers.iter().map(|layer| self.path(layer).display().to_string()).collect();
        let mount = if let [one] = &paths[..] {
            Mount { r#type: "bind".to_owned(), source: one.clone(), ..Mount::default() }
        } else {
            let options = vec![format!("lowerdir={}", paths.join(":"))];
            Mount { r#type: "overlay".to_owned(), options, ..Mount::default() }
        };
        vec![mount]
    }

    fn compare(&self, from: &[&str], to: &[&str], after: &str, limit: usize) -> Result<Vec<Change>> {
        let request = ChangesRequest {
            snapshotter: String::new(),
            from: String::new(),
            to: String::new(),
            after: after.into(),
            limit,
        };
        let from = if from.is_empty() { Vec::new() } else { self.mounts(from) };
        compare(&from, &self.mounts(to), &request)
    }
}

/// Mounting takes a privilege: without it there is nothing to test here.
fn privileged() -> bool {
    let stack = Stack::new(&["a", "b"]);
    match RootFs::read_only(&stack.mounts(&["a", "b"])) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: {error}");
            false
        }
        _ => true,
    }
}

fn whiteout(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let none = Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, none, 0).unwrap();
}

fn opaque(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
}

fn told(changes: &[Change]) -> Vec<(String, Option<u64>, Option<u64>)> {
    let size = |entry: &Option<TreeEntry>| entry.map(|entry| entry.size);
    changes
        .iter()
        .map(|c| (String::from_utf8_lossy(&c.path).into_owned(), size(&c.before), size(&c.after)))
        .collect()
}

#[test]
fn every_kind_of_change_is_told_and_nothing_else() {
    if !privileged() {
        return;
    }
    let stack = Stack::new(&["image", "one", "two"]);
    for (path, content) in
        [("etc/same", "same"), ("etc/gone", "gone"), ("etc/mode", "mode"), ("etc/file", "abc")]
    {
        stack.write(&format!("image/{path}"), content);
    }
    stack.write("image/srv/old/deep", "deep");
    stack.write("image/var/untouched", "x");
    symlink("there", stack.path("image/etc/link")).unwrap();
    stack.write("one/etc/file", "changed");
    stack.write("one/etc/mode", "mode");
    let times = std::fs::metadata(stack.path("image/etc/mode")).unwrap().modified().unwrap();
    let copy = std::fs::File::options().write(true).open(stack.path("one/etc/mode")).unwrap();
    copy.set_modified(times).unwrap();
    std::fs::set_permissions(stack.path("one/etc/mode"), PermissionsExt::from_mode(0o600)).unwrap();
    whiteout(&stack.path("one/etc/gone"));
    symlink("elsewhere", stack.path("one/etc/link")).unwrap();
    opaque(&stack.path("one/srv/old"));
    stack.write("one/srv/old/new", "n");
    stack.write("one/new/a/b", "12");

    let changes = stack.compare(&["image"], &["one", "image"], "", 100).unwrap();
    let expected = [
        ("etc/file", Some(3), Some(7)),
        ("etc/gone", Some(4), None),
        ("etc/link", Some(5), Some(9)),
        ("etc/mode", Some(4), Some(4)),
        ("new", None, Some(0)),
        ("new/a", None, Some(0)),
        ("new/a/b", None, Some(2)),
        ("srv/old/deep", Some(4), None),
        ("srv/old/new", None, Some(1)),
    ];
    let expected: Vec<_> = expected.map(|(path, before, after)| (path.to_owned(), before, after)).into();
    assert_eq!(told(&changes), expected);
    assert_eq!(changes[3].aspects, [ChangeAspect::Mode], "only that of it was changed");

    // The other way round it is the mirror image, and page by page it is the same.
    let back = stack.compare(&["one", "image"], &["image"], "", 100).unwrap();
    let mirrored: Vec<_> =
        expected.iter().map(|(path, before, after)| (path.clone(), *after, *before)).collect();
    assert_eq!(told(&back), mirrored);
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = stack.compare(&["image"], &["one", "image"], &after, 2).unwrap();
        let Some(last) = page.last() else { break };
        after = String::from_utf8(last.path.clone()).unwrap();
        paged.extend(page);
    }
    assert_eq!(paged, changes);

    // Against nothing, all is new; against itself, nothing is.
    let all = stack.compare(&[], &["one", "image"], "", 100).unwrap();
    assert!(all.iter().all(|change| change.before.is_none()) && all.len() > 10);
    assert_eq!(stack.compare(&["one", "image"], &["one", "image"], "", 100).unwrap(), []);
}

/// A step of what somebody does in a layer.
#[derive(Debug, Clone)]
enum Step {
    File(u8, u8),
    Dir(u8),
    Whiteout(u8),
    Opaque(u8),
    Link(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..12u8, 0..4u8).prop_map(|(place, content)| Step::File(place, content)),
        (0..12u8).prop_map(Step::Dir),
        (0..12u8).prop_map(Step::Whiteout),
        (0..12u8).prop_map(Step::Opaque),
        (0..12u8).prop_map(Step::Link),
    ];
    proptest::collection::vec(step, 0..8)
}

/// Few places, so that layers meet in them: some are files in one layer and directories in another.
fn place(number: u8) -> PathBuf {
    let names = ["a", "b", "c"];
    let part = |digit: u8| names[usize::from(digit) % 3];
    match number / 3 {
        0 => part(number).into(),
        1 => [part(number), "a"].iter().collect(),
        2 => [part(number), "b"].iter().collect(),
        _ => [part(number), "a", "c"].iter().collect(),
    }
}

fn apply(layer: &Path, steps: &[Step]) {
    for step in steps {
        let (Step::File(number, _)
        | Step::Dir(number)
        | Step::Whiteout(number)
        | Step::Opaque(number)
        | Step::Link(number)) = step;
        let path = layer.join(place(*number));
        // What is in the way stays: a layer is what was possible.
        let clear = path.parent().is_some_and(|dir| std::fs::create_dir_all(dir).is_ok());
        let free = clear && path.symlink_metadata().is_err();
        match step {
            Step::File(_, content) if free => {
                std::fs::write(&path, "x".repeat(usize::from(*content))).unwrap()
            }
            Step::Dir(_) if free => std::fs::create_dir(&path).unwrap(),
            Step::Whiteout(_) if free => whiteout(&path),
            Step::Link(_) if free => symlink("to", &path).unwrap(),
            Step::Opaque(_) if free || path.is_dir() => opaque(&path),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However layers lie on each other, one that is made of several shows the same.
    #[test]
    fn layers_made_one_show_the_same(image in steps(), low in steps(), mid in steps(), top in steps()) {
        if !privileged() {
            return Ok(());
        }
        let stack = Stack::new(&["image", "low", "mid", "top", "squashed", "nothing"]);
        for (name, steps) in [("image", &image), ("low", &low), ("mid", &mid), ("top", &top)] {
            apply(&stack.path(name), steps);
        }
        let several = ["top", "mid", "low"].map(|name| stack.path(name));
        layers::squash(&several, &stack.path("squashed"), false).unwrap();
        let changes =
            stack.compare(&["top", "mid", "low", "image"], &["squashed", "image"], "", 100).unwrap();
        prop_assert_eq!(changes, vec![]);
        // And below it only what the layers say counts, not what they were made on.
        let changes = stack.compare(&["top", "mid", "low", "nothing"], &["squashed", "nothing"], "", 100).unwrap();
        prop_assert_eq!(changes, vec![]);
    }
}

#[test]
fn directories_of_any_depth_are_compared_as_far_as_paths_lead() {
    if !privileged() {
        return;
    }
    let stack = Stack::new(&["image", "deep"]);
    stack.write("image/file", "");
    let dir = |at: &std::os::fd::OwnedFd, name: &str| {
        rustix::fs::mkdirat(at, name, Mode::RWXU).unwrap();
        rustix::fs::openat(at, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut at = open_dir(&stack.path("deep")).unwrap();
    for _ in 0..5_000 {
        at = dir(&at, "d");
    }
    drop(at);
    // On a stack as small as those on which this runs.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let work = move || {
        let all = stack.compare(&["image"], &["deep", "image"], "", usize::MAX).unwrap();
        let last = String::from_utf8_lossy(&all.last().unwrap().path).into_owned();
        let beyond = stack.compare(&["image"], &["deep", "image"], &last, usize::MAX).unwrap();
        // The usual way of removing it takes as much stack as it is deep.
        std::process::Command::new("rm").arg("-rf").arg(stack.path("deep")).status().unwrap();
        (all.len(), beyond.len())
    };
    let (all, beyond) = small.spawn(work).unwrap().join().unwrap();
    // A path of 4,095 bytes, and the 0 that ends it, leads into the 2,048th; what is in there is told.
    assert_eq!((all, beyond), (2_049, 0));
}
