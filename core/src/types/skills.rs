use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where to look for skills.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SkillListOptions {
    /// The directories that hold skills, the first of which comes first; relative ones are under the data directory. Default:
    /// the configuration's `guest.skill_roots`.
    pub roots: Vec<String>,
}

setters!(SkillListOptions { roots: Vec<String>; });

/// A skill: a folder with a `SKILL.md`, which is Markdown after an optional YAML frontmatter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Skill {
    /// Its name: the frontmatter's, else the folder's; `default` for a `SKILL.md` that lies in the root itself.
    pub name: String,
    /// What it is for: the frontmatter's, else its name.
    pub description: String,
    /// What follows the frontmatter, without the empty lines around it.
    pub content: String,
    /// The frontmatter's `metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// The whole file as it is.
    pub raw: String,
    /// The file, absolute inside the workspace.
    pub path: String,
    /// The root it was found in, absolute inside the workspace.
    pub root: String,
    /// The file of the skill of the same name that comes before this one; absent for the one that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadowed_by: Option<String>,
}

/// The skills of a workspace, root by root, each ordered by folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SkillList {
    /// The skills; those that another one shadows are told too.
    pub skills: Vec<Skill>,
    /// What could not be read, or not in whole; it hides nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<SkillProblem>,
}

/// A file or folder that is not as a skill should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SkillProblem {
    /// Its path, absolute inside the workspace.
    pub path: String,
    /// What is wrong, and what was taken instead.
    pub message: String,
}

/// A skill to write: either its parts or, as `raw`, its whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SkillDraft {
    /// Its name: not empty, without `/`, `\` and `..`, and not `.`. It may be left out where the frontmatter of `raw` tells it.
    pub name: Option<String>,
    /// What it is for. Default: none is written, and its name stands for it.
    pub description: Option<String>,
    /// Further values for the frontmatter.
    pub metadata: BTreeMap<String, Value>,
    /// What follows the frontmatter.
    pub content: String,
    /// The whole file, written as it is; then `description`, `metadata` and `content` are left out. At most 1 MiB.
    pub raw: Option<String>,
}

setters!(SkillDraft {
    name: String => Some;
    description: String => Some;
    metadata: BTreeMap<String, Value>;
    content: String;
    raw: String => Some;
});

/// Skills to write, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SkillUpsertOptions {
    /// The skills; each replaces the one of its name in that root, if there is one.
    pub skills: Vec<SkillDraft>,
    /// The directory they go into; a relative one is under the data directory. Default: the first of the configuration's
    /// `guest.skill_roots`.
    pub root: Option<String>,
}

setters!(SkillUpsertOptions { skills: Vec<SkillDraft>; root: String => Some; });

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SkillUpsertResult {
    /// The skills, in the order they were given.
    pub written: Vec<SkillFile>,
}

/// A skill's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SkillFile {
    /// The skill's name.
    pub name: String,
    /// The file, absolute inside the workspace.
    pub path: String,
}

/// Skills to delete, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SkillDeleteOptions {
    /// Their names.
    pub names: Vec<String>,
    /// The directory they are in; a relative one is under the data directory. Default: the first of the configuration's
    /// `guest.skill_roots`.
    pub root: Option<String>,
}

setters!(SkillDeleteOptions { names: Vec<String>; root: String => Some; });

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SkillDeleteResult {
    /// The names of the skills that are gone now, with their folders.
    pub deleted: Vec<String>,
    /// The names of those that were not there.
    pub missing: Vec<String>,
}
