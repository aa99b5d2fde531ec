//! A docker-registry of our own, on a loopback port.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::fixtures::{Image, Variant};
use crate::home::{Daemon, Home};
use crate::seed;
use crate::tls::Tls;

/// Who may use a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    #[default]
    None,
    /// One user, by HTTP basic authentication.
    Htpasswd {
        /// The user's name, without a colon.
        user: String,
        /// The password.
        password: String,
    },
}

/// How a registry is started.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Who may use it; everybody by default.
    pub auth: Auth,
    /// How it speaks TLS; it speaks plain HTTP by default.
    pub tls: Option<Tls>,
}

/// A running registry with its own storage. Dropping it stops it and removes its storage.
#[derive(Debug)]
pub struct Registry {
    home: &'static Home,
    dir: PathBuf,
    address: SocketAddr,
    auth: Auth,
    daemon: Daemon,
}

/// How often another port is tried when somebody was faster.
const PORTS: usize = 10;

impl Registry {
    /// Starts one on a free port of 127.0.0.1 and waits until it answers. Blocks for a fraction of a second.
    ///
    /// # Errors
    /// When docker-registry is not installed or does not come up; the error carries the end of its log.
    pub fn start(options: RegistryOptions) -> Result<Self> {
        let home = Home::get()?;
        let mut last = Error::new("no port was tried");
        for _ in 0..PORTS {
            let dir = home.new_dir("r")?;
            match launch(home, &dir, &options) {
                Ok((address, daemon)) => return Ok(Self { home, dir, address, auth: options.auth, daemon }),
                Err(error) => last = error,
            }
            home.remove_dir(&dir)?;
        }
        Err(last)
    }

    /// `127.0.0.1:<port>`, as it stands in image references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who may use it.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.daemon.pid()
    }

    /// Puts an image into it and returns the reference `127.0.0.1:<port>/fixtures/<name>:<tag>`.
    ///
    /// The blobs are linked into the registry's storage rather than sent: an image of any size is there at once,
    /// and broken images, which a registry refuses to take, can be served too.
    ///
    /// # Errors
    /// When the image's files cannot be read or the storage cannot be written.
    pub fn add(&self, image: &Image) -> Result<String> {
        self.add_as(image, &format!("fixtures/{}", image.name()), "latest")
    }

    /// Puts an image into it under another name.
    ///
    /// # Errors
    /// As [`Registry::add`].
    pub fn add_as(&self, image: &Image, repository: &str, tag: &str) -> Result<String> {
        seed::add(&self.storage(), image, &Variant::default(), repository, tag)?;
        Ok(format!("{}/{repository}:{tag}", self.address))
    }

    /// Puts a copy of an image into it that differs from all others by one small layer with the file `/marker`.
    ///
    /// The copy shares all other layers, so only its top layer, its configuration and its manifest are new.
    ///
    /// # Errors
    /// As [`Registry::add`].
    pub fn add_marked(&self, image: &Image, repository: &str, tag: &str, marker: &str) -> Result<String> {
        seed::add(&self.storage(), image, &Variant::marked(marker), repository, tag)?;
        Ok(format!("{}/{repository}:{tag}", self.address))
    }

    fn storage(&self) -> PathBuf {
        self.dir.join("storage/docker/registry/v2")
    }

    /// Stops it and removes its storage. The same happens on drop; this one tells.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn stop(self) -> Result<()> {
        self.home.remove_dir(&self.dir)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // A failure here is told by the warden when it ends; after `stop` nothing is left to do.
        if self.dir.exists() {
            let _ = self.home.remove_dir(&self.dir);
        }
    }
}

fn launch(home: &'static Home, dir: &Path, options: &RegistryOptions) -> Result<(SocketAddr, Daemon)> {
    // The registry cannot say which port it took, so one is picked, freed and hoped for.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).context("no port is free")?;
    let config = dir.join("config.yml");
    fs::write(&config, configuration(dir, address, options)?)
        .context("cannot write the registry's configuration")?;
    let argv = ["docker-registry".to_owned(), "serve".to_owned(), config.to_string_lossy().into_owned()];
    // Without this a Go program asks the system's collector for traces.
    let env = BTreeMap::from([("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())]);
    let daemon = home.spawn(argv.to_vec(), env, dir)?;
    daemon.wait_until(Duration::from_secs(30), || TcpStream::connect(address).is_ok())?;
    // Somebody else may have answered while ours found the port taken.
    std::thread::sleep(Duration::from_millis(20));
    if !daemon.is_running()? {
        return Err(Error::new("the port was taken by somebody else"));
    }
    Ok((address, daemon))
}

fn configuration(dir: &Path, address: SocketAddr, options: &RegistryOptions) -> Result<String> {
    let storage = dir.join("storage");
    let mut text = format!(
        "version: 0.1\n\
         log:\n  level: warn\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         http:\n  addr: {address}\n",
        storage.display()
    );
    if let Some(tls) = &options.tls {
        // Still in the section `http`.
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        fs::write(&certificate, &tls.identity.certificate).context("cannot write a certificate")?;
        fs::write(&key, &tls.identity.key).context("cannot write a key")?;
        text.push_str(&format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        ));
        if let Some(authority) = &tls.client_authority {
            let file = dir.join("clients.crt");
            fs::write(&file, authority).context("cannot write a certificate")?;
            text.push_str(&format!("    clientcas:\n      - {}\n", file.display()));
        }
    }
    if let Auth::Htpasswd { user, password } = &options.auth {
        let file = dir.join("htpasswd");
        let output = Command::new("htpasswd")
            .args(["-B", "-b", "-n", user, password])
            .output()
            .context("cannot run htpasswd: run scripts/setup")?;
        if !output.status.success() {
            return Err(Error::new(format!("htpasswd: {}", String::from_utf8_lossy(&output.stderr))));
        }
        fs::write(&file, output.stdout).context("cannot write the password file")?;
        text.push_str(&format!("auth:\n  htpasswd:\n    realm: dunnage\n    path: {}\n", file.display()));
    }
    Ok(text)
}
