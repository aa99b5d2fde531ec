//! Debian packages through apt, beside the machine's own package state: own lists, own cache, own status.
//!
//! Mirror, proxy and keys are the machine's; apt checks the signatures as it always does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::error::{Context, Error, Result};

/// Debian's keys, on every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists older than this are fetched again.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A private apt for some suites.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    suites: Vec<String>,
}

impl Apt {
    /// Prepares one in `dir`; nothing is fetched yet.
    pub(crate) fn new(dir: &Path, suites: &[&str]) -> Result<Self> {
        let this = Self { dir: dir.to_owned(), suites: suites.iter().map(ToString::to_string).collect() };
        for part in ["sources", "lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(dir.join(part)).context(format_args!("cannot make {}", dir.display()))?;
        }
        fs::write(dir.join("status"), "").context("cannot write apt's status")?;
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n",
            mirror()?,
            this.suites.join(" ")
        );
        fs::write(dir.join("sources/debian.sources"), sources).context("cannot write apt's sources")?;
        Ok(this)
    }

    /// Fetches the package lists unless they are recent.
    fn update(&self) -> Result<()> {
        let stamp = self.dir.join("updated");
        let wanted = self.suites.join(" ");
        let age = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
        if age.is_ok_and(|age| age < STALE) && fs::read_to_string(&stamp).is_ok_and(|suites| suites == wanted)
        {
            return Ok(());
        }
        self.get(&["update", "-qq"])?;
        fs::write(&stamp, wanted).context("cannot write a stamp")
    }

    /// Downloads one package and returns its file.
    pub(crate) fn download(&self, package: &str, suite: &str) -> Result<PathBuf> {
        self.update()?;
        let into = self.dir.join("debs").join(suite);
        fs::create_dir_all(&into).context("cannot make a directory")?;
        let prefix = format!("{package}_");
        let found = || -> Option<PathBuf> {
            let entries = fs::read_dir(&into).ok()?.flatten().map(|entry| entry.path());
            entries.into_iter().find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix) && name.ends_with(".deb")
            })
        };
        if let Some(old) = found() {
            fs::remove_file(old).context("cannot remove an old package")?;
        }
        let mut command = self.command();
        command.args(["-qq", "download", &format!("{package}/{suite}")]).current_dir(&into);
        run(command)?;
        found().ok_or_else(|| Error::new(format!("apt did not download {package}")))
    }

    /// Downloads packages with all that they depend on, as for an empty system, and returns the files.
    pub(crate) fn download_closure(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.update()?;
        let archives = self.dir.join("cache/archives");
        for entry in fs::read_dir(&archives).context("cannot list apt's cache")?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "deb") {
                fs::remove_file(entry.path()).context("cannot clean apt's cache")?;
            }
        }
        let mut arguments = vec!["install", "-qq", "--yes", "--download-only", "--no-install-recommends"];
        arguments.extend(packages);
        self.get(&arguments)?;
        let entries = fs::read_dir(&archives).context("cannot list apt's cache")?.flatten();
        let mut files: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "deb"))
            .collect();
        files.sort();
        Ok(files)
    }

    fn get(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(arguments);
        run(command).map(|_| ())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        for (option, value) in [
            ("Dir::Etc::SourceList", PathBuf::from("/dev/null")),
            ("Dir::Etc::SourceParts", self.dir.join("sources")),
            ("Dir::Etc::Preferences", PathBuf::from("/dev/null")),
            ("Dir::Etc::PreferencesParts", PathBuf::from("/dev/null")),
            ("Dir::State", self.dir.clone()),
            ("Dir::State::status", self.dir.join("status")),
            ("Dir::State::Lists", self.dir.join("lists")),
            ("Dir::Cache", self.dir.join("cache")),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        for option in [
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
            // The cache need not be readable for apt's own user.
            "APT::Sandbox::User=root",
            "APT::Keep-Downloaded-Packages=true",
            "DPkg::Post-Invoke=",
            "APT::Update::Post-Invoke=",
            // apt gives up on a mirror slowly otherwise.
            "Acquire::Retries=2",
            "Acquire::http::Timeout=30",
        ] {
            command.args(["-o", option]);
        }
        if let Some(first) = self.suites.first() {
            command.arg("-o").arg(format!("APT::Default-Release={first}"));
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// The machine's own Debian release, `bookworm` for instance.
pub(crate) fn own_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot tell which system this is")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.ok_or_else(|| Error::new("this is no Debian release"))?.trim_matches('"').to_owned())
}

/// The mirror that the machine is set up to use for its own release.
fn mirror() -> Result<String> {
    let suite = own_suite()?;
    let mut command = Command::new("apt-get");
    command.args(["--print-uris", "update"]).env("LC_ALL", "C.UTF-8");
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ending = format!("/dists/{suite}/InRelease");
    let found = text.lines().find_map(|line| {
        let address = line.strip_prefix('\'')?.split('\'').next()?;
        address.strip_suffix(&ending)
    });
    found.map(str::to_owned).ok_or_else(|| Error::new(format!("apt has no source for {suite}: add one")))
}

fn run(mut command: Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(format_args!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::new(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Unpacks a package's files into `dir`.
pub(crate) fn unpack(package: &Path, dir: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(package).arg(dir);
    run(command).map(|_| ())
}
