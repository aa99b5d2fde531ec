//! Writing and deleting skills in one root.

use super::{FILE, MAX_FILE, document, is_name, list};
use crate::bridge::BridgeClient;
use crate::error::{Error, Result};
use crate::types::{
    RemoveOptions, Skill, SkillDeleteOptions, SkillDeleteResult, SkillDraft, SkillFile, SkillUpsertOptions,
    SkillUpsertResult, WriteOptions,
};
use bytes::Bytes;
use std::collections::HashSet;

/// Writes skills into a root, each file at once or not at all. All are checked before the first is written.
pub(crate) async fn upsert(
    client: &BridgeClient,
    root: &str,
    options: &SkillUpsertOptions,
) -> Result<SkillUpsertResult> {
    let root = client.clean(root)?;
    let texts = texts(&options.skills)?;
    let there = list(client, std::slice::from_ref(&root)).await?.skills;
    let mut files = Vec::with_capacity(texts.len());
    for (name, text) in texts {
        files.push((place(&there, &root, &name)?, name, text));
    }
    let mut result = SkillUpsertResult::default();
    for (path, name, text) in files {
        client.write(&WriteOptions::default().path(&path), Bytes::from(text)).await?;
        result.written.push(SkillFile { name, path });
    }
    Ok(result)
}

/// The name and the file of each draft.
fn texts(drafts: &[SkillDraft]) -> Result<Vec<(String, String)>> {
    let mut names = HashSet::new();
    let mut texts = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let refuse =
            |message: String| Error::invalid_argument(message).with("field", format!("skills[{index}]"));
        let (name, text) = text(draft).map_err(refuse)?;
        if text.len() > MAX_FILE {
            return Err(refuse(format!("{name:?} would have {} bytes; the most are {MAX_FILE}", text.len())));
        }
        if !names.insert(name.clone()) {
            return Err(refuse(format!("{name:?} is there twice; give each skill once")));
        }
        texts.push((name, text));
    }
    Ok(texts)
}

fn text(draft: &SkillDraft) -> Result<(String, String), String> {
    let Some(raw) = &draft.raw else {
        let name = named(draft.name.as_deref())?;
        let text = document::build(&name, draft.description.as_deref(), &draft.metadata, &draft.content)
            .map_err(|why| format!("{name:?} cannot be written as YAML: {why}"))?;
        return Ok((name, text));
    };
    if draft.description.is_some() || !draft.metadata.is_empty() || !draft.content.is_empty() {
        return Err("give either raw, or description, metadata and content".to_owned());
    }
    let document = document::parse(raw);
    if let Some(problem) = document.problem {
        return Err(problem);
    }
    match (&draft.name, document.name) {
        (Some(name), Some(own)) if *name != own => {
            Err(format!("it is called {name:?}, and {own:?} in its frontmatter; make them one"))
        }
        (_, Some(own)) => Ok((own, raw.clone())),
        (name, None) => Ok((named(name.as_deref())?, raw.clone())),
    }
}

fn named(name: Option<&str>) -> Result<String, String> {
    match name {
        Some(name) if is_name(name) && name.trim() == name => Ok(name.to_owned()),
        Some(name) => Err(format!(
            "no skill can be called {name:?}; a name has 1 to 255 bytes, no /, \\ or .., and no space around it"
        )),
        None => Err("it has no name; give one, or write it into the frontmatter of raw".to_owned()),
    }
}

/// Where a skill goes: where the one of its name is, else into a folder of its name.
fn place(there: &[Skill], root: &str, name: &str) -> Result<String> {
    if let Some(skill) = there.iter().find(|skill| skill.name == name) {
        return Ok(skill.path.clone());
    }
    let path = within(root, &format!("{name}/{FILE}"));
    match there.iter().find(|skill| skill.path == path) {
        Some(other) => Err(Error::failed_precondition(format!(
            "the folder {name:?} holds the skill {:?}; delete that one or rename its folder",
            other.name
        ))
        .with("path", path)),
        None => Ok(path),
    }
}

fn within(root: &str, path: &str) -> String {
    format!("{}/{path}", root.trim_end_matches('/'))
}

/// Deletes skills of a root with their folders. All names are checked before the first is deleted.
pub(crate) async fn delete(
    client: &BridgeClient,
    root: &str,
    options: &SkillDeleteOptions,
) -> Result<SkillDeleteResult> {
    let root = client.clean(root)?;
    for (index, name) in options.names.iter().enumerate() {
        named(Some(name))
            .map_err(|message| Error::invalid_argument(message).with("field", format!("names[{index}]")))?;
    }
    let there = list(client, std::slice::from_ref(&root)).await?.skills;
    let mut result = SkillDeleteResult::default();
    for name in &options.names {
        let paths: Vec<String> = there
            .iter()
            .filter(|skill| skill.name == *name)
            .map(|skill| folder(&root, &skill.path))
            .collect();
        for path in &paths {
            client.remove(&RemoveOptions::default().path(path).recursive(true)).await?;
        }
        if paths.is_empty() { &mut result.missing } else { &mut result.deleted }.push(name.clone());
    }
    Ok(result)
}

/// What goes with a skill: its folder, or the file alone where that lies in the root.
fn folder(root: &str, path: &str) -> String {
    match path.strip_suffix(FILE).map(|folder| folder.trim_end_matches('/')) {
        Some(folder) if folder != root.trim_end_matches('/') => folder.to_owned(),
        _ => path.to_owned(),
    }
}
