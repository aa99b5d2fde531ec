//! What has to be made anew so that versions can go on which others stand: each of those becomes one with what it has
//! of the versions that go.

use super::create::runtime_name;
use super::history::History;
use super::removal::leaves_first;
use super::version::Position;
use crate::backend::Snapshot;
use crate::lifecycle::resolve::Found;
use crate::store::VersionRecord;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A committed snapshot to be made of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merge {
    /// The topmost layer, and how many there are.
    pub(super) top: String,
    pub(super) layers: usize,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) depth: u32,
}

/// A version that is made anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rebuilt {
    pub(super) merge: Merge,
    pub(super) version: VersionRecord,
}

/// The workspace's way off the versions that go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) from: String,
    /// What its writable snapshot is committed to, and what is made of that.
    pub(super) committed: String,
    pub(super) base: Merge,
    pub(super) to: String,
}

/// All that a removal of versions changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) rebuilt: Vec<Rebuilt>,
    pub(super) moved: Option<Move>,
    /// The versions afterwards, ordered by number, and those of them whose labels change in place.
    pub(super) versions: Vec<VersionRecord>,
    pub(super) relabelled: Vec<u64>,
    pub(super) position: Position,
    /// The snapshots that go, in this order.
    pub(super) remove: Vec<String>,
}

/// Finds out what a removal changes. `all` are the workspace's snapshots, `below` is how many layers what they stand on
/// has above the image: 0 but for a fork.
pub(super) fn plan(
    found: &Found,
    history: &History,
    all: &[Snapshot],
    numbers: &BTreeSet<u64>,
    below: u32,
    stamp: &str,
) -> Plan {
    let parents: HashMap<&str, &str> =
        all.iter().map(|snapshot| (snapshot.key.as_str(), snapshot.parent.as_str())).collect();
    let (going, staying): (Vec<&VersionRecord>, Vec<&VersionRecord>) =
        history.versions.iter().partition(|version| numbers.contains(&version.version));
    let mut gone: HashSet<&str> = going.iter().map(|version| version.snapshot.as_str()).collect();
    gone.extend(bases_above(&gone, all, &parents));
    let mut work = Work { found, parents, gone, anew: HashMap::new(), depths: depths(all, &going), below };

    // What others stand on is made before them.
    let order = leaves_first(staying.iter().map(|version| version.snapshot.as_str()), all);
    let by_name: HashMap<&str, &VersionRecord> =
        staying.iter().map(|version| (version.snapshot.as_str(), *version)).collect();
    let mut rebuilt = Vec::new();
    for name in order.iter().rev() {
        let Some(version) = by_name.get(name.as_str()) else { continue };
        if let Some(merge) = work.merge(name, "snapshot") {
            let version = VersionRecord {
                snapshot: merge.name.clone(),
                parent: merge.parent.clone(),
                depth: merge.depth,
                ..(*version).clone()
            };
            rebuilt.push(Rebuilt { merge, version });
        }
    }
    let from = &found.container.snapshot_key;
    let moved = work.merge(from, "base").map(|base| {
        let committed = format!("{}-merged", base.name);
        Move {
            from: from.clone(),
            base: Merge { top: committed.clone(), ..base },
            committed,
            to: runtime_name(found, "active"),
        }
    });

    let follows = |mut follows: Option<u64>| {
        // A circle ends after as many steps as there are versions.
        for _ in 0..history.versions.len() {
            match follows.filter(|number| numbers.contains(number)) {
                Some(number) => {
                    follows = going.iter().find(|v| v.version == number).and_then(|version| version.follows);
                }
                None => break,
            }
        }
        follows
    };
    let mut relabelled = Vec::new();
    let mut versions: Vec<VersionRecord> = Vec::with_capacity(staying.len());
    for version in staying {
        let new = rebuilt.iter_mut().find(|rebuilt| rebuilt.version.version == version.version);
        let follows = follows(version.follows);
        match new {
            Some(rebuilt) => {
                rebuilt.version.follows = follows;
                versions.push(rebuilt.version.clone());
            }
            None => {
                if follows != version.follows {
                    relabelled.push(version.version);
                }
                versions.push(VersionRecord { follows, ..version.clone() });
            }
        }
    }
    let position = Position {
        follows: follows(history.position.follows),
        depth: moved.as_ref().map_or(history.position.depth, |moved| moved.base.depth),
        last: history.next_number() - 1,
        stamp: stamp.to_owned(),
        ..history.position.clone()
    };
    let remove = work.remove(all, moved.as_ref());
    Plan { rebuilt, moved, versions, relabelled, position, remove }
}

/// The bases that stand on something of these, directly or not. They are nobody's version, so nothing makes them anew
/// elsewhere: what stands on them takes their content along.
fn bases_above<'s>(
    gone: &HashSet<&str>,
    all: &'s [Snapshot],
    parents: &HashMap<&'s str, &'s str>,
) -> Vec<&'s str> {
    let stands_on_gone = |base: &&Snapshot| {
        let mut at = base.key.as_str();
        // A circle ends after as many steps as there are snapshots.
        (0..all.len()).any(|_| {
            at = parents.get(at).copied().unwrap_or_default();
            gone.contains(at)
        })
    };
    let bases = all.iter().filter(|snapshot| super::version::is_base(snapshot));
    bases.filter(stands_on_gone).map(|base| base.key.as_str()).collect()
}

fn depths(all: &[Snapshot], versions: &[&VersionRecord]) -> HashMap<String, u32> {
    let labelled = all.iter().map(|snapshot| (snapshot.key.clone(), Position::of(snapshot).depth));
    labelled.chain(versions.iter().map(|v| (v.snapshot.clone(), v.depth))).collect()
}

struct Work<'s> {
    found: &'s Found,
    parents: HashMap<&'s str, &'s str>,
    /// The versions that go, and the bases above them.
    gone: HashSet<&'s str>,
    /// The new names of what is made anew.
    anew: HashMap<String, String>,
    depths: HashMap<String, u32>,
    below: u32,
}

impl Work<'_> {
    /// What has to be made of a snapshot; none when all that it stands on stays as it is.
    fn merge(&mut self, name: &str, kind: &str) -> Option<Merge> {
        let mut layers = 1;
        let mut parent = self.parents.get(name).copied().unwrap_or_default();
        while self.gone.contains(parent) && layers <= self.parents.len() {
            layers += 1;
            parent = self.parents.get(parent).copied().unwrap_or_default();
        }
        let stands_on = self.anew.get(parent).map_or(parent, String::as_str).to_owned();
        if layers == 1 && stands_on == parent {
            return None;
        }
        let depth = self.depths.get(&stands_on).copied().unwrap_or(self.below) + 1;
        let new = format!("{}-{}", runtime_name(self.found, kind), self.anew.len());
        self.anew.insert(name.to_owned(), new.clone());
        self.depths.insert(new.clone(), depth);
        Some(Merge { top: name.to_owned(), layers, parent: stands_on, name: new, depth })
    }

    /// The snapshots that go: the versions themselves, what was made anew, and bases on which nothing is left.
    fn remove(&self, all: &[Snapshot], moved: Option<&Move>) -> Vec<String> {
        let from = moved.map(|moved| moved.from.as_str());
        let mut going: HashSet<&str> = self.gone.iter().copied().collect();
        going.extend(self.anew.keys().map(String::as_str));
        loop {
            let idle = all.iter().find(|base| {
                super::version::is_base(base)
                    && !going.contains(base.key.as_str())
                    && all.iter().filter(|s| s.parent == base.key).all(|s| going.contains(s.key.as_str()))
                    && !self.anew.values().any(|name| self.stands_on(name, &base.key))
            });
            match idle {
                Some(base) => going.insert(base.key.as_str()),
                None => break,
            };
        }
        // What is committed on the way goes first: it stands on what was there before.
        let committed = moved.map(|moved| moved.committed.clone());
        let rest = leaves_first(going.into_iter().filter(|name| Some(*name) != from), all);
        committed.into_iter().chain(rest).collect()
    }

    /// Whether something that is made anew stands on a snapshot that was there before.
    fn stands_on(&self, new: &str, base: &str) -> bool {
        self.anew.iter().any(|(old, name)| {
            let mut parent = self.parents.get(old.as_str()).copied().unwrap_or_default();
            while self.gone.contains(parent) {
                parent = self.parents.get(parent).copied().unwrap_or_default();
            }
            name == new && parent == base
        })
    }
}
