//! A containerd of our own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cni::Network;
use crate::error::{Context, Error, Result};
use crate::fetch;
use crate::home::{Daemon, Home};

/// Which containerd to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// The one that is installed (Debian 12 has 1.6).
    #[default]
    #[serde(rename = "1.6")]
    V1_6,
    /// 1.7, of Debian's trixie; see [`fetch::containerd`].
    #[serde(rename = "1.7")]
    V1_7,
    /// 2.1, of Debian's sid; see [`fetch::containerd`].
    #[serde(rename = "2.1")]
    V2_1,
}

impl Version {
    /// As it is written on command lines: `1.6`, `1.7`, `2.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2_1 => "2.1",
        }
    }

    /// The version that `$DUNNAGE_TEST_CONTAINERD` asks for, else 1.6: how one suite runs on all of them.
    ///
    /// # Errors
    /// When the variable holds anything else than a version.
    pub fn from_env() -> Result<Self> {
        match std::env::var("DUNNAGE_TEST_CONTAINERD") {
            Ok(text) if !text.is_empty() => text.parse(),
            _ => Ok(Self::default()),
        }
    }

    /// The directory with `containerd`, its shim and `ctr`; newer versions are fetched when they are missing.
    ///
    /// # Errors
    /// When the program is not installed, or cannot be fetched.
    pub fn bin_dir(self) -> Result<PathBuf> {
        match self {
            Self::V1_6 => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .chain(["/usr/bin".into(), "/usr/sbin".into()])
                .find(|dir| dir.join("containerd").is_file())
                .ok_or_else(|| Error::new("containerd is not installed: run scripts/setup")),
            newer => fetch::containerd(newer),
        }
    }
}

impl std::str::FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "1.6" => Ok(Self::V1_6),
            "1.7" => Ok(Self::V1_7),
            "2.1" => Ok(Self::V2_1),
            other => Err(Error::new(format!("containerd {other} is not known here: say 1.6, 1.7 or 2.1"))),
        }
    }
}

/// How a containerd is started.
#[derive(Debug, Clone, Default)]
pub struct ContainerdOptions {
    /// Which one; the installed one by default.
    pub version: Version,
    /// Lines to add to its configuration file, for a test of a particular setting; none by default.
    pub extra_config: String,
}

/// A running containerd with its own root, state, socket, plugin list and container network.
///
/// Dropping it stops it and removes everything it made.
#[derive(Debug)]
pub struct Containerd {
    home: &'static Home,
    dir: PathBuf,
    bin: PathBuf,
    version: Version,
    daemon: Option<Daemon>,
    namespaces: AtomicU32,
    network: Network,
}

/// Plugins that need what a test machine lacks, or that listen where they should not.
const DISABLED: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
    "io.containerd.cri.v1.images",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
];

/// How long a daemon may take to come up on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);
/// How long its threads may take to stand when they are told to.
const FREEZE: Duration = Duration::from_secs(10);

impl Containerd {
    /// Starts one and waits until it answers. Blocks; a fraction of a second, more when it must be fetched first.
    ///
    /// # Errors
    /// When it is not installed, cannot be fetched, or does not come up; the error carries the end of its log.
    pub fn start(options: ContainerdOptions) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new("containerd needs root: run the tests as root"));
        }
        let bin = options.version.bin_dir()?;
        let home = Home::get()?;
        let dir = home.new_dir("c")?;
        let number = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // From here on a failure leaves only what the warden removes.
        let token = mix(home.token(), &number)?;
        let network = Network::create(&token, &dir)?;
        let config = config(&dir, options.version, &options.extra_config);
        fs::write(dir.join("config.toml"), config).context("cannot write containerd's configuration")?;
        fs::create_dir(dir.join("data")).context("cannot make the data directory")?;
        let mut this = Self {
            home,
            dir,
            bin,
            version: options.version,
            daemon: None,
            namespaces: AtomicU32::new(0),
            network,
        };
        this.launch()?;
        Ok(this)
    }

    fn launch(&mut self) -> Result<()> {
        let argv = vec![
            self.bin.join("containerd").to_string_lossy().into_owned(),
            "--config".to_owned(),
            self.dir.join("config.toml").to_string_lossy().into_owned(),
        ];
        // The shim is looked for in PATH, and must be of the same version.
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", self.bin.display());
        let daemon = self.home.spawn(argv, BTreeMap::from([("PATH".to_owned(), path)]), &self.dir)?;
        let socket = self.socket();
        let daemon = self.daemon.insert(daemon);
        daemon.wait_until(START, || UnixStream::connect(&socket).is_ok())
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Its own directory; everything below goes away with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A place for the `data_root` of the library under test: cleaned, unmounted and short.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Which one it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its process id, as long as it runs.
    pub fn pid(&self) -> Option<i32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The container network that goes with it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The directory with that network's plugin list.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.network.conf_dir(&self.dir)
    }

    /// A namespace name that nothing on this host has used: runc's state is global to the host, so namespaces must
    /// be unique across daemons.
    pub fn namespace(&self) -> String {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed) + 1;
        format!("dunh{}-{number}", self.network.token)
    }

    /// A `ctr` of the same version, aimed at this daemon and `namespace`; add a subcommand and run it.
    pub fn ctr(&self, namespace: &str) -> Command {
        let mut command = Command::new(self.bin.join("ctr"));
        command.arg("--address").arg(self.socket()).arg("--namespace").arg(namespace);
        command
    }

    /// Ends the daemon as a crash would (SIGKILL); containers go on running. [`Containerd::restart`] revives it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill9(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some(daemon) => daemon.end_with(9, END),
            None => Ok(()),
        }
    }

    /// Ends the daemon (SIGTERM) unless it has ended, and starts it on the same state. Containers go on running.
    ///
    /// # Errors
    /// When it does not end or does not come up again.
    pub fn restart(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.end_with(15, END)?;
        }
        self.launch()
    }

    /// Freezes the daemon (SIGSTOP): it accepts connections and answers nothing. Returns when all its threads stand.
    ///
    /// # Errors
    /// When it cannot be signalled, or does not stand within a few seconds.
    pub fn freeze(&self) -> Result<()> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        daemon.signal(19)?;
        let deadline = Instant::now() + FREEZE;
        while !stands(daemon.pid()) {
            if Instant::now() > deadline {
                return Err(Error::new("the daemon goes on though it was told to stop"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen daemon go on.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.daemon.as_ref().map_or(Ok(()), |daemon| daemon.signal(18))
    }

    /// Stops it, its shims and containers, and removes all they made. The same happens on drop; this one tells.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn stop(mut self) -> Result<()> {
        self.daemon = None;
        self.home.remove_dir(&self.dir)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // A failure here is told by the warden when it ends; after `stop` nothing is left to do.
        if self.dir.exists() {
            let _ = self.home.remove_dir(&self.dir);
        }
    }
}

/// Eight hexadecimal digits for one daemon of a harness.
fn mix(token: &str, part: &str) -> Result<String> {
    let number: u32 = part.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let token = u32::from_str_radix(token, 16).context("a token is eight hexadecimal digits")?;
    Ok(format!("{:08x}", token ^ number))
}

fn config(dir: &Path, version: Version, extra: &str) -> String {
    let dir = dir.display();
    let format = if version == Version::V2_1 { 3 } else { 2 };
    let disabled: Vec<String> = DISABLED.iter().map(|name| format!("  \"{name}\",\n")).collect();
    format!(
        "version = {format}\n\
         root = \"{dir}/root\"\n\
         state = \"{dir}/state\"\n\
         disabled_plugins = [\n{}]\n\
         [grpc]\naddress = \"{dir}/c.sock\"\n\
         [debug]\nlevel = \"info\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n\
         {extra}\n",
        disabled.concat()
    )
}

/// Whether all threads of a process are stopped by a signal (`T` in proc_pid_stat(5), behind the name in parentheses).
fn stands(pid: i32) -> bool {
    let stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| fs::read_to_string(thread.path().join("stat")).is_ok_and(stopped));
    states.all(|stands| stands)
}

#[cfg(test)]
mod tests {
    use super::{Version, mix};

    #[test]
    fn every_daemon_of_a_harness_has_its_own_token() {
        assert_ne!(mix("0000ffff", "c1").unwrap(), mix("0000ffff", "c2").unwrap());
        assert_eq!(mix("0000ffff", "c1").unwrap().len(), 8);
    }

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in [Version::V1_6, Version::V1_7, Version::V2_1] {
            assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
        }
        assert!("2.0".parse::<Version>().is_err());
    }
}
