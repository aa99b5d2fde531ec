//! Where a process's control groups are, and how their files are read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The directories of a process's control groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The one of version 2, if that is mounted.
    pub(super) unified: Option<Group>,
    /// Those of version 1, by controller.
    controllers: HashMap<String, Group>,
}

/// One directory of a control group.
#[derive(Debug, Clone)]
pub(super) struct Group(PathBuf);

impl Groups {
    /// Finds them: `/proc/PID/cgroup` names them, and the mounts tell where that is.
    pub(super) fn of(root: &Path, proc: &Path) -> Self {
        let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        let told = std::fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
        let mut groups = Self::default();
        for line in told.lines() {
            // `hierarchy:controllers:path`; version 2 has no controllers here.
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if controllers.is_empty() {
                let mount = mounts.iter().find(|mount| mount.kind == "cgroup2");
                groups.unified = mount.and_then(|mount| mount.group(root, path));
                continue;
            }
            for controller in controllers.split(',') {
                let mut with = mounts.iter().filter(|mount| mount.kind == "cgroup");
                let mount = with.find(|mount| mount.options.split(',').any(|option| option == controller));
                if let Some(group) = mount.and_then(|mount| mount.group(root, path)) {
                    groups.controllers.insert(controller.to_owned(), group);
                }
            }
        }
        groups
    }

    /// The group of a controller of version 1.
    pub(super) fn controller(&self, name: &str) -> Option<&Group> {
        self.controllers.get(name)
    }
}

/// A mounted hierarchy (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let mut back = back.split(' ');
        Some(Self { root: front.next()?, point: front.next()?, kind: back.next()?, options: back.nth(1)? })
    }

    fn group(&self, root: &Path, path: &str) -> Option<Group> {
        // Of a hierarchy that is mounted in part, what is outside of that part cannot be seen.
        let within = Path::new(path).strip_prefix(self.root).ok()?;
        let point = root.join(self.point.trim_start_matches('/'));
        Some(Group(point.join(within)))
    }
}

impl Group {
    /// The text of a file.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }

    /// The number in a file; none for `max` and what is no number.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// The numbers of a file of names and numbers.
    pub(super) fn named(&self, file: &str) -> Option<Named> {
        let text = self.text(file)?;
        let pairs = text.lines().filter_map(|line| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        });
        Some(Named(pairs.collect()))
    }
}

/// Numbers by their names.
#[derive(Debug)]
pub(super) struct Named(HashMap<String, u64>);

impl Named {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The number of this name, 0 where there is none.
    pub(super) fn or_zero(&self, name: &str) -> u64 {
        self.get(name).unwrap_or_default()
    }
}
