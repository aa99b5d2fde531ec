//! What workspaces with versions do, told without any backend: for tests that compare real ones with it.
//!
//! Content is a set of words. A step is made of three numbers, so that whoever draws random sequences can shrink them.

use std::collections::{BTreeMap, BTreeSet};

/// How many workspaces there may be: the first, and its forks.
pub const PLACES: usize = 3;

/// One thing that is done to a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is made, and started.
    Create,
    /// A word is written into it.
    Write(String),
    /// A version is made.
    Snapshot,
    /// It goes back to this version, which may not be there.
    Rollback {
        /// The version.
        version: u64,
        /// Whether what is left is dropped.
        discard: bool,
    },
    /// A workspace is made of one of its versions, which may not be there.
    Fork {
        /// The version.
        version: u64,
        /// The place of the new one, which may be taken.
        to: usize,
    },
    /// A version is removed, which may not be there.
    Remove {
        /// The version.
        version: u64,
        /// Whether it may become one with what stands on it.
        squash: bool,
    },
    /// All versions but the last ones are removed.
    Prune {
        /// How many stay.
        keep_last: u64,
    },
    /// It is stopped.
    Stop,
    /// It is started.
    Start,
    /// The engine is closed and a new one opened.
    Reopen {
        /// Whether its database is lost meanwhile.
        lost: bool,
    },
    /// It is deleted.
    Delete,
}

impl Step {
    /// The step that three numbers stand for, and the place of the workspace that it is done to.
    pub fn of((kind, number, place): (u8, u8, u8)) -> (usize, Self) {
        // The first has the longest life.
        let at = usize::from(place % 6).saturating_sub(3);
        let version = u64::from(number % 6) + 1;
        let step = match kind % 26 {
            0..=1 => Self::Create,
            2..=6 => Self::Write(format!("w{}", number % 16)),
            7..=10 => Self::Snapshot,
            11..=12 => Self::Rollback { version, discard: false },
            13..=14 => Self::Rollback { version, discard: true },
            15..=16 => Self::Fork { version, to: (at + 1 + usize::from(place / 6 % 2)) % PLACES },
            17..=18 => Self::Remove { version, squash: true },
            19 => Self::Remove { version, squash: false },
            20 => Self::Prune { keep_last: u64::from(number % 3) },
            21 => Self::Stop,
            22..=23 => Self::Start,
            24 => Self::Reopen { lost: number % 2 == 1 },
            _ => Self::Delete,
        };
        (at, step)
    }
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// With success; for [`Step::Snapshot`], and a rollback that keeps what it leaves, with this version made.
    Well(Option<u64>),
    /// There is no such workspace or version.
    NotFound,
    /// There is such a workspace already.
    AlreadyExists,
    /// Others stand on the version.
    Refused,
}

/// A set of words.
pub type Content = BTreeSet<String>;

/// Workspaces as they have to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    workspaces: BTreeMap<usize, Held>,
    /// What each committed snapshot stands on; none: an image. Of one that is gone it is not asked any more.
    parents: Vec<Option<Node>>,
}

/// A committed snapshot.
type Node = usize;

/// What is held of a workspace while there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// What is in it.
    pub content: Content,
    /// Whether it runs.
    pub running: bool,
    /// Its versions.
    versions: BTreeMap<u64, Version>,
    /// The highest number that a version ever had.
    last: u64,
    /// What its writable snapshot stands on.
    base: Option<Node>,
    /// Snapshots that removals have made below it, which are no versions.
    bases: BTreeSet<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    node: Node,
    content: Content,
}

impl Model {
    /// What is held at a place, if there is a workspace.
    pub fn held(&self, at: usize) -> Option<&Held> {
        self.workspaces.get(&at)
    }

    /// Whether a word can be written: something has to run for that.
    pub fn takes(&self, at: usize, step: &Step) -> bool {
        !matches!(step, Step::Write(_)) || self.held(at).is_some_and(|held| held.running)
    }

    /// How many snapshots there are, those of images aside.
    pub fn snapshots(&self) -> usize {
        self.kept().len() + self.workspaces.len()
    }

    /// Does a step, and tells how it ends.
    pub fn apply(&mut self, at: usize, step: &Step) -> Ends {
        match step {
            Step::Reopen { .. } => return Ends::Well(None),
            Step::Create => {
                self.workspaces.entry(at).or_default().running = true;
                return Ends::Well(None);
            }
            Step::Delete => {
                self.workspaces.remove(&at);
                return Ends::Well(None);
            }
            _ => {}
        }
        let Some(held) = self.workspaces.get_mut(&at) else { return Ends::NotFound };
        match step {
            Step::Write(word) => drop(held.content.insert(word.clone())),
            Step::Stop => held.running = false,
            Step::Start => held.running = true,
            Step::Snapshot => return Ends::Well(Some(held.keep(&mut self.parents))),
            Step::Rollback { version, discard } => {
                let Some(target) = held.versions.get(version).cloned() else { return Ends::NotFound };
                let kept = (!discard).then(|| held.keep(&mut self.parents));
                held.content = target.content;
                held.base = Some(target.node);
                return Ends::Well(kept);
            }
            Step::Fork { version, to } => {
                let target = held.versions.get(version).cloned();
                if self.workspaces.contains_key(to) {
                    return Ends::AlreadyExists;
                }
                let Some(Version { node, content }) = target else { return Ends::NotFound };
                let fork = Held { content, running: true, base: Some(node), ..Held::default() };
                self.workspaces.insert(*to, fork);
            }
            Step::Remove { version, squash } => {
                let Some(node) = held.versions.get(version).map(|version| version.node) else {
                    return Ends::NotFound;
                };
                if !squash && self.is_stood_on(node) {
                    return Ends::Refused;
                }
                self.remove(at, &BTreeSet::from([*version]));
            }
            Step::Prune { keep_last } => {
                let keep = usize::try_from(*keep_last).unwrap_or(usize::MAX);
                let going = held.versions.keys().rev().skip(keep).copied().collect();
                self.remove(at, &going);
            }
            Step::Create | Step::Delete | Step::Reopen { .. } => {}
        }
        Ends::Well(None)
    }

    /// The committed snapshots that are versions, or that something stands on.
    fn kept(&self) -> BTreeSet<Node> {
        let versions = self.workspaces.values().flat_map(|held| held.versions.values().map(|v| v.node));
        let mut next: Vec<Node> =
            versions.chain(self.workspaces.values().filter_map(|held| held.base)).collect();
        let mut kept = BTreeSet::new();
        while let Some(node) = next.pop() {
            if kept.insert(node) {
                next.extend(self.parents[node]);
            }
        }
        kept
    }

    fn is_stood_on(&self, node: Node) -> bool {
        self.kept().iter().any(|on| self.parents[*on] == Some(node))
            || self.workspaces.values().any(|held| held.base == Some(node))
    }

    /// Removes versions. What stood on them becomes one with what it had of them, and is another snapshot then: forks
    /// go on standing on the old one.
    fn remove(&mut self, at: usize, numbers: &BTreeSet<u64>) {
        let Some(mut held) = self.workspaces.remove(&at) else { return };
        let mut gone: BTreeSet<Node> =
            numbers.iter().filter_map(|n| Some(held.versions.remove(n)?.node)).collect();
        // A snapshot is made after what it stands on, and has a higher number.
        for base in &held.bases {
            if self.stands_on_any(*base, &gone) {
                gone.insert(*base);
            }
        }
        let own: BTreeSet<Node> = held.versions.values().map(|version| version.node).collect();
        let mut anew = BTreeMap::new();
        for version in held.versions.values_mut() {
            version.node = self.renewed(version.node, &gone, &own, &mut anew);
        }
        let below = self.below(held.base, &gone).map(|node| *anew.get(&node).unwrap_or(&node));
        if below != held.base {
            // What the writable snapshot had of them is a snapshot of its own.
            self.parents.push(below);
            held.base = Some(self.parents.len() - 1);
            held.bases.extend(held.base);
        }
        self.workspaces.insert(at, held);
    }

    fn stands_on_any(&self, node: Node, nodes: &BTreeSet<Node>) -> bool {
        let below = |node: &Node| self.parents[*node];
        std::iter::successors(below(&node), below).any(|on| nodes.contains(&on))
    }

    /// The first below that stays.
    fn below(&self, mut node: Option<Node>, gone: &BTreeSet<Node>) -> Option<Node> {
        while let Some(on) = node.filter(|node| gone.contains(node)) {
            node = self.parents[on];
        }
        node
    }

    /// What a version's snapshot is after a removal.
    fn renewed(
        &mut self,
        node: Node,
        gone: &BTreeSet<Node>,
        own: &BTreeSet<Node>,
        anew: &mut BTreeMap<Node, Node>,
    ) -> Node {
        if let Some(done) = anew.get(&node) {
            return *done;
        }
        let old = self.parents[node];
        let below = self.below(old, gone).map(|on| match own.contains(&on) {
            true => self.renewed(on, gone, own, anew),
            false => on,
        });
        let new = if below == old {
            node
        } else {
            self.parents.push(below);
            self.parents.len() - 1
        };
        anew.insert(node, new);
        new
    }
}

impl Held {
    /// What is in each of its versions.
    pub fn versions(&self) -> BTreeMap<u64, Content> {
        self.versions.iter().map(|(number, version)| (*number, version.content.clone())).collect()
    }

    fn keep(&mut self, parents: &mut Vec<Option<Node>>) -> u64 {
        self.last += 1;
        parents.push(self.base);
        let node = parents.len() - 1;
        self.versions.insert(self.last, Version { node, content: self.content.clone() });
        self.base = Some(node);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::{Ends, Model, Step};

    #[test]
    fn going_back_keeps_or_discards() {
        let mut model = Model::default();
        assert_eq!(model.apply(0, &Step::Snapshot), Ends::NotFound);
        model.apply(0, &Step::Create);
        model.apply(0, &Step::Write("a".to_owned()));
        assert_eq!(model.apply(0, &Step::Snapshot), Ends::Well(Some(1)));
        model.apply(0, &Step::Write("b".to_owned()));
        let back = |version, discard| Step::Rollback { version, discard };
        assert_eq!(model.apply(0, &back(2, false)), Ends::NotFound);
        assert_eq!(model.apply(0, &back(1, false)), Ends::Well(Some(2)));
        assert_eq!(model.held(0).unwrap().content.len(), 1);
        assert_eq!(model.apply(0, &back(2, true)), Ends::Well(None));
        assert_eq!(model.held(0).unwrap().content.len(), 2);
        model.apply(0, &Step::Delete);
        assert!(model.held(0).is_none());
        assert_eq!(model.snapshots(), 0);
    }

    #[test]
    fn a_fork_keeps_what_it_stands_on() {
        let mut model = Model::default();
        let remove = |version, squash| Step::Remove { version, squash };
        for step in [Step::Create, Step::Snapshot, Step::Snapshot, Step::Fork { version: 2, to: 1 }] {
            model.apply(0, &step);
        }
        assert_eq!(model.snapshots(), 4, "two versions and two workspaces");
        assert_eq!(model.apply(0, &Step::Fork { version: 1, to: 1 }), Ends::AlreadyExists);
        assert_eq!(model.apply(0, &remove(1, false)), Ends::Refused);
        // The second version becomes one with the first, and the fork stays on both as they were.
        assert_eq!(model.apply(0, &remove(1, true)), Ends::Well(None));
        assert_eq!(
            model.snapshots(),
            6,
            "a version, what the workspace has of it, two for the fork, two workspaces"
        );
        model.apply(0, &Step::Delete);
        assert_eq!(model.snapshots(), 3);
        model.apply(1, &Step::Delete);
        assert_eq!(model.snapshots(), 0);
    }
}
