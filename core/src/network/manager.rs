//! Connecting and disconnecting one container at a time.

use super::cni::{Chain, INTERFACE};
use super::conflist::PluginList;
use super::guest::{self, GuestFiles};
use super::lock::{FirstOfHost, Lock};
use super::netns;
use super::plugin::Failure;
use super::ports;
use super::record::{Kept, Record};
use crate::config::{NetworkConfig, TimeLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_identifier;
use crate::types::{NetworkInfo, PortMapping};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a run of the plugins that failed for a passing reason is repeated.
const ATTEMPTS: u32 = 6;
/// The pause before the first repetition; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Connects containers to the network. Clones share everything.
///
/// The caller holds the lock of the container's workspace: two calls for one container never run at a time. Calls for
/// different containers may.
#[derive(Debug, Clone)]
pub(crate) struct NetworkManager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
    data_root: PathBuf,
    /// What tells this data root's containers from those of the same name of others, in the plugins' own records.
    suffix: String,
    limit: Duration,
}

impl NetworkManager {
    /// A manager of the containers under `data_root`. Touches nothing.
    pub(crate) fn new(config: &NetworkConfig, data_root: &Path, limits: &TimeLimits) -> Self {
        let digest = Sha256::digest(data_root.as_os_str().as_encoded_bytes());
        let suffix: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self(Arc::new(Inner {
            config: config.clone(),
            data_root: data_root.to_owned(),
            suffix,
            limit: Duration::from_millis(limits.network_ms),
        }))
    }

    /// Checks, before anything is touched, that a container with these ports can be connected.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed port or one that is published twice; FAILED_PRECONDITION when the configuration is malformed
    /// or plugins are missing: it names them and the directories searched.
    pub(crate) fn check(&self, ports: &[PortMapping]) -> Result<()> {
        ports::check(ports)?;
        PluginList::choose(&self.0.config)?.check(&self.0.config.plugin_dirs, ports)
    }

    /// The pinned network namespace of a container, made when there is none, with its loopback interface up.
    ///
    /// It outlives tasks and this process; a reboot takes it, and the next call makes a new one.
    ///
    /// # Errors
    /// PERMISSION_DENIED without the rights of root; I/O errors with the path.
    ///
    /// # Cancel safety
    /// The namespace is made or not; a later call finds it.
    pub(crate) async fn namespace(&self, container: &str) -> Result<PathBuf> {
        let path = self.pin_path(container)?;
        netns::pin(&path).await?;
        Ok(path)
    }

    /// Connects a container, or returns its connection when it has one.
    ///
    /// A connection that lost its interface, was made half, or publishes other ports is taken down first.
    ///
    /// # Errors
    /// As [`NetworkManager::check`]; FAILED_PRECONDITION when another container publishes one of the ports; RESOURCE_EXHAUSTED without a free address; TIMEOUT;
    /// else UNAVAILABLE with the plugin's own words. Nothing of a failed attempt is left.
    ///
    /// # Cancel safety
    /// Dropping the future kills the running plugin; what was made is taken down by the next attach or detach.
    pub(crate) async fn attach(
        &self,
        container: &str,
        netns: &Path,
        ports: &[PortMapping],
    ) -> Result<NetworkInfo> {
        self.attach_inner(container, netns, ports).await.map_err(|e| e.with("container", container))
    }

    async fn attach_inner(
        &self,
        container: &str,
        netns: &Path,
        ports: &[PortMapping],
    ) -> Result<NetworkInfo> {
        let path = self.record_path(container)?;
        ports::check(ports)?;
        let kept = Record::load(&path)?;
        if let Kept::Record(record) = &kept
            && record.ports == ports
            && let Some(info) = record.info()
            && alive(record, netns).await?
        {
            return Ok(info);
        }
        let list = PluginList::choose(&self.0.config)?;
        list.check(&self.0.config.plugin_dirs, ports)?;
        let deadline = Instant::now() + self.0.limit;
        // Held until the intent, which tells others of the ports, is written.
        let claim = match ports {
            [] => None,
            _ => Some(Lock::wait(&self.0.data_root.join("locks").join("network"), deadline).await?),
        };
        self.refuse_taken_ports(container, ports)?;
        self.clear(&kept, container, netns).await?;
        let mut record = Record {
            container: container.to_owned(),
            cni_id: self.cni_id(container),
            list,
            ports: ports.to_vec(),
            result: None,
            partial: None,
        };
        record.save(&path)?;
        drop(claim);
        let kind = kind_of(&record);
        let mut attempt = 0;
        loop {
            let turn = match FirstOfHost::wait(&kind, deadline).await {
                Ok(turn) => turn,
                Err(error) => {
                    Record::remove(&path)?;
                    return Err(error);
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match self.add(&mut record, &path, netns, left).await {
                Ok(result) => {
                    turn.connected();
                    record.result = Some(result);
                    break;
                }
                Err(failure) => failure,
            };
            // Whatever part of it was made is taken down, whether it is tried again or not. If that fails too, the
            // intent stays and the next attach or detach does it.
            if let Err(left_over) = self.take_down(&record, netns).await {
                return Err(failure.error.with("cleanup", left_over.message_with_cause()));
            }
            record.partial = None;
            attempt += 1;
            let pause = pause(attempt);
            if !failure.transient || attempt >= ATTEMPTS || Instant::now() + pause >= deadline {
                Record::remove(&path)?;
                return Err(failure.error.with("attempts", attempt));
            }
            tokio::time::sleep(pause).await;
        }
        if let Err(error) = record.save(&path) {
            // Without a record nobody would ever take it down.
            self.take_down(&record, netns).await?;
            Record::remove(&path)?;
            return Err(error);
        }
        record.info().ok_or_else(|| Error::unexpected("the network record lost its result"))
    }

    /// How a container is connected; none when it is not.
    pub(crate) fn info(&self, container: &str) -> Option<NetworkInfo> {
        match Record::load(&self.record_path(container).ok()?) {
            Ok(Kept::Record(record)) => record.info(),
            _ => None,
        }
    }

    /// The addresses, with prefix lengths, that a process has on the interface that plugins make, whoever ran them. None
    /// when there is no such interface, or no such process any more.
    ///
    /// # Errors
    /// PERMISSION_DENIED without the rights of root; other I/O errors with the path.
    pub(crate) async fn addresses_of(&self, pid: u32) -> Result<Vec<(IpAddr, u8)>> {
        match netns::interface(Path::new(&format!("/proc/{pid}/ns/net")), INTERFACE).await {
            Ok(interface) => Ok(interface.addresses),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Disconnects a container and removes its namespace. Does nothing for one that has neither.
    ///
    /// # Errors
    /// As [`NetworkManager::attach`]; what could not be taken down stays recorded, and a later call tries again.
    ///
    /// # Cancel safety
    /// What is left of it is done by the next call.
    pub(crate) async fn detach(&self, container: &str) -> Result<()> {
        self.detach_inner(container).await.map_err(|e| e.with("container", container))
    }

    async fn detach_inner(&self, container: &str) -> Result<()> {
        let path = self.record_path(container)?;
        let pin = self.pin_path(container)?;
        let kept = Record::load(&path)?;
        if kept != Kept::Nothing {
            // Plugins clean up only what they can see a namespace for: a lost one is replaced by an empty one.
            netns::pin(&pin).await?;
            self.clear(&kept, container, &pin).await?;
        }
        netns::unpin(&pin).await?;
        Record::remove(&path)
    }

    /// Makes a connection whole again: plugins that can tell are asked, and when one finds a fault the container's
    /// own interface, address and ports are taken down and made anew. Nothing of other containers is touched.
    ///
    /// # Errors
    /// As [`NetworkManager::attach`].
    pub(crate) async fn repair(
        &self,
        container: &str,
        netns: &Path,
        ports: &[PortMapping],
    ) -> Result<NetworkInfo> {
        let path = self.record_path(container)?;
        if let Kept::Record(record) = Record::load(&path)?
            && let Some(result) = &record.result
            && alive(&record, netns).await?
        {
            match self.chain(&record, netns).check(result, self.0.limit).await {
                Ok(()) => {}
                Err(failure) if failure.transient || failure.error.kind() == ErrorKind::Timeout => {
                    return Err(failure.error.with("container", container));
                }
                Err(failure) => {
                    tracing::info!(container, fault = %failure.error, "the network is made anew");
                    let kept = Kept::Record(record);
                    self.clear(&kept, container, netns).await.map_err(|e| e.with("container", container))?;
                    Record::remove(&path)?;
                }
            }
        }
        self.attach(container, netns, ports).await
    }

    /// Writes `resolv.conf`, `hosts` and `hostname` for a container into `dir`, each with mode 0644 and in one step.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a host name with spaces or control characters; I/O errors with the path.
    pub(crate) fn write_guest_files(
        &self,
        dir: &Path,
        hostname: &str,
        info: Option<&NetworkInfo>,
    ) -> Result<GuestFiles> {
        guest::write(dir, hostname, info, &self.0.config.nameservers, &guest::SOURCES)
    }

    /// Runs ADD once and keeps what each plugin answers in the record.
    async fn add(
        &self,
        record: &mut Record,
        path: &Path,
        netns: &Path,
        limit: Duration,
    ) -> Result<Value, Failure> {
        let mut kept = record.clone();
        let last = record.list.plugins.len();
        let mut answers = 0;
        let done = self
            .chain(record, netns)
            .add(limit, |answer| {
                kept.partial = Some(answer.clone());
                answers += 1;
                // The last answer is written as the result.
                if answers < last { kept.save(path) } else { Ok(()) }
            })
            .await;
        record.partial = kept.partial;
        done
    }

    /// Takes down what a file tells of, in the namespace at `netns`, which exists.
    async fn clear(&self, kept: &Kept, container: &str, netns: &Path) -> Result<()> {
        match kept {
            Kept::Nothing => Ok(()),
            Kept::Record(record) => self.take_down(record, netns).await,
            // Only the names are known; with what the interface tells they are enough.
            Kept::Unreadable => {
                let record = Record {
                    container: container.to_owned(),
                    cni_id: self.cni_id(container),
                    list: PluginList::choose(&self.0.config)?,
                    ports: Vec::new(),
                    result: None,
                    partial: None,
                };
                self.take_down(&record, netns).await
            }
        }
    }

    /// Runs DEL until every plugin is content. DEL of what is not there does nothing, so it may be run again after any
    /// fault that may pass.
    async fn take_down(&self, record: &Record, netns: &Path) -> Result<()> {
        let mut addresses = record.addresses();
        if addresses.is_empty() {
            addresses = netns::interface(netns, INTERFACE).await?.addresses;
        }
        let mut attempt = 0;
        loop {
            // A plugin that failed half-way has deleted the interface, and with it what the next run goes by.
            if !addresses.is_empty()
                && let Err(error) = netns::stand_in(netns, INTERFACE, addresses.clone()).await
            {
                tracing::warn!(container = record.container, %error, "rules of a lost interface may stay");
            }
            let done = self.chain(record, netns).del(record.newest(), self.0.limit).await;
            let Err(Failure { error, transient }) = done else {
                return Ok(());
            };
            attempt += 1;
            // The bridge plugin was broken off before it made its chain, and does not expect that. All else of it is
            // down by then, and without the interface it looks for no chain.
            let no_chain = error.kind() == ErrorKind::Unavailable && says_no_chain(error.message());
            if no_chain {
                addresses.clear();
            }
            if !(transient || no_chain) || attempt >= ATTEMPTS {
                return Err(error.with("attempts", attempt));
            }
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    fn chain<'a>(&'a self, record: &'a Record, netns: &'a Path) -> Chain<'a> {
        Chain {
            list: &record.list,
            dirs: &self.0.config.plugin_dirs,
            id: &record.cni_id,
            netns,
            ports: &record.ports,
        }
    }

    /// Two containers that publish one port would both be reported to have it, and only one of them would.
    fn refuse_taken_ports(&self, container: &str, ports: &[PortMapping]) -> Result<()> {
        let dir = self.0.data_root.join("network");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) if !ports.is_empty() => entries,
            _ => return Ok(()),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::io(e, "cannot list the network records"))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let Kept::Record(record) = Record::load(&path)? else {
                continue;
            };
            if record.container == container {
                continue;
            }
            let taken = ports.iter().find(|port| record.ports.iter().any(|other| ports::clash(port, other)));
            if let Some(port) = taken {
                return Err(Error::failed_precondition(
                    "the host port is published by another container: choose another port or disconnect that one",
                )
                .with("port", ports::shown(port))
                .with("other_container", record.container));
            }
        }
        Ok(())
    }

    fn cni_id(&self, container: &str) -> String {
        format!("{container}-{}", self.0.suffix)
    }

    fn pin_path(&self, container: &str) -> Result<PathBuf> {
        check_identifier("container", container)?;
        Ok(self.0.data_root.join("netns").join(container))
    }

    fn record_path(&self, container: &str) -> Result<PathBuf> {
        check_identifier("container", container)?;
        Ok(self.0.data_root.join("network").join(format!("{container}.json")))
    }
}

/// What a connection shares with others of the host: what its plugins make once for all.
fn kind_of(record: &Record) -> String {
    let mut digest = Sha256::new();
    for plugin in &record.list.plugins {
        digest.update(Value::Object(plugin.clone()).to_string());
    }
    digest.update([u8::from(record.ports.is_empty())]);
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether iptables, of either kind, found no chain to delete from.
fn says_no_chain(message: &str) -> bool {
    let deletes = message.contains(" -D ") && message.contains("tables");
    // nf_tables and legacy word it differently.
    let missing = message.contains("' does not exist") || message.contains("Couldn't load target");
    deletes && missing
}

/// The pause before the attempt after this one.
fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE * 2u32.pow(attempt.saturating_sub(1).min(10))
}

/// Whether the namespace has the recorded interface, up and with its addresses.
async fn alive(record: &Record, netns: &Path) -> Result<bool> {
    let found = netns::interface(netns, INTERFACE).await?;
    Ok(found.up && record.addresses().iter().all(|address| found.addresses.contains(address)))
}
