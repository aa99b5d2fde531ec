//! Registries behind TLS: which certificates are trusted, and which are shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::{Rig, context, fails, pull};
use dunnage::types::ImageName;
use dunnage::{Config, Engine, Error, ErrorKind};
use dunnage_harness::{Authority, Identity, Registry, RegistryOptions, Tls, fixtures};

/// A daemon, and registries behind TLS beside its plain one.
struct Secured {
    rig: Rig,
    authority: Authority,
}

impl Secured {
    fn start() -> Self {
        Self { rig: Rig::start(), authority: Authority::new("the registry's authority").unwrap() }
    }

    /// A registry whose certificate bears these names, for clients of `client_authority` alone when there is one.
    fn registry(&self, names: &[&str], client_authority: Option<&Authority>) -> Registry {
        let tls = Tls {
            identity: self.authority.server(names).unwrap(),
            client_authority: client_authority.map(Authority::certificate),
        };
        Registry::start(RegistryOptions { tls: Some(tls), ..Default::default() }).unwrap()
    }

    /// The folder of a registry's `hosts.toml`.
    fn folder(&self, host: &str) -> PathBuf {
        let folder = self.rig.hosts_dir().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Writes a registry's `hosts.toml`: it speaks TLS, and `settings` say how.
    fn hosts(&self, host: &str, settings: &str) {
        let text = format!("server = \"https://{host}\"\n{settings}\n");
        std::fs::write(self.folder(host).join("hosts.toml"), text).unwrap();
    }

    fn config(&self) -> Config {
        let mut config = self.rig.config();
        config.registry.stall_ms = 10_000;
        config.registry.retries = 3;
        config
    }

    /// Resolves and pulls, and removes the image again. A new engine each time: one keeps its connections.
    async fn ask(&self, image: &str) -> Result<(), Error> {
        let engine = Engine::open(self.config()).await.unwrap();
        let digest = engine.image().resolve_digest(ImageName::default().image(image)).await;
        let pulled = pull(&engine, image).await.0;
        let here = engine.image().get(ImageName::default().image(image)).await;
        // Both ways of asking come to the same.
        let resolved = digest.map(|resolved| resolved.digest).map_err(|error| error.kind());
        let asked = match pulled {
            Ok(result) => {
                assert_eq!(resolved.as_ref(), Ok(&result.image.digest));
                assert_eq!(here.unwrap(), result.image);
                self.rig.forget(&engine, image).await;
                Ok(())
            }
            Err(error) => {
                assert_eq!(resolved, Err(error.kind()), "{error}");
                assert_eq!(here.unwrap_err().kind(), ErrorKind::NotFound, "{error}");
                self.rig.nothing_kept();
                Err(error)
            }
        };
        engine.close().await;
        asked
    }

    /// The error of a pull that must fail this way, and that names image, registry and host.
    async fn refused(&self, image: &str, kind: ErrorKind, words: &[&str]) -> Error {
        let error = fails(self.ask(image).await, kind, words);
        let host = image.split_once('/').unwrap().0;
        assert_eq!(context(&error, "host"), host, "{error}");
        assert_eq!(context(&error, "registry"), host, "{error}");
        assert_eq!(context(&error, "image"), image, "{error}");
        assert!(error.to_string().contains(host), "{error}");
        error
    }
}

fn add(registry: &Registry) -> String {
    registry.add(&fixtures::image("busybox").unwrap()).unwrap()
}

/// Writes an identity as `<name>.pem`, `<name>.key` and, both in one file, `<name>-both.pem`.
fn write(folder: &Path, name: &str, identity: &Identity) {
    std::fs::write(folder.join(format!("{name}.pem")), &identity.certificate).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), &identity.key).unwrap();
    let both = format!("{}{}", identity.certificate, identity.key);
    std::fs::write(folder.join(format!("{name}-both.pem")), both).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_of_an_unknown_authority_is_trusted_only_when_told() {
    let world = Secured::start();
    let registry = world.registry(&["127.0.0.1"], None);
    let (image, host) = (add(&registry), registry.host());
    let untrusted = "certificate is not trusted";

    world.hosts(&host, "");
    let error = world.refused(&image, ErrorKind::Unavailable, &[untrusted, "`ca`", "hosts.toml"]).await;
    assert!(error.message_with_cause().contains("UnknownIssuer"), "the cause is told: {error}");

    // Somebody else's authority helps no more than none, and neither does one of the same name.
    let folder = world.folder(&host);
    for name in ["somebody else", "the registry's authority"] {
        let other = Authority::new(name).unwrap();
        std::fs::write(folder.join("other.pem"), other.certificate()).unwrap();
        world.hosts(&host, "ca = \"other.pem\"");
        world.refused(&image, ErrorKind::Unavailable, &[untrusted]).await;
    }

    // Relative to hosts.toml, absolute, one of several, and several in one file.
    let own = world.authority.certificate();
    std::fs::write(folder.join("own.pem"), &own).unwrap();
    let all = format!("{}{own}", Authority::new("somebody else").unwrap().certificate());
    std::fs::write(folder.join("all.pem"), all).unwrap();
    let absolute = format!("ca = {:?}", folder.join("own.pem"));
    for settings in ["ca = \"own.pem\"", &absolute, "ca = [\"other.pem\", \"own.pem\"]", "ca = \"all.pem\""] {
        world.hosts(&host, settings);
        world.ask(&image).await.unwrap_or_else(|error| panic!("{settings}: {error}"));
    }
    world.hosts(&host, "skip_verify = true");
    world.ask(&image).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_is_refused() {
    let world = Secured::start();
    let registry = world.registry(&["registry.example", "127.0.0.2"], None);
    let (image, host) = (add(&registry), registry.host());
    std::fs::write(world.folder(&host).join("ca.pem"), world.authority.certificate()).unwrap();
    world.hosts(&host, "ca = \"ca.pem\"");
    let error = world.refused(&image, ErrorKind::Unavailable, &["certificate is for another name"]).await;
    assert!(error.message_with_cause().contains("registry.example"), "whose it is: {error}");
    world.hosts(&host, "skip_verify = true");
    world.ask(&image).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_plain_after_all_is_told_from_one_behind_tls() {
    let world = Secured::start();
    let image = add(&world.rig.registry);
    world.hosts(&world.rig.registry.host(), "skip_verify = true");
    world.refused(&image, ErrorKind::Unavailable, &["does not speak TLS", "http://"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_may_want_to_see_a_certificate_too() {
    let world = Secured::start();
    let clients = Authority::new("the clients' authority").unwrap();
    let registry = world.registry(&["127.0.0.1"], Some(&clients));
    let (image, host) = (add(&registry), registry.host());
    let folder = world.folder(&host);
    std::fs::write(folder.join("ca.pem"), world.authority.certificate()).unwrap();
    write(&folder, "own", &clients.client("porter").unwrap());
    write(&folder, "other", &Authority::new("somebody else").unwrap().client("porter").unwrap());
    let with = |client: &str| world.hosts(&host, &format!("ca = \"ca.pem\"\n{client}"));

    // None at all, one of an authority that the registry does not know.
    for client in ["", "client = \"other-both.pem\""] {
        with(client);
        world
            .refused(&image, ErrorKind::Unauthenticated, &["client certificate", "`client`", "hosts.toml"])
            .await;
    }
    let absolute = format!("client = [[{:?}, {:?}]]", folder.join("own.pem"), folder.join("own.key"));
    for client in [
        "client = [[\"own.pem\", \"own.key\"]]",
        &absolute,
        "client = \"own-both.pem\"",
        "client = [\"own-both.pem\"]",
        "client = [[\"own-both.pem\", \"\"]]",
    ] {
        with(client);
        world.ask(&image).await.unwrap_or_else(|error| panic!("{client}: {error}"));
    }
    // What the registry is shown does not say whether it is to be trusted.
    world.hosts(&host, "client = \"own-both.pem\"");
    world.refused(&image, ErrorKind::Unavailable, &["certificate is not trusted"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_are_named_before_anybody_is_asked() {
    let world = Secured::start();
    // Connections wait here until somebody takes them: nobody does, so any that was made is there at the end.
    let (own, mirror) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let host = own.local_addr().unwrap().to_string();
    let image = format!("{host}/fixtures/busybox:latest");
    let folder = world.folder(&host);
    let client = world.authority.client("porter").unwrap();
    write(&folder, "own", &client);
    write(&folder, "other", &world.authority.client("other").unwrap());
    std::fs::write(folder.join("text.pem"), "no certificate\n").unwrap();
    let cut = &client.certificate[..client.certificate.len() / 2];
    std::fs::write(folder.join("cut.pem"), cut).unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.join("broken.pem"), broken).unwrap();
    let engine = Engine::open(world.config()).await.unwrap();
    for (settings, file) in [
        ("ca = \"absent.pem\"", "absent.pem"),
        ("ca = \"text.pem\"", "text.pem"),
        ("ca = \"cut.pem\"", "cut.pem"),
        ("ca = [\"own.pem\", \"broken.pem\"]", "broken.pem"),
        ("ca = \".\"", ""),
        ("client = \"absent.pem\"", "absent.pem"),
        ("client = \"own.pem\"", "own.pem"),
        ("client = [[\"own.pem\", \"absent.key\"]]", "absent.key"),
        ("client = [[\"own.pem\", \"text.pem\"]]", "text.pem"),
        ("client = [[\"text.pem\", \"own.key\"]]", "text.pem"),
        ("client = [[\"own.pem\", \"other.key\"]]", "own.pem"),
        ("client = [[\"broken.pem\", \"own.key\"]]", "broken.pem"),
    ] {
        let place = folder.join(file);
        // It makes no difference whether the registry itself or a mirror before it has the file.
        for text in [
            format!("server = \"https://{host}\"\n{settings}\n"),
            format!(
                "server = \"http://{host}\"\n[host.\"https://{}\"]\n{settings}\n",
                mirror.local_addr().unwrap()
            ),
        ] {
            std::fs::write(folder.join("hosts.toml"), &text).unwrap();
            let error = fails(pull(&engine, &image).await.0, ErrorKind::InvalidArgument, &[&image]);
            assert_eq!(Path::new(&context(&error, "path")), place, "{text}: {error}");
            let key = client.key.lines().nth(1).unwrap();
            assert!(!format!("{error:?}").contains(key), "the key is told: {error:?}");
            let asked = engine.image().resolve_digest(ImageName::default().image(&image)).await;
            fails(asked, ErrorKind::InvalidArgument, &[&place.display().to_string()]);
        }
    }
    for listener in [own, mirror] {
        listener.set_nonblocking(true).unwrap();
        let connection = listener.accept();
        assert_eq!(connection.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody was asked");
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_mended_works_without_a_new_engine() {
    let world = Secured::start();
    let registry = world.registry(&["127.0.0.1"], None);
    let (image, host) = (add(&registry), registry.host());
    let file = world.folder(&host).join("ca.pem");
    world.hosts(&host, "ca = \"ca.pem\"");
    let engine = Engine::open(world.config()).await.unwrap();
    fails(pull(&engine, &image).await.0, ErrorKind::InvalidArgument, &["ca.pem"]);
    std::fs::write(&file, world.authority.certificate()).unwrap();
    pull(&engine, &image).await.0.unwrap();
    engine.close().await;
}
