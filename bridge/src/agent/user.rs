//! Users and groups of the container, read from its own files.
//!
//! The agent is linked statically, where the C library's look-ups would load modules of the container at run time.

use std::path::Path;

use tonic::Status;

use super::errors::At;

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Login name, when the container knows the uid.
    pub(crate) name: Option<String>,
    /// Home directory, when the container knows the uid.
    pub(crate) home: Option<String>,
    /// Login shell, when the container knows the uid and gives it one.
    pub(crate) shell: Option<String>,
}

impl Identity {
    /// Its name, or its uid when it has none.
    pub(crate) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("/");
        let shell = fields.next().unwrap_or_default();
        Some(Account { name, uid, gid, home, shell })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Finds whom `user` means: a name or a uid, with an optional `:` and a group name or gid.
///
/// A uid the container does not know is allowed, with group 0 unless one is given; an unknown name is not.
///
/// # Errors
/// `INVALID_ARGUMENT` when nothing matches; the error of reading `/etc/passwd` or `/etc/group`.
pub(crate) fn find(user: &str) -> Result<Identity, Status> {
    identity(user, &read(Path::new("/etc/passwd"))?, &read(Path::new("/etc/group"))?)
}

/// Whom the agent itself runs as, as far as the container knows.
pub(crate) fn own() -> Option<Identity> {
    find(&rustix::process::geteuid().as_raw().to_string()).ok()
}

/// A container may have neither file.
fn read(path: &Path) -> Result<String, Status> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).at("read", path),
    }
}

/// Finds whom a change of owner means: a name or uid, then an optional `:` and a group name or gid; without the first, the
/// group alone. What is not named stays as it is.
///
/// # Errors
/// As [`find`].
pub(crate) fn owner(asked: &str) -> Result<(Option<u32>, Option<u32>), Status> {
    owner_in(asked, &read(Path::new("/etc/passwd"))?, &read(Path::new("/etc/group"))?)
}

fn owner_in(asked: &str, passwd: &str, group: &str) -> Result<(Option<u32>, Option<u32>), Status> {
    let (user, group_asked) = asked.split_once(':').map_or((asked, None), |(u, g)| (u, Some(g)));
    if group_asked == Some("") || (user.is_empty() && group_asked.is_none()) {
        return Err(Status::invalid_argument("an owner is user, user:group or :group"));
    }
    // The number that stands for "as it is" is nobody's.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    let uid = match user {
        "" => None,
        user => Some(
            accounts(passwd)
                .find(|account| account.name == user)
                .map(|account| account.uid)
                .or_else(|| number(user)),
        ),
    };
    let gid = group_asked.map(|asked| {
        groups(group).find(|(name, _, _)| *name == asked).map(|(_, gid, _)| gid).or_else(|| number(asked))
    });
    let unknown = |what: &str, name: &str| {
        Status::invalid_argument(format!("the workspace has no {what} named {name:?}"))
    };
    let uid = uid.map(|uid| uid.ok_or_else(|| unknown("user", user))).transpose()?;
    let gid =
        gid.map(|gid| gid.ok_or_else(|| unknown("group", group_asked.unwrap_or_default()))).transpose()?;
    Ok((uid, gid))
}

fn identity(user: &str, passwd: &str, group: &str) -> Result<Identity, Status> {
    let (who, which) = user.split_once(':').map_or((user, None), |(who, which)| (who, Some(which)));
    let number = who.parse::<u32>().ok();
    let account = accounts(passwd)
        .find(|account| account.name == who)
        .or_else(|| accounts(passwd).find(|account| Some(account.uid) == number));
    let (uid, default_gid) = match (&account, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(Status::invalid_argument(format!("the workspace has no user named {who:?}")));
        }
    };
    let name = account.as_ref().map(|account| account.name.to_owned());
    let home = account.as_ref().map(|account| account.home.to_owned());
    let shell = account.map(|account| account.shell.to_owned()).filter(|shell| !shell.is_empty());
    let gid = match which {
        None => default_gid,
        Some(which) => groups(group)
            .find(|(name, _, _)| *name == which)
            .map(|(_, gid, _)| gid)
            .or_else(|| which.parse().ok())
            .ok_or_else(|| Status::invalid_argument(format!("the workspace has no group named {which:?}")))?,
    };
    let mut all = vec![gid];
    // A group given explicitly is the only one, as container runtimes have it.
    if let (Some(name), None) = (&name, which) {
        for (_, gid, members) in groups(group) {
            if members.split(',').any(|member| member == name) && !all.contains(&gid) {
                all.push(gid);
            }
        }
    }
    Ok(Identity { uid, gid, groups: all, name, home, shell })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1000:1001::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nvideo:x:44:someone,app\naudio:x:29:other\n";

    fn find(user: &str) -> Result<Identity, Status> {
        identity(user, PASSWD, GROUP)
    }

    #[test]
    fn names_bring_their_groups_and_home() {
        let app = find("app").unwrap();
        assert_eq!((app.uid, app.gid, app.groups.clone()), (1000, 1001, vec![1001, 44]));
        assert_eq!((app.home.as_deref(), app.shell.as_deref()), (Some("/home/app"), Some("/bin/sh")));
        assert_eq!((app.shown(), find("4242").unwrap().shown()), ("app".into(), "4242".into()));
    }

    #[test]
    fn numbers_work_known_or_not() {
        assert_eq!(find("1000").unwrap().name.as_deref(), Some("app"));
        let stranger = find("4242").unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.name), (4242, 0, None));
        assert_eq!(find("4242:77").unwrap().gid, 77);
    }

    #[test]
    fn an_explicit_group_replaces_the_others() {
        assert_eq!(find("app:audio").unwrap().groups, vec![29]);
    }

    #[test]
    fn owners_are_names_or_numbers_and_what_is_not_named_stays() {
        let owner = |asked: &str| owner_in(asked, PASSWD, GROUP).map_err(|status| status.code());
        assert_eq!(owner("app"), Ok((Some(1000), None)));
        assert_eq!(owner("app:video"), Ok((Some(1000), Some(44))));
        assert_eq!(owner(":app"), Ok((None, Some(1001))));
        assert_eq!(owner("7:8"), Ok((Some(7), Some(8))));
        for bad in
            ["", ":", "app:", "nobody-here", "app:nothing", "4294967295", "0:4294967295", "-1", "a:b:c"]
        {
            assert_eq!(owner(bad), Err(tonic::Code::InvalidArgument), "{bad}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(find("nobody-here").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(find("app:nothing").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
