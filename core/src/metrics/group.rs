//! Where a process's control groups are, and how their files are read.

use super::v2;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The directories of a process's control groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The one of version 2, if that is mounted.
    pub(crate) unified: Option<Group>,
    /// Those of version 1, by controller.
    controllers: HashMap<String, Group>,
}

/// One directory of a control group.
#[derive(Debug, Clone)]
pub(crate) struct Group(PathBuf);

impl Groups {
    /// Finds them: `/proc/PID/cgroup` names them, and the mounts tell where that is.
    pub(crate) fn of(root: &Path, proc: &Path) -> Self {
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

    /// The group of version 2, if it counts and limits anything: beside version 1 it is often mounted without controllers.
    pub(crate) fn unified_with_controllers(&self) -> Option<&Group> {
        self.unified.as_ref().filter(|group| v2::has_controllers(group))
    }

    /// Whether those that limit anything are of this container and of no other: their paths end with its name.
    pub(crate) fn are_of(&self, container: &str) -> bool {
        let limiting = ["cpu", "memory", "pids", "blkio"];
        let groups = || {
            limiting.iter().filter_map(|name| self.controller(name)).chain(self.unified_with_controllers())
        };
        groups().next().is_some() && groups().all(|group| group.0.ends_with(container))
    }

    /// The group of a controller of version 1.
    pub(crate) fn controller(&self, name: &str) -> Option<&Group> {
        self.controllers.get(name)
    }
}

/// Which controllers a host has, whatever group a process is in.
#[derive(Debug)]
pub(crate) struct Mounted(HashSet<String>);

impl Mounted {
    pub(crate) fn below(root: &Path) -> Self {
        let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        let mut controllers = HashSet::new();
        for mount in mounts.lines().filter_map(Mount::parse) {
            match mount.kind {
                "cgroup2" => {
                    let file = root.join(mount.point.trim_start_matches('/')).join("cgroup.controllers");
                    let told = std::fs::read_to_string(file).unwrap_or_default();
                    controllers.extend(told.split_whitespace().map(str::to_owned));
                }
                "cgroup" => controllers.extend(mount.options.split(',').map(str::to_owned)),
                _ => {}
            }
        }
        Self(controllers)
    }

    /// Whether there is a controller, by its name in version 2.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name) || (name == "io" && self.0.contains("blkio"))
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
    /// Where a file of it is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The text of a file.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }

    /// The number in a file; none for `max` and what is no number.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// The numbers of a file of names and numbers.
    pub(crate) fn named(&self, file: &str) -> Option<Named> {
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
pub(crate) struct Named(HashMap<String, u64>);

impl Named {
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The number of this name, 0 where there is none.
    pub(crate) fn or_zero(&self, name: &str) -> u64 {
        self.get(name).unwrap_or_default()
    }
}
