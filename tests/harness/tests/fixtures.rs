//! Fixture images are what they say, as containerd sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use dunnage_harness::{Containerd, ContainerdOptions, Registry, RegistryOptions, fixtures};

struct Rig {
    containerd: Containerd,
    registry: Registry,
    namespace: String,
}

impl Rig {
    fn start() -> Self {
        let containerd = Containerd::start(ContainerdOptions::default()).unwrap();
        let registry = Registry::start(RegistryOptions::default()).unwrap();
        let namespace = containerd.namespace();
        Self { containerd, registry, namespace }
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command: Command = self.containerd.ctr(&self.namespace);
        command.args(arguments).output().unwrap()
    }

    /// Pulls a fixture; the error is what ctr says.
    fn pull(&self, name: &str) -> Result<String, String> {
        let reference = self.registry.add(&fixtures::image(name).unwrap()).unwrap();
        let output = self.ctr(&["image", "pull", "--plain-http", &reference]);
        if output.status.success() {
            Ok(reference)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Runs a command that prints something. `ctr` sometimes ends before it has copied what a short command printed: then
    /// it is run again.
    fn run(&self, reference: &str, command: &[&str]) -> (bool, String) {
        let mut last = (false, String::new());
        for _ in 0..5 {
            let id =
                format!("c{:?}", std::time::Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "");
            let output = self.ctr(&[&["run", "--rm", reference, &id[id.len() - 20..]], command].concat());
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            last = (output.status.success(), text);
            if !last.1.is_empty() {
                break;
            }
        }
        last
    }
}

#[test]
fn images_of_every_shape_run() {
    let rig = Rig::start();
    for name in [
        "busybox",
        "zstd",
        "schema2",
        "schema2-list",
        "multi",
        "uncompressed",
        "multi-member",
        "no-tar-end",
        "hostile",
    ] {
        let image = rig.pull(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (ok, said) = rig.run(&image, &["sh", "-c", "test ! -e /data && cat /etc/hostname"]);
        assert!(ok && said == "fixture\n", "{name}: {said}");
    }
    let image = rig.pull("user").unwrap();
    assert_eq!(rig.run(&image, &[]).1, "app\n/home/app\nhello there\n");
    assert!(!std::path::Path::new("/tmp/dunnage-escaped-dots").exists());
}

#[test]
fn broken_images_are_refused() {
    let rig = Rig::start();
    for name in ["corrupt", "wrong-digest"] {
        let error = rig.pull(name).unwrap_err();
        assert!(error.contains("digest") || error.contains("checksum"), "{name}: {error}");
    }
    let error = rig.pull("foreign-arch").unwrap_err();
    assert!(error.contains("platform"), "{error}");
}

#[test]
fn the_debian_base_works() {
    let rig = Rig::start();
    let image = rig.pull("base").unwrap();
    let (ok, said) =
        rig.run(&image, &["bash", "-c", ". /etc/os-release; echo $ID; awk 'BEGIN{print 6*7}'; id -un app"]);
    assert!(ok && said == "debian\n42\napp\n", "{said}");
}

#[test]
fn the_layered_image_has_all_that_layers_can_do() {
    let layers = fixtures::image("layered").unwrap().layers().unwrap();
    let size: u64 = layers.iter().map(|layer| layer.size).sum();
    assert_eq!(layers.len(), 6);
    assert!((120 << 20..190 << 20).contains(&size), "{size}");
    let rig = Rig::start();
    let image = rig.pull("layered").unwrap();
    let (ok, said) = rig.run(&image, &["check-layers"]);
    assert!(ok && said == "layers ok\n", "{said}");
}

#[test]
fn a_marked_copy_is_another_image_on_the_same_layers() {
    let rig = Rig::start();
    let busybox = fixtures::image("busybox").unwrap();
    for marker in ["one", "two"] {
        let image = rig.registry.add_marked(&busybox, "marked/busybox", marker, marker).unwrap();
        assert!(rig.ctr(&["image", "pull", "--plain-http", &image]).status.success());
        assert_eq!(rig.run(&image, &["cat", "/marker"]).1, marker);
    }
    // Two markers stand on one common layer.
    assert_eq!(rig.containerd.leaks().unwrap().snapshots, 3);
}

#[test]
fn a_sparse_layer_keeps_its_length() {
    let rig = Rig::start();
    let image = rig.pull("sparse").unwrap();
    let (_, said) =
        rig.run(&image, &["sh", "-c", "stat -c %s /srv/sparse; head -c5 /srv/sparse; tail -c4 /srv/sparse"]);
    assert_eq!(said, format!("{}\nfirstlast", (1u64 << 30) + (256 << 20)));
}
