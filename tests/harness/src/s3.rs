//! An S3 server of our own, on a loopback port: versitygw, with a directory for each bucket.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::home::{Daemon, Home};
use crate::paths;
use crate::tls::Identity;

/// The version of the Go module `github.com/versity/versitygw`. `scripts/setup` reads it here and builds it.
const VERSION: &str = "v1.8.0";

/// How a server is started.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Buckets that are there from the start.
    pub buckets: Vec<String>,
    /// Who may use it.
    pub access_key_id: String,
    /// What proves it.
    pub secret_access_key: String,
    /// The region it says to be in.
    pub region: String,
    /// What it shows to speak TLS; it speaks plain HTTP by default.
    pub tls: Option<Identity>,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            buckets: vec!["bucket".to_owned()],
            access_key_id: "dunnage".to_owned(),
            secret_access_key: "dunnage-secret".to_owned(),
            region: "us-east-1".to_owned(),
            tls: None,
        }
    }
}

/// A running server with its own storage. Dropping it stops it and removes its storage.
#[derive(Debug)]
pub struct S3 {
    home: &'static Home,
    dir: PathBuf,
    address: SocketAddr,
    options: S3Options,
    daemon: Daemon,
}

/// How often another port is tried when somebody was faster.
const PORTS: usize = 10;

impl S3 {
    /// Starts one on a free port of 127.0.0.1 and waits until it answers. Blocks for a fraction of a second.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error carries the end of its log.
    pub fn start(options: S3Options) -> Result<Self> {
        let home = Home::get()?;
        let mut last = Error::new("no port was tried");
        for _ in 0..PORTS {
            let dir = home.new_dir("s")?;
            match launch(home, &dir, &options) {
                Ok((address, daemon)) => return Ok(Self { home, dir, address, options, daemon }),
                Err(error) => last = error,
            }
            home.remove_dir(&dir)?;
        }
        Err(last)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`, or with `https`, as clients want it.
    pub fn endpoint(&self) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How it was started.
    pub fn options(&self) -> &S3Options {
        &self.options
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.daemon.pid()
    }

    /// The file in which it keeps an object. It is there when the object is visible.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.dir.join("storage").join(bucket).join(key)
    }

    /// Stops it and removes its storage. The same happens on drop; this one tells.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn stop(self) -> Result<()> {
        self.home.remove_dir(&self.dir)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // A failure here is told by the warden when it ends; after `stop` nothing is left to do.
        if self.dir.exists() {
            let _ = self.home.remove_dir(&self.dir);
        }
    }
}

fn launch(home: &'static Home, dir: &Path, options: &S3Options) -> Result<(SocketAddr, Daemon)> {
    let program = paths::target_dir().join("s3").join(VERSION).join("versitygw");
    if !program.is_file() {
        return Err(Error::new(format!("{} is missing: run scripts/setup", program.display())));
    }
    // It cannot say which port it took, so one is picked, freed and hoped for.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).context("no port is free")?;
    let storage = dir.join("storage");
    fs::create_dir(&storage).context("cannot make the server's storage")?;
    for bucket in &options.buckets {
        fs::create_dir(storage.join(bucket)).context("cannot make a bucket")?;
    }
    let mut argv = vec![
        program.to_string_lossy().into_owned(),
        "--quiet".to_owned(),
        "--keep-alive".to_owned(),
        "--port".to_owned(),
        address.to_string(),
        "--region".to_owned(),
        options.region.clone(),
    ];
    if let Some(identity) = &options.tls {
        for (name, content) in [("cert", &identity.certificate), ("key", &identity.key)] {
            let file = dir.join(name);
            fs::write(&file, content).context("cannot write a certificate or a key")?;
            argv.extend([format!("--{name}"), file.to_string_lossy().into_owned()]);
        }
    }
    argv.extend(["posix".to_owned(), storage.to_string_lossy().into_owned()]);
    // Not among the arguments, which everybody sees.
    let env = BTreeMap::from([
        ("ROOT_ACCESS_KEY".to_owned(), options.access_key_id.clone()),
        ("ROOT_SECRET_KEY".to_owned(), options.secret_access_key.clone()),
    ]);
    let daemon = home.spawn(argv, env, dir)?;
    daemon.wait_until(Duration::from_secs(30), || TcpStream::connect(address).is_ok())?;
    // Somebody else may have answered while ours found the port taken.
    std::thread::sleep(Duration::from_millis(20));
    if !daemon.is_running()? {
        return Err(Error::new("the port was taken by somebody else"));
    }
    Ok((address, daemon))
}
