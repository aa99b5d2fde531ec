//! An image's user by numbers, found as Docker finds it: <https://docs.docker.com/reference/dockerfile/#user>.

use super::client::Client;
use super::rootfs::RootFs;
use super::snapshots;
use crate::backend::ResolvedUser;
use crate::error::{Error, Result};
use containerd_client::types::Mount;
use std::path::Path;

/// No account file is larger; one that is would be there to fill our memory.
const MAX_FILE: usize = 4 << 20;

/// Ids that containers may have: runc refuses larger ones.
const MAX_ID: u32 = i32::MAX as u32;

/// Resolves the user in the snapshot's own files and gives it the data directory.
pub(super) async fn prepare(
    client: &Client,
    snapshotter: &str,
    key: &str,
    user: &str,
    data_dir: Option<&Path>,
) -> Result<ResolvedUser> {
    let mounts = snapshots::mounts(client, snapshotter, key).await?;
    let (user, data_dir) = (user.to_owned(), data_dir.map(Path::to_owned));
    let work = tokio::task::spawn_blocking(move || prepare_mounted(&mounts, &user, data_dir.as_deref()));
    work.await
        .map_err(|e| Error::unexpected("looking up the user was broken off").caused_by(e))?
        .map_err(|e| e.with("snapshot", key))
}

fn prepare_mounted(mounts: &[Mount], user: &str, data_dir: Option<&Path>) -> Result<ResolvedUser> {
    let view = match RootFs::read_only(mounts) {
        Ok(view) => view,
        // Root needs nothing from the image's files but the names of extra groups, which add nothing to what root may.
        Err(_) if matches!(user, "" | "0" | "root" | "0:0" | "root:root") => {
            return Ok(ResolvedUser { uid: 0, gid: 0, additional_gids: vec![0] });
        }
        Err(error) => return Err(error.with("user", user)),
    };
    let file = |path: &str| -> Result<String> {
        let bytes = view.read(Path::new(path), MAX_FILE)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let resolved = resolve(user, &file("etc/passwd")?, &file("etc/group")?)?;
    if let Some(data_dir) = data_dir.filter(|_| resolved.uid != 0) {
        view.give_dir(mounts, data_dir, resolved.uid, resolved.gid)?;
    }
    Ok(resolved)
}

/// `name|uid[:group|gid]` against the text of `/etc/passwd` and `/etc/group`. Numbers need no entry: their group is then 0.
fn resolve(spec: &str, passwd: &str, group: &str) -> Result<ResolvedUser> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = accounts(passwd).find(|entry| entry.name == user || user.parse() == Ok(entry.id));
    let (uid, own_gid, name) = match (&entry, number(user)) {
        (Some(entry), _) => {
            (entry.id, entry.rest.split(':').next().and_then(number).unwrap_or(0), entry.name)
        }
        (None, Some(uid)) => (uid, 0, ""),
        (None, None) => return Err(unknown("user", "/etc/passwd", user)),
    };
    let Some(wanted) = wanted_group else {
        let mut additional_gids = vec![own_gid];
        for group in accounts(group) {
            // The members are what follows the id.
            let member = !name.is_empty() && group.rest.split(',').any(|member| member.trim() == name);
            if member && !additional_gids.contains(&group.id) {
                additional_gids.push(group.id);
            }
        }
        return Ok(ResolvedUser { uid, gid: own_gid, additional_gids });
    };
    let found = accounts(group).find(|entry| entry.name == wanted || wanted.parse() == Ok(entry.id));
    let gid = found.map(|entry| entry.id).or_else(|| number(wanted));
    let gid = gid.ok_or_else(|| unknown("group", "/etc/group", wanted))?;
    // Who names a group wants that one only.
    Ok(ResolvedUser { uid, gid, additional_gids: vec![gid] })
}

struct Account<'a> {
    name: &'a str,
    id: u32,
    rest: &'a str,
}

/// The lines `name:password:id:rest`; others are passed over.
fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().splitn(4, ':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        let valid = !name.is_empty() && !name.starts_with('#');
        valid.then_some(Account { name, id: number(id)?, rest: fields.next().unwrap_or_default() })
    })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

fn unknown(what: &'static str, file: &str, name: &str) -> Error {
    Error::failed_precondition(format!(
        "the image runs as a {what} that its {file} does not name; use a number or another image"
    ))
    .with(what, format!("{name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const PASSWD: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\n+nis\nnode:x:1000:1001:Node:/home/node:/bin/sh\n\
        broken:x:many:1::/:\nbig:x:4294967295:0::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:root,node\nnode:x:1001:\nvideo:x:44: node\nempty:x:7\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>) {
        let found = resolve(user, PASSWD, GROUP).unwrap();
        (found.uid, found.gid, found.additional_gids)
    }

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(ids(""), (0, 0, vec![0, 4]));
        assert_eq!(ids("root"), (0, 0, vec![0, 4]));
        assert_eq!(ids("node"), (1000, 1001, vec![1001, 4, 44]));
        assert_eq!(ids("1000"), (1000, 1001, vec![1001, 4, 44]));
        assert_eq!(ids("node:video"), (1000, 44, vec![44]));
        assert_eq!(ids("node:"), (1000, 1001, vec![1001, 4, 44]));
        assert_eq!(ids("node:7"), (1000, 7, vec![7]));
        assert_eq!(ids("12345"), (12345, 0, vec![0]));
        assert_eq!(ids("12345:678"), (12345, 678, vec![678]));
        assert_eq!(resolve("5:6", "", "").unwrap().gid, 6);
    }

    #[test]
    fn what_is_not_there_is_named() {
        for user in ["nobody", "big", "broken", "4294967295", "-1", "node:wheel", "node:-1"] {
            let error = resolve(user, PASSWD, GROUP).expect_err(user);
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{user}");
        }
        let error = resolve("node:wheel", PASSWD, GROUP).unwrap_err();
        assert!(error.to_string().contains(r#"group: "wheel""#), "{error}");
    }
}
