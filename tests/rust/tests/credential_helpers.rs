//! Docker's credential helpers: programs of the host that are asked for passwords.
//!
//! Helpers are found on the PATH, which belongs to the process: each test runs its body in one of its own, and looks
//! through all that this one prints and logs for the secrets that were in its hands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::log::Everything;
use common::{Rig, context, fails, pull, until};
use dunnage::types::PullOptions;
use dunnage::{Engine, ErrorKind};
use dunnage_harness::{Auth, Registry, RegistryOptions, fixtures};
use serde_json::{Value, json};

/// What the helpers keep.
const SECRET: &str = "stow 4 keeps";

/// How it could be seen: as it is, as basic authentication, and in a form or a URL.
const SHAPES: [&str; 4] = [SECRET, "cG9ydGVyOnN0b3cgNCBrZWVwcw==", "stow+4+keeps", "stow%204%20keeps"];

/// Set in the process of its own: the directory of the helpers.
const APART: &str = "DUNNAGE_TEST_HELPERS";

/// All helpers, each by what it does. `$here` is the directory that it lies in.
const HELPERS: &[(&str, &str)] = &[
    (
        "good",
        r#"[ "$*" = get ] && cat > "$here/asked" && echo '{"ServerURL":"","Username":"porter","Secret":"stow 4 keeps"}'"#,
    ),
    ("token", r#"echo '{"Username":"<token>","Secret":"stow 4 keeps"}'"#),
    ("stale", r#"echo '{"Username":"<token>","Secret":"stow 4 keeps no more"}'"#),
    ("wrong", r#"echo '{"Username":"porter","Secret":"stow 4 keeps no more"}'"#),
    ("none", "echo credentials not found in native keychain; exit 1"),
    ("empty", r#"echo '{"Username":"","Secret":""}'"#),
    ("fails", "echo stow 4 keeps; echo stow 4 keeps >&2; exit 1"),
    ("rubbish", "echo stow 4 keeps"),
    ("cut", r#"printf '{"Username":"porter","Secret":"stow 4 keeps'"#),
    ("endless", "exec yes stow 4 keeps"),
    ("hangs", r#"echo $$ > "$here/part" && mv "$here/part" "$here/hangs" && exec sleep 600"#),
];

/// Runs `body` as the test `name` in a process that finds [`HELPERS`], and checks that no secret came out of it.
fn apart(name: &str, body: impl AsyncFnOnce(&Path)) {
    if let Some(dir) = std::env::var_os(APART) {
        Everything::install();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(body(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    for (helper, commands) in HELPERS {
        let file = dir.path().join(format!("docker-credential-{helper}"));
        std::fs::write(&file, format!("#!/bin/sh\nhere=${{0%/*}}\n{commands}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::write(dir.path().join("docker-credential-locked"), "no program\n").unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([dir.path().to_owned()].into_iter().chain(std::env::split_paths(&path)));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("PATH", path.unwrap())
        .env(APART, dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Most of it is of no interest to people.
    let short: Vec<&str> = said.lines().filter(|line| !line.starts_with("log TRACE")).collect();
    assert!(output.status.success() && said.contains("1 passed"), "{}", short.join("\n"));
    // A log that is empty would hold no secret either.
    assert!(said.contains("a registry host failed"), "{}", short.join("\n"));
    for line in said.lines() {
        assert!(!SHAPES.iter().any(|shape| line.contains(shape)), "a secret in: {line}");
    }
}

/// A daemon, and a registry that lets one user in.
struct Guarded {
    rig: Rig,
    registry: Registry,
    image: String,
}

impl Guarded {
    fn start() -> Self {
        let rig = Rig::start();
        let auth = Auth::Htpasswd { user: "porter".to_owned(), password: SECRET.to_owned() };
        let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).unwrap();
        let image = registry.add(&fixtures::image("busybox").unwrap()).unwrap();
        Self { rig, registry, image }
    }

    fn host(&self) -> String {
        self.registry.host()
    }

    /// An engine that reads this as Docker's configuration.
    async fn engine(&self, docker: &Value) -> Engine {
        let mut config = self.rig.config();
        config.registry.stall_ms = 10_000;
        config.registry.retries = 1;
        let file = self.rig.containerd.dir().join(format!("docker-{}.json", uuid::Uuid::now_v7()));
        std::fs::write(&file, docker.to_string()).unwrap();
        config.registry.docker_config = Some(file);
        Engine::open(config).await.unwrap()
    }

    /// Pulls with this as Docker's configuration; it must work.
    async fn works(&self, docker: &Value, image: &str) {
        let engine = self.engine(docker).await;
        pull(&engine, image).await.0.unwrap_or_else(|error| panic!("{docker}: {error}"));
        self.rig.forget(&engine, image).await;
        engine.close().await;
    }

    /// Pulls with this as Docker's configuration; it must fail this way and leave nothing.
    async fn refused(&self, docker: &Value, image: &str, kind: ErrorKind, words: &[&str]) {
        let engine = self.engine(docker).await;
        let (result, events) = pull(&engine, image).await;
        let error = fails(result, kind, words);
        assert_eq!(context(&error, "image"), image, "{docker}: {error}");
        let all = format!("{error} {error:?} {} {events:?}", error.to_json());
        for shape in SHAPES {
            assert!(!all.contains(shape), "{docker}: {all}");
        }
        self.rig.nothing_kept();
        engine.close().await;
    }
}

/// The process that wrote its id there, once it has.
async fn begun(file: PathBuf) -> PathBuf {
    until("the helper runs", async || file.exists()).await;
    Path::new("/proc").join(std::fs::read_to_string(file).unwrap().trim())
}

/// Waits until a process is neither alive nor waiting to be reaped.
async fn gone(process: PathBuf) {
    until("the helper is killed", async || !process.exists()).await;
}

#[test]
fn a_helper_is_asked_as_docker_asks_it() {
    apart("a_helper_is_asked_as_docker_asks_it", async |dir| {
        let world = Guarded::start();
        let (host, image) = (world.host(), &world.image);
        for docker in [
            json!({ "credHelpers": { &host: "good" } }),
            json!({ "credsStore": "good" }),
            // One that is for this registry goes before the one for all, and both before what lies open.
            json!({ "credHelpers": { &host: "good", "a.example": "fails" }, "credsStore": "fails",
                    "auths": { &host: { "auth": "cG9ydGVyOndyb25n" } } }),
            json!({ "credHelpers": { format!("https://{host}/v1/"): "good" } }),
        ] {
            world.works(&docker, image).await;
            let asked = dir.join("asked");
            assert_eq!(std::fs::read_to_string(&asked).unwrap(), host, "{docker}");
            std::fs::remove_file(asked).unwrap();
        }
        // A helper that has nothing leaves it to what lies open.
        for helper in ["none", "empty"] {
            let auths = json!({ &host: { "username": "porter", "password": SECRET } });
            world.works(&json!({ "credsStore": helper, "auths": auths }), image).await;
            let alone = json!({ "credsStore": helper });
            world.refused(&alone, image, ErrorKind::Unauthenticated, &["configure credentials"]).await;
        }
        // Nobody is asked for what a registry does not want to know.
        let open = world.rig.add("busybox");
        world.works(&json!({ "credsStore": "fails" }), &open).await;
    });
}

#[test]
fn a_helper_that_fails_is_named_and_its_words_are_kept() {
    apart("a_helper_that_fails_is_named_and_its_words_are_kept", async |dir| {
        let world = Guarded::start();
        let (host, image) = (world.host(), &world.image);
        // This one takes as long as a helper may: the others come and go meanwhile.
        let slow = world.engine(&json!({ "credsStore": "hangs" })).await;
        let hanging = slow.image().pull(PullOptions::default().image(image));
        let process = begun(dir.join("hangs")).await;
        let failed = ErrorKind::FailedPrecondition;
        for (helper, kind, words) in [
            ("fails", failed, "credential helper failed"),
            ("rubbish", failed, "answer is malformed"),
            ("cut", failed, "answer is malformed"),
            ("endless", failed, "answer is malformed"),
            ("absent", failed, "cannot run the credential helper"),
            ("locked", failed, "cannot run the credential helper"),
        ] {
            let name = format!("docker-credential-{helper}");
            for docker in
                [json!({ "credHelpers": { &host: helper } }), json!({ "credsStore": helper, "auths": {} })]
            {
                world.refused(&docker, image, kind, &[words, &name, &host]).await;
            }
        }
        let docker = json!({ "credsStore": "wrong" });
        world.refused(&docker, image, ErrorKind::Unauthenticated, &["refuses the credentials", &host]).await;
        let docker = json!({ "credsStore": "../good" });
        world.refused(&docker, image, ErrorKind::InvalidArgument, &["malformed", "../good"]).await;

        let words = ["gave no answer", "docker-credential-hangs", host.as_str()];
        let error = fails(hanging.await, ErrorKind::Timeout, &words);
        assert_eq!(context(&error, "image"), *image, "{error}");
        gone(process).await;
        world.rig.nothing_kept();
        slow.close().await;
    });
}

#[test]
fn a_cancel_does_not_wait_for_a_helper() {
    apart("a_cancel_does_not_wait_for_a_helper", async |dir| {
        let world = Guarded::start();
        let engine = world.engine(&json!({ "credsStore": "hangs" })).await;
        let pull = engine.image().pull(PullOptions::default().image(&world.image));
        let process = begun(dir.join("hangs")).await;
        pull.cancel();
        let error = fails(pull.await, ErrorKind::Cancelled, &[]);
        assert_eq!(context(&error, "image"), world.image, "{error}");
        gone(process).await;
        world.rig.nothing_kept();
        engine.close().await;
        let docker = json!({ "credsStore": "fails" });
        world
            .refused(&docker, &world.image, ErrorKind::FailedPrecondition, &["docker-credential-fails"])
            .await;
    });
}

#[test]
fn an_identity_token_is_exchanged() {
    apart("an_identity_token_is_exchanged", async |_| {
        let world = Guarded::start();
        let proxy = world.rig.proxy(&format!("bearer:porter:{SECRET}+redirect"));
        let image = proxy.through(&world.rig.add("busybox"));
        let host = proxy.host();
        for docker in [
            json!({ "credHelpers": { &host: "token" } }),
            json!({ "credsStore": "token" }),
            json!({ "auths": { &host: { "identitytoken": SECRET } } }),
            // The same service takes a user's name and password.
            json!({ "credsStore": "good" }),
        ] {
            proxy.reset_counts();
            world.works(&docker, &image).await;
            let counts = proxy.counts();
            assert!(counts.tokens == 1 && counts.redirected > 0, "{docker}: {counts:?}");
            assert_eq!(counts.leaked_credentials, 0, "{docker}: {counts:?}");
        }
        let docker = json!({ "credsStore": "stale" });
        world.refused(&docker, &image, ErrorKind::Unauthenticated, &["refuses the credentials", &host]).await;
        // A registry without a token service cannot take one.
        let docker = json!({ "credsStore": "token" });
        let words = ["user name and a password", "only a token"];
        world.refused(&docker, &world.image, ErrorKind::Unauthenticated, &words).await;
    });
}
