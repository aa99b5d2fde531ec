//! Against the real agent.

use super::{delete, list, upsert};
use crate::bridge::BridgeClient;
use crate::bridge::tests::Fixture;
use crate::error::ErrorKind;
use crate::types::{SkillDeleteOptions, SkillDraft, SkillList, SkillUpsertOptions};
use std::path::Path;

const ROOT: &str = ".skills";

fn roots(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

async fn all(client: &BridgeClient) -> SkillList {
    list(client, &roots(&[ROOT])).await.unwrap()
}

fn put(dir: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn names(list: &SkillList) -> Vec<&str> {
    list.skills.iter().map(|skill| skill.name.as_str()).collect()
}

fn drafts(drafts: Vec<SkillDraft>) -> SkillUpsertOptions {
    SkillUpsertOptions::default().skills(drafts)
}

#[tokio::test]
async fn one_bad_skill_hides_no_other() {
    let fixture = Fixture::start().await;
    let (client, data) = (fixture.client(), fixture.data());
    assert_eq!(all(&client).await, SkillList::default(), "there is no root yet");
    put(&data, ".skills/SKILL.md", "of the root");
    put(&data, ".skills/a/SKILL.md", "---\nname: alpha\ndescription: first\nmetadata: {n: 1}\n---\n\nbody\n");
    put(&data, ".skills/b/SKILL.md", "---\nname: [\n---\nstill");
    put(&data, ".skills/c/SKILL.md", [0xff, 0xfe]);
    put(&data, ".skills/d/SKILL.md", vec![b'x'; (1 << 20) + 1]);
    put(&data, ".skills/e/README.md", "no skill");
    put(&data, ".skills/f", "no folder");
    std::fs::create_dir_all(data.join(".skills/g/SKILL.md")).unwrap();
    std::os::unix::fs::symlink("a", data.join(".skills/h")).unwrap();
    std::os::unix::fs::symlink("f", data.join(".skills/i")).unwrap();
    std::os::unix::fs::symlink("nowhere", data.join(".skills/j")).unwrap();
    // Longer than what is made for readers that pay by the word.
    put(&data, ".skills/k/SKILL.md", "long line\n".repeat(5000));
    let list = all(&client).await;
    assert_eq!(names(&list), ["default", "alpha", "b", "alpha", "k"]);
    let alpha = &list.skills[1];
    assert_eq!((alpha.description.as_str(), alpha.content.as_str()), ("first", "body"));
    assert_eq!(alpha.metadata.get("n"), Some(&serde_json::json!(1)));
    assert_eq!(list.skills[3].shadowed_by.as_ref(), Some(&alpha.path));
    assert_eq!((list.skills[2].content.as_str(), list.skills[2].description.as_str()), ("still", "b"));
    assert_eq!(list.skills[4].raw.len(), 50_000);
    let bad: Vec<_> = list.problems.iter().map(|one| one.path.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(bad, ["b", "c", "d", "g"], "{:?}", list.problems);
}

#[tokio::test]
async fn the_first_root_comes_first() {
    let fixture = Fixture::start().await;
    let (client, data) = (fixture.client(), fixture.data());
    put(&data, "own/x/SKILL.md", "own");
    put(&data, "shared/x/SKILL.md", "shared");
    put(&data, "shared/y/SKILL.md", "shared");
    put(&data, "file", "no directory");
    let list = list(&client, &roots(&["own", "missing", "shared", "file", "./own", "./file"])).await.unwrap();
    let shown: Vec<_> = list.skills.iter().map(|s| (s.name.as_str(), s.shadowed_by.is_some())).collect();
    assert_eq!(shown, [("x", false), ("x", true), ("y", false)]);
    assert_eq!(list.skills[1].shadowed_by.as_ref(), Some(&list.skills[0].path));
    assert_eq!(list.problems.len(), 1, "{:?}", list.problems);
}

#[tokio::test]
async fn all_are_checked_before_one_is_written() {
    let fixture = Fixture::start().await;
    let (client, data) = (fixture.client(), fixture.data());
    let good = || SkillDraft::default().name("good").content("x");
    for bad in [
        SkillDraft::default(),
        SkillDraft::default().name("a/b"),
        SkillDraft::default().name(".."),
        SkillDraft::default().name("a..b"),
        SkillDraft::default().name("."),
        SkillDraft::default().name("a\\b"),
        SkillDraft::default().name(" a"),
        SkillDraft::default().name("n".repeat(256)),
        SkillDraft::default().raw("no name"),
        SkillDraft::default().raw("---\nname: [\n---\n"),
        SkillDraft::default().name("a").raw("---\nname: b\n---\n"),
        SkillDraft::default().name("a").raw("x").content("y"),
        SkillDraft::default().name("a").content("x".repeat(1 << 20)),
        good(),
    ] {
        let error = upsert(&client, ROOT, &drafts(vec![good(), bad.clone()])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}: {error}");
        assert!(!data.join(ROOT).exists(), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_written_is_listed_until_it_is_deleted() {
    let fixture = Fixture::start().await;
    let (client, data) = (fixture.client(), fixture.data());
    let raw = "---\nname: raw\nlicense: MIT\n---\nas it is";
    let both = vec![
        SkillDraft::default().name("made").description("one: two").content("# Made\n"),
        SkillDraft::default().raw(raw),
        SkillDraft::default().name("plain").raw("words"),
    ];
    let written = upsert(&client, ROOT, &drafts(both)).await.unwrap().written;
    assert_eq!(written.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["made", "raw", "plain"]);
    assert_eq!(std::fs::read_to_string(data.join(".skills/raw/SKILL.md")).unwrap(), raw);
    let found = all(&client).await;
    assert_eq!(names(&found), ["made", "plain", "raw"]);
    assert_eq!(
        (found.skills[0].description.as_str(), found.skills[0].content.as_str()),
        ("one: two", "# Made")
    );
    assert_eq!(found.skills[1].description, "plain");

    // One that is there is replaced where it is, and one of another name is not.
    put(&data, ".skills/folder/SKILL.md", "---\nname: moved\n---\nold");
    put(&data, ".skills/folder/script.sh", "kept");
    upsert(&client, ROOT, &drafts(vec![SkillDraft::default().name("moved").content("new")])).await.unwrap();
    let found = all(&client).await;
    let moved = found.skills.iter().find(|skill| skill.name == "moved").unwrap();
    assert!(moved.path.ends_with("/folder/SKILL.md") && moved.content == "new", "{moved:?}");
    let error = upsert(&client, ROOT, &drafts(vec![SkillDraft::default().name("folder")])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(data.join(".skills/folder/script.sh").is_file());

    put(&data, ".skills/SKILL.md", "root");
    let gone = SkillDeleteOptions::default().names(roots(&["moved", "default", "nothing", "folder"]));
    let told = delete(&client, ROOT, &gone).await.unwrap();
    assert_eq!((told.deleted, told.missing), (roots(&["moved", "default"]), roots(&["nothing", "folder"])));
    assert!(!data.join(".skills/folder").exists() && data.join(".skills").is_dir());
    assert_eq!(names(&all(&client).await), ["made", "plain", "raw"]);
    for bad in ["", "..", "a/b"] {
        let bad = SkillDeleteOptions::default().names(roots(&["made", bad]));
        assert_eq!(delete(&client, ROOT, &bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert!(data.join(".skills/made").is_dir());

    // A link goes, and not what it points to.
    put(&data, "elsewhere/SKILL.md", "---\nname: linked\n---\n");
    std::os::unix::fs::symlink("../elsewhere", data.join(".skills/link")).unwrap();
    delete(&client, ROOT, &SkillDeleteOptions::default().names(roots(&["linked"]))).await.unwrap();
    assert!(!data.join(".skills/link").is_symlink() && data.join("elsewhere/SKILL.md").is_file());
}
