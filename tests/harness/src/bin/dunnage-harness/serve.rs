//! `dunnage-harness serve`: everything started, one line about it, then commands until the end.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use dunnage_harness::{
    Auth, Containerd, ContainerdOptions, Context, Error, Fault, FaultProxy, PLUGIN_DIR, Registry,
    RegistryOptions, Result, fixtures, shut_down,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::ServeOptions;
use crate::{complain, control, say};

/// The one user of the registry with a password.
const USER: &str = "porter";
const PASSWORD: &str = "stow-4-keeps";

/// All that runs.
pub(crate) struct Served {
    pub(crate) containerd: Option<Containerd>,
    pub(crate) registry: Option<Registry>,
    pub(crate) auth_registry: Option<Registry>,
    pub(crate) faults: BTreeMap<String, FaultProxy>,
}

/// Starts what is asked for and serves commands until standard input ends or a signal arrives.
pub(crate) fn serve(options: &ServeOptions) -> Result<()> {
    let served = Arc::new(Mutex::new(None));
    // Signals count from the very start: a big fixture may take its time.
    end_on_signal(Arc::clone(&served))?;
    let (started, about) = start(options)?;
    *served.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    say(&about.to_string());
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        let mut slot = served.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = slot.as_mut() else { break };
        let (answer, last) = control::answer(running, &line);
        drop(slot);
        if last {
            end(&served)?;
            say(&answer.to_string());
            return Ok(());
        }
        say(&answer.to_string());
    }
    end(&served)
}

fn start(options: &ServeOptions) -> Result<(Served, Value)> {
    let containerd = options
        .containerd
        .map(|version| Containerd::start(ContainerdOptions { version, ..Default::default() }))
        .transpose()?;
    let registry = options.registry.then(|| Registry::start(RegistryOptions::default())).transpose()?;
    let auth = Auth::Htpasswd { user: USER.to_owned(), password: PASSWORD.to_owned() };
    let auth_registry = options
        .auth_registry
        .then(|| Registry::start(RegistryOptions { auth, ..Default::default() }))
        .transpose()?;
    let mut served = Served { containerd, registry, auth_registry, faults: BTreeMap::new() };

    let mut images = BTreeMap::new();
    let mut private_images = BTreeMap::new();
    let mut digests = BTreeMap::new();
    for name in &options.images {
        let image = fixtures::image(name)?;
        digests.insert(name.clone(), image.root().digest.clone());
        if let Some(registry) = &served.registry {
            images.insert(name.clone(), registry.add(&image)?);
        }
        if let Some(registry) = &served.auth_registry {
            private_images.insert(name.clone(), registry.add(&image)?);
        }
    }
    let mut faults = BTreeMap::new();
    for (name, list) in &options.faults {
        faults.insert(name.clone(), served.add_fault(name, list.clone())?);
    }
    let mut about = json!({
        "pid": std::process::id(),
        "registry": served.registry.as_ref().map(Registry::host),
        "auth_registry": served.auth_registry.as_ref().map(|registry| json!({
            "host": registry.host(), "user": USER, "password": PASSWORD, "images": private_images,
        })),
        "faults": faults,
        "images": images,
        "digests": digests,
    });
    if let Some(containerd) = &served.containerd {
        let network = containerd.network();
        for (key, value) in [
            ("containerd", json!(containerd.version().as_str())),
            ("containerd_pid", json!(containerd.pid())),
            ("address", json!(containerd.socket())),
            ("namespace", json!(containerd.namespace())),
            ("dir", json!(containerd.dir())),
            ("data_root", json!(containerd.data_root())),
            ("cni_conf_dir", json!(containerd.cni_conf_dir())),
            ("cni_plugin_dir", json!(PLUGIN_DIR)),
            ("cni_network", json!(network.name)),
            ("bridge", json!(network.bridge)),
            ("subnet", json!(network.subnet)),
        ] {
            about[key] = value;
        }
    }
    Ok((served, about))
}

impl Served {
    /// Puts a proxy with these faults before the open registry, or changes the one of that name; returns its host.
    pub(crate) fn add_fault(&mut self, name: &str, faults: Vec<Fault>) -> Result<String> {
        if let Some(proxy) = self.faults.get(name) {
            proxy.set_faults(faults);
            return Ok(proxy.host());
        }
        let registry =
            self.registry.as_ref().ok_or_else(|| Error::new("faults need a registry: add --registry"))?;
        let proxy = FaultProxy::start(registry.address(), faults)?;
        let host = proxy.host();
        self.faults.insert(name.to_owned(), proxy);
        Ok(host)
    }
}

/// Takes everything down and waits until it is gone.
fn end(served: &Mutex<Option<Served>>) -> Result<()> {
    let taken = served.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(taken);
    shut_down()
}

fn end_on_signal(served: Arc<Mutex<Option<Served>>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen for signals")?;
    let (mut interrupt, mut terminate, mut hangup) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ))
        })
        .context("cannot listen for signals")?;
    std::thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143, _ = hangup.recv() => 129 }
        });
        if let Err(error) = end(&served) {
            complain(&error.to_string());
        }
        // The main thread is blocked in a read that nothing else can end.
        #[expect(clippy::disallowed_methods, reason = "this is a program, not a host's library")]
        std::process::exit(code);
    });
    Ok(())
}
