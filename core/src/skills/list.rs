//! Finding skills.

use super::{DEFAULT, FILE, MAX_FILE, document};
use crate::bridge::BridgeClient;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{EntryKind, ListDirOptions, ReadOptions, Skill, SkillList, SkillProblem};
use futures::{StreamExt, stream};
use std::collections::{HashMap, HashSet};

/// Files read at a time.
const AT_ONCE: usize = 8;
/// The most bytes of all files together; what is beyond is reported and left out.
const MAX_ALL: usize = 64 << 20;

/// Finds the skills of these roots, the first before the next.
pub(crate) async fn list(client: &BridgeClient, roots: &[String]) -> Result<SkillList> {
    let mut list = SkillList::default();
    let (mut seen, mut taken) = (HashSet::new(), 0);
    for root in roots {
        let root = client.clean(root)?;
        if seen.insert(root.clone()) {
            add_root(client, &root, &mut list, &mut taken).await?;
        }
    }
    shadow(&mut list.skills);
    Ok(list)
}

/// Whether something is wrong with one file, not with the way there.
fn is_of_the_file(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::FailedPrecondition
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceExhausted
            | ErrorKind::InvalidArgument
            | ErrorKind::Unexpected
    )
}

async fn add_root(client: &BridgeClient, root: &str, list: &mut SkillList, taken: &mut usize) -> Result<()> {
    let listed = match client.list(&ListDirOptions::default().path(root)).await {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if is_of_the_file(&error) => {
            list.problems.push(problem(root, error.message()));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    list.problems.extend(listed.problems.into_iter().map(|one| problem(&one.path, &one.message)));
    let places = listed.entries.into_iter().filter_map(|entry| match entry.kind {
        EntryKind::Dir => {
            Some(Place { path: format!("{}/{FILE}", entry.path), name: entry.name, sure: true })
        }
        // It may point to a directory.
        EntryKind::Symlink if entry.name != FILE => {
            Some(Place { path: format!("{}/{FILE}", entry.path), name: entry.name, sure: false })
        }
        _ if entry.name == FILE => Some(Place { path: entry.path, name: DEFAULT.to_owned(), sure: true }),
        _ => None,
    });
    let mut files = stream::iter(places).map(|place| read(client, place)).buffered(AT_ONCE);
    while let Some(file) = files.next().await {
        match file? {
            File::None => {}
            File::Bad(problem) => list.problems.push(problem),
            File::Read(place, raw) => add(root, place, raw, list, taken),
        }
    }
    Ok(())
}

/// Where a skill may be.
struct Place {
    path: String,
    /// What it is called if it does not say so itself.
    name: String,
    /// Whether it is a directory, or the file itself, for certain.
    sure: bool,
}

enum File {
    None,
    Bad(SkillProblem),
    Read(Place, String),
}

async fn read(client: &BridgeClient, place: Place) -> Result<File> {
    let options = ReadOptions::default().path(&place.path).max_bytes(MAX_FILE as u64);
    let bytes = match client.read(&options).await {
        Ok(bytes) => bytes,
        // A folder without the file is no skill.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(File::None),
        Err(error) if error.kind() == ErrorKind::FailedPrecondition && !place.sure => return Ok(File::None),
        Err(error) if is_of_the_file(&error) => return Ok(File::Bad(problem(&place.path, error.message()))),
        Err(error) => return Err(error),
    };
    Ok(match String::from_utf8(bytes.into()) {
        Ok(raw) => File::Read(place, raw),
        Err(_) => File::Bad(problem(&place.path, "it is no UTF-8 text")),
    })
}

/// `taken` is how many bytes all files have so far.
fn add(root: &str, place: Place, raw: String, list: &mut SkillList, taken: &mut usize) {
    if *taken + raw.len() > MAX_ALL {
        list.problems.push(problem(&place.path, "the skills are over 64 MiB together; this one is left out"));
        return;
    }
    *taken += raw.len();
    let document = document::parse(&raw);
    if let Some(message) = &document.problem {
        list.problems.push(problem(&place.path, message));
    }
    let name = document.name.unwrap_or(place.name);
    list.skills.push(Skill {
        description: document.description.unwrap_or_else(|| name.clone()),
        name,
        content: document.content,
        metadata: document.metadata,
        raw,
        path: place.path,
        root: root.to_owned(),
        shadowed_by: None,
    });
}

fn problem(path: &str, message: &str) -> SkillProblem {
    SkillProblem { path: path.to_owned(), message: message.to_owned() }
}

/// Of skills of one name the first counts.
fn shadow(skills: &mut [Skill]) {
    let mut first: HashMap<String, String> = HashMap::new();
    for skill in skills {
        match first.get(&skill.name) {
            Some(path) => skill.shadowed_by = Some(path.clone()),
            None => drop(first.insert(skill.name.clone(), skill.path.clone())),
        }
    }
}
