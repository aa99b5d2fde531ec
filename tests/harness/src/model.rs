//! What a workspace with versions does, told without any backend: for tests that compare a real one with it.
//!
//! Content is a set of words. A step is made of two numbers, so that whoever draws random sequences can shrink them.

use std::collections::{BTreeMap, BTreeSet};

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
    /// It is stopped.
    Stop,
    /// It is started.
    Start,
    /// The engine is closed and a new one opened.
    Reopen,
    /// It is deleted.
    Delete,
}

impl Step {
    /// The step that two numbers stand for.
    pub fn of(kind: u8, number: u8) -> Self {
        match kind % 20 {
            0..=1 => Self::Create,
            2..=6 => Self::Write(format!("w{}", number % 16)),
            7..=10 => Self::Snapshot,
            11..=12 => Self::Rollback { version: u64::from(number % 6) + 1, discard: false },
            13..=14 => Self::Rollback { version: u64::from(number % 6) + 1, discard: true },
            15 => Self::Stop,
            16..=17 => Self::Start,
            18 => Self::Reopen,
            _ => Self::Delete,
        }
    }
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// With success; for [`Step::Snapshot`], and a rollback that keeps what it leaves, with this version made.
    Well(Option<u64>),
    /// There is no such workspace or version.
    NotFound,
}

/// A set of words.
pub type Content = BTreeSet<String>;

/// A workspace as it has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    workspace: Option<Held>,
}

/// What is held while there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// What is in it.
    pub content: Content,
    /// Whether it runs.
    pub running: bool,
    /// What is in each of its versions.
    pub versions: BTreeMap<u64, Content>,
}

impl Model {
    /// What is held, if there is a workspace.
    pub fn held(&self) -> Option<&Held> {
        self.workspace.as_ref()
    }

    /// Whether a word can be written: something has to run for that.
    pub fn takes(&self, step: &Step) -> bool {
        !matches!(step, Step::Write(_)) || self.workspace.as_ref().is_some_and(|held| held.running)
    }

    /// Does a step, and tells how it ends.
    pub fn apply(&mut self, step: &Step) -> Ends {
        match (step, &mut self.workspace) {
            (Step::Reopen, _) => {}
            (Step::Create, there) => there.get_or_insert_default().running = true,
            (Step::Delete, there) => *there = None,
            (_, None) => return Ends::NotFound,
            (Step::Write(word), Some(held)) => drop(held.content.insert(word.clone())),
            (Step::Stop, Some(held)) => held.running = false,
            (Step::Start, Some(held)) => held.running = true,
            (Step::Snapshot, Some(held)) => return Ends::Well(Some(held.keep())),
            (Step::Rollback { version, discard }, Some(held)) => {
                let Some(content) = held.versions.get(version).cloned() else { return Ends::NotFound };
                let kept = (!discard).then(|| held.keep());
                held.content = content;
                return Ends::Well(kept);
            }
        }
        Ends::Well(None)
    }
}

impl Held {
    fn keep(&mut self) -> u64 {
        let number = self.versions.last_key_value().map_or(0, |(last, _)| *last) + 1;
        self.versions.insert(number, self.content.clone());
        number
    }
}

#[cfg(test)]
mod tests {
    use super::{Ends, Model, Step};

    #[test]
    fn going_back_keeps_or_discards() {
        let mut model = Model::default();
        assert_eq!(model.apply(&Step::Snapshot), Ends::NotFound);
        model.apply(&Step::Create);
        model.apply(&Step::Write("a".to_owned()));
        assert_eq!(model.apply(&Step::Snapshot), Ends::Well(Some(1)));
        model.apply(&Step::Write("b".to_owned()));
        let back = |version, discard| Step::Rollback { version, discard };
        assert_eq!(model.apply(&back(2, false)), Ends::NotFound);
        assert_eq!(model.apply(&back(1, false)), Ends::Well(Some(2)));
        assert_eq!(model.held().unwrap().content.len(), 1);
        assert_eq!(model.apply(&back(2, true)), Ends::Well(None));
        assert_eq!(model.held().unwrap().content.len(), 2);
        model.apply(&Step::Delete);
        assert!(model.held().is_none());
    }
}
