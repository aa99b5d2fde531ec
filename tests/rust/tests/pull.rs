//! Pulls through the public face: registries that misbehave, images of every shape, names, policies, cancels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Rig, context, fails, pull, remove, running, said, sane, sh, until, watched};
use dunnage::config::Credential;
use dunnage::types::{CreateOptions, EventType, ImageName, LayerState, PullOptions, PullPolicy, RunOptions};
use dunnage::{Config, Engine, ErrorKind};
use dunnage_harness::{Auth, Fault, FaultProxy, Registry, RegistryOptions, fixtures};

/// An engine with short limits, on the rig's daemon.
async fn quick(rig: &Rig, adjust: impl FnOnce(&mut Config)) -> Engine {
    let mut config = rig.config();
    config.registry.stall_ms = 700;
    config.registry.retries = 3;
    adjust(&mut config);
    Engine::open(config).await.unwrap()
}

/// Sets faults from a thread of its own: see [`Rig::proxy`].
fn set(proxy: &FaultProxy, faults: &str) {
    proxy.set_faults(Fault::parse_all(faults).unwrap());
    proxy.reset_counts();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_exact_and_never_falls() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let fixture = fixtures::image("uncompressed").unwrap();
    let layers = fixture.layers().unwrap();
    let total: u64 = layers.iter().map(|layer| layer.size).sum();
    let proxy = rig.proxy(&format!("throttle:{}", total / 2));
    let image = proxy.through(&rig.add("uncompressed"));
    let begun = Instant::now();
    let (result, events) = pull(&engine, &image).await;
    let took = begun.elapsed();
    let result = result.unwrap();
    assert!(took > Duration::from_millis(1700), "the throttle holds: {took:?}");
    sane(&events);
    assert_eq!(events[0].kind, EventType::Pulling);
    assert_eq!(events[0].image.as_deref(), Some(image.as_str()));
    let progress: Vec<_> = events.iter().filter(|event| event.kind == EventType::PullProgress).collect();
    let seconds = took.as_secs_f64();
    let most = (seconds * 20.0) as usize + 3;
    assert!((5..=most).contains(&progress.len()), "{} events in {seconds} s", progress.len());
    let middle = &progress[progress.len() / 2];
    assert!(middle.bytes > Some(0) && middle.bytes < Some(total), "{middle:?}");
    let last = progress.last().unwrap();
    assert_eq!((last.bytes, last.total_bytes, last.unpacked_bytes), (Some(total), Some(total), Some(total)));
    for (shown, layer) in last.layers.as_ref().unwrap().iter().zip(&layers) {
        assert_eq!((&shown.reference, shown.total), (&layer.digest, layer.size));
        assert_eq!((shown.offset, shown.state), (layer.size, LayerState::Done));
    }
    assert!(result.downloaded_bytes >= total, "{result:?}");
    assert_eq!(events.last().unwrap().image_info.as_deref(), Some(&result.image));
    // The second time everything exists, and nothing but descriptions is fetched.
    set(&proxy, "");
    let (again, events) = pull(&engine, &image).await;
    sane(&events);
    assert!(again.unwrap().downloaded_bytes < 64 << 10);
    assert_eq!(proxy.counts().blob_bytes, 0, "{:?}", proxy.counts());
    let last = events.iter().rev().find_map(|event| event.layers.clone()).unwrap();
    assert!(last.iter().all(|layer| layer.state == LayerState::Exists), "{last:?}");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_that_fail_for_a_while_are_borne() {
    let rig = Rig::start();
    let engine = quick(&rig, |_| {}).await;
    let proxy = rig.proxy("");
    let image = proxy.through(&rig.add("uncompressed"));
    let size: u64 = fixtures::image("uncompressed").unwrap().layers().unwrap().iter().map(|l| l.size).sum();
    for (faults, ranges) in [
        ("drop:900000:3", 1),
        ("drop:900000:1+no-range", 0),
        ("stall:900000:1", 1),
        ("status:503:2", 0),
        ("status:429:1:1", 0),
        ("delay:30", 0),
        ("redirect", 0),
        ("bearer", 0),
        ("bearer+redirect+drop:900000:2", 1),
    ] {
        set(&proxy, faults);
        let begun = Instant::now();
        let (result, events) = pull(&engine, &image).await;
        let result = result.unwrap_or_else(|error| panic!("{faults}: {error}"));
        sane(&events);
        let counts = proxy.counts();
        assert!(counts.ranges >= ranges, "{faults}: {counts:?}");
        assert_eq!(counts.leaked_credentials, 0, "{faults}: {counts:?}");
        if faults.starts_with("drop") && ranges > 0 {
            // What came before a drop is not fetched twice.
            assert!(counts.blob_bytes < size + (1 << 20), "{faults}: {size} {counts:?}");
        }
        if faults.contains(":429:1:1") {
            assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is heeded");
        }
        if faults.contains("bearer") {
            assert!(counts.tokens >= 1 && counts.tokens <= 2, "{faults}: {counts:?}");
        }
        if faults.contains("redirect") {
            assert!(counts.redirected > 0, "{faults}: {counts:?}");
        }
        assert!(result.downloaded_bytes >= size, "{faults}: {result:?}");
        rig.forget(&engine, &image).await;
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_last_are_told_apart_and_leave_nothing() {
    let rig = Rig::start();
    let engine = quick(&rig, |_| {}).await;
    let proxy = rig.proxy("");
    let image = proxy.through(&rig.add("zstd"));
    for (faults, kind) in [
        ("stall:0:0", ErrorKind::Timeout),
        ("drop:0:0", ErrorKind::Unavailable),
        ("status:503:0", ErrorKind::Unavailable),
        ("status:500:0", ErrorKind::Unavailable),
        ("status:429:0", ErrorKind::ResourceExhausted),
        ("status:403:0", ErrorKind::PermissionDenied),
        ("status:401:0", ErrorKind::Unauthenticated),
        ("status:404:0", ErrorKind::NotFound),
        ("corrupt", ErrorKind::DataCorrupt),
        ("wrong-digest", ErrorKind::DataCorrupt),
        ("bearer:me:secret", ErrorKind::Unauthenticated),
    ] {
        set(&proxy, faults);
        let (result, events) = pull(&engine, &image).await;
        let error = match result {
            Ok(result) => panic!("{faults}: {result:?}"),
            Err(error) => error,
        };
        let busy = faults.starts_with("status:429") && error.kind() == ErrorKind::Unavailable;
        assert!(error.kind() == kind || busy, "{faults}: {error}");
        sane(&events);
        let last = events.last().unwrap();
        assert_eq!((last.kind, last.code.as_deref()), (EventType::Error, Some(error.kind().as_str())));
        assert_eq!(error.operation(), "image.pull", "{faults}");
        assert_eq!(context(&error, "image"), image, "{faults}");
        if kind == ErrorKind::DataCorrupt {
            assert!(error.to_string().contains("sha256:"), "{faults}: {error}");
        }
        rig.nothing_kept();
    }
    // After all that, it works.
    set(&proxy, "");
    pull(&engine, &image).await.0.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_lie_or_do_not_fit_are_refused() {
    let rig = Rig::start();
    let engine = quick(&rig, |_| {}).await;
    for fixture in ["corrupt", "wrong-digest"] {
        let image = rig.add(fixture);
        let error = fails(pull(&engine, &image).await.0, ErrorKind::DataCorrupt, &["sha256:"]);
        let digests: Vec<String> =
            fixtures::image(fixture).unwrap().layers().unwrap().into_iter().map(|l| l.digest).collect();
        assert!(error.to_string().contains(&digests[1]), "{fixture}: the blob is named: {error}");
        rig.nothing_kept();
    }
    for fixture in ["foreign-arch", "foreign-plain"] {
        let image = rig.add(fixture);
        let error = fails(pull(&engine, &image).await.0, ErrorKind::FailedPrecondition, &["linux/"]);
        assert!(context(&error, "offered").contains("64"), "{fixture}: {error}");
        rig.nothing_kept();
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_shape_run() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    for fixture in ["zstd", "schema2", "schema2-list", "multi", "uncompressed", "no-tar-end", "multi-member"]
    {
        let image = rig.pulled(&engine, fixture).await;
        let workspace = running(&engine, fixture, &image).await;
        let command = "cat /etc/hostname; for n in 0 1 2 3 4 5 6 7; do cat /usr/share/bulk/$n.txt; done | wc -c; \
                       md5sum /bin/busybox | cut -d' ' -f1; test -h /bin/sh && test -d /tmp && stat -c %a /tmp";
        let seen = said(sh(&workspace, command).await);
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| std::fs::exists(p).unwrap());
        let sum = common::run(std::process::Command::new("md5sum").arg(busybox.unwrap()));
        let bulk = if fixture == "multi" { 0 } else { 8 << 20 };
        let sum = sum.split(' ').next().unwrap();
        assert_eq!(seen, format!("fixture\n{bulk}\n{sum}\n1777"), "{fixture}");
        if fixture == "multi" {
            let platform = said(sh(&workspace, "cat /etc/platform").await);
            assert!(platform.contains("\"linux\"") && platform.contains("64"), "{platform}");
        }
        remove(&workspace).await;
    }
    // 120 layers, each of which removes a file of the one below.
    let image = rig.pulled(&engine, "deep").await;
    let workspace = running(&engine, "deep", &image).await;
    assert_eq!(said(sh(&workspace, "ls /srv | grep -c brief; ls /srv | grep -vc brief").await), "1\n119");
    remove(&workspace).await;
    // 1.25 GiB of zeros take no room.
    let image = rig.pulled(&engine, "sparse").await;
    let workspace = running(&engine, "sparse", &image).await;
    let seen = said(
        sh(&workspace, "stat -c %s /srv/sparse; head -c5 /srv/sparse; tail -c4 /srv/sparse; echo; du -k /srv/sparse | cut -f1")
            .await,
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[1]), ((1280u64 << 20).to_string().as_str(), "firstlast"));
    assert!(lines[2].parse::<u64>().unwrap() < 64 << 10, "{} KiB on disk", lines[2]);
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_layers_can_do_comes_out_right() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "layered").await;
    let workspace = running(&engine, "layered", &image).await;
    let run = RunOptions::default().command("check-layers").timeout_ms(60_000u64);
    let output = workspace.exec().run(run, "").await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "layers ok\n");
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_come_from_configuration_and_from_docker() {
    let rig = Rig::start();
    let auth = Auth::Htpasswd { user: "porter".into(), password: "stow:4 keeps".into() };
    let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).unwrap();
    let image = registry.add(&fixtures::image("busybox").unwrap()).unwrap();
    let host = registry.host();

    let plain = quick(&rig, |_| {}).await;
    let error = fails(pull(&plain, &image).await.0, ErrorKind::Unauthenticated, &[&host]);
    assert!(error.message().contains("credential"), "it says what to do: {error}");
    fails(
        plain.image().resolve_digest(ImageName::default().image(&image)).await,
        ErrorKind::Unauthenticated,
        &[&host],
    );
    let wrong = quick(&rig, |config| {
        config.registry.credentials.insert(host.clone(), Credential::basic("porter", "wrong-word"));
    })
    .await;
    let error = fails(pull(&wrong, &image).await.0, ErrorKind::Unauthenticated, &[&host]);
    assert!(!format!("{error} {error:?}").contains("wrong-word"), "the password is told: {error:?}");
    rig.nothing_kept();

    let given = quick(&rig, |config| {
        config.registry.credentials.insert(host.clone(), Credential::basic("porter", "stow:4 keeps"));
    })
    .await;
    let digest = given.image().resolve_digest(ImageName::default().image(&image)).await.unwrap();
    assert_eq!(digest.digest, fixtures::image("busybox").unwrap().root().digest);
    pull(&given, &image).await.0.unwrap();
    rig.forget(&given, &image).await;

    // Base64 of `porter:stow:4 keeps`.
    let file = rig.containerd.dir().join("docker.json");
    let auths = serde_json::json!({ "auths": { &host: { "auth": "cG9ydGVyOnN0b3c6NCBrZWVwcw==" } } });
    std::fs::write(&file, auths.to_string()).unwrap();
    let docker = quick(&rig, |config| config.registry.docker_config = Some(file.clone())).await;
    pull(&docker, &image).await.0.unwrap();
    for engine in [plain, wrong, given, docker] {
        engine.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_for_those_who_may_have_them() {
    let rig = Rig::start();
    let proxy = rig.proxy("bearer:me:secret+redirect");
    let image = proxy.through(&rig.add("busybox"));
    let host = proxy.host();
    let engine = quick(&rig, |config| {
        config.registry.credentials.insert(host.clone(), Credential::basic("me", "secret"));
    })
    .await;
    pull(&engine, &image).await.0.unwrap();
    let counts = proxy.counts();
    assert!(counts.tokens == 1 && counts.redirected > 0 && counts.leaked_credentials == 0, "{counts:?}");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_and_long_names_find_one_image_through_a_mirror() {
    let rig = Rig::start();
    let fixture = fixtures::image("busybox").unwrap();
    rig.registry.add_as(&fixture, "library/dunnage-nowhere", "1").unwrap();
    let broken = rig.proxy("status:503:0");
    let dir = rig.hosts_dir().join("docker.io");
    std::fs::create_dir_all(&dir).unwrap();
    // The registry itself is set to a closed port of this host: no test reaches the real one.
    let hosts = format!(
        "server = \"http://127.0.0.1:1\"\n\
         [host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        broken.host(),
        rig.registry.host()
    );
    std::fs::write(dir.join("hosts.toml"), hosts).unwrap();
    let engine = quick(&rig, |config| config.registry.retries = 1).await;
    let full = "docker.io/library/dunnage-nowhere:1";
    let pulled = pull(&engine, "dunnage-nowhere:1").await.0.unwrap();
    assert_eq!(pulled.image.name, full);
    assert!(broken.counts().requests > 0, "the first mirror was asked first");
    for name in ["dunnage-nowhere:1", "library/dunnage-nowhere:1", "docker.io/dunnage-nowhere:1", full] {
        let found = engine.image().get(ImageName::default().image(name)).await;
        assert_eq!(found.unwrap().digest, fixture.root().digest, "{name}");
        let options = PullOptions::default().image(name).policy(PullPolicy::Never);
        assert!(engine.image().pull(options).await.unwrap().skipped, "{name}");
    }
    assert_eq!(engine.image().list().await.unwrap().images.len(), 1);
    let workspace = running(&engine, "mirrored", "dunnage-nowhere:1").await;
    assert_eq!(workspace.info().await.unwrap().image, full);
    remove(&workspace).await;
    assert!(engine.image().delete(ImageName::default().image("dunnage-nowhere:1")).await.unwrap().deleted);
    assert!(!engine.image().delete(ImageName::default().image(full)).await.unwrap().deleted);
    fails(engine.image().get(ImageName::default().image(full)).await, ErrorKind::NotFound, &[full]);
    // A mirror's file with a typo is told with its path.
    std::fs::write(dir.join("hosts.toml"), "server = [\n").unwrap();
    fails(pull(&engine, "dunnage-nowhere:1").await.0, ErrorKind::InvalidArgument, &["hosts.toml"]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_decide_whether_the_registry_is_asked() {
    let rig = Rig::start();
    let engine = quick(&rig, |_| {}).await;
    let proxy = rig.proxy("");
    let image = proxy.through(&rig.add("busybox"));
    let with = |policy| PullOptions::default().image(&image).policy(policy);
    fails(engine.image().pull(with(PullPolicy::Never)).await, ErrorKind::NotFound, &[&image, "never"]);
    assert_eq!(proxy.counts().requests, 0);
    assert!(!engine.image().pull(with(PullPolicy::IfNotPresent)).await.unwrap().skipped);
    proxy.reset_counts();
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let (result, events) = watched(engine.image().pull(with(policy))).await;
        assert!(result.unwrap().skipped);
        let kinds: Vec<EventType> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventType::PullSkipped, EventType::Complete]);
    }
    assert_eq!(proxy.counts().requests, 0, "a present image is not asked about");
    // The tag has moved: `always` follows it, `if_not_present` does not.
    let name = image.split_once('/').unwrap().1.split_once(':').unwrap().0;
    rig.registry.add_as(&fixtures::image("zstd").unwrap(), name, "latest").unwrap();
    let new = fixtures::image("zstd").unwrap().root().digest.clone();
    assert_ne!(engine.image().pull(with(PullPolicy::IfNotPresent)).await.unwrap().image.digest, new);
    assert_eq!(engine.image().pull(with(PullPolicy::Always)).await.unwrap().image.digest, new);
    // Creations obey their policy too.
    let options =
        CreateOptions::default().image(proxy.through("x/fixtures/none:1")).pull_policy(PullPolicy::Never);
    let workspace = engine.workspace("never").unwrap();
    fails(workspace.create(options).await, ErrorKind::NotFound, &["fixtures/none"]);
    fails(workspace.info().await, ErrorKind::NotFound, &[]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_in_any_phase_leaves_nothing() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let proxy = rig.proxy("");
    let image = proxy.through(&rig.add("uncompressed"));
    // Before it begins, while it asks, while bytes come at different points, and while it unpacks.
    for (faults, bytes, unpacked) in [
        ("", None, None),
        ("delay:400", None, None),
        ("throttle:2000000", Some(1), None),
        ("throttle:4000000", Some(4_000_000), None),
        ("throttle:20000000", None, Some(1)),
        ("stall:2000000:0", Some(1_500_000), None),
    ] {
        set(&proxy, faults);
        let mut operation = engine.image().pull(PullOptions::default().image(&image));
        let mut stream = operation.events().unwrap();
        if faults.starts_with("delay") {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        if bytes.is_some() || unpacked.is_some() {
            while let Some(event) = stream.next().await {
                assert!(!event.kind.is_terminal(), "{faults}: {event:?}");
                if event.bytes >= bytes && event.unpacked_bytes >= unpacked && event.bytes.is_some() {
                    break;
                }
            }
        }
        operation.cancel();
        let error = fails(operation.await, ErrorKind::Cancelled, &[]);
        assert_eq!(context(&error, "image"), image, "{faults}");
        rig.nothing_kept();
    }
    // So does a creation that is cancelled while it pulls.
    set(&proxy, "throttle:2000000");
    let workspace = engine.workspace("cancelled").unwrap();
    let mut create = workspace.create(CreateOptions::default().image(&image));
    let mut stream = create.events().unwrap();
    while stream.next().await.unwrap().bytes < Some(1) {}
    create.cancel();
    fails(create.await, ErrorKind::Cancelled, &[]);
    rig.nothing_kept();
    rig.no_files_of("cancelled");
    // Dropping the handle cancels nothing.
    set(&proxy, "throttle:20000000");
    drop(engine.image().pull(PullOptions::default().image(&image)));
    until("a pull without a handle goes on", async || {
        engine.image().get(ImageName::default().image(&image)).await.is_ok()
    })
    .await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pulls_of_one_image_fetch_it_once() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let proxy = rig.proxy("throttle:8000000");
    let image = proxy.through(&rig.add("uncompressed"));
    let size: u64 = fixtures::image("uncompressed").unwrap().layers().unwrap().iter().map(|l| l.size).sum();
    let mut pulls: Vec<_> =
        (0..8).map(|_| engine.image().pull(PullOptions::default().image(&image))).collect();
    // One of them is cancelled: the others do not notice.
    let cancelled = pulls.pop().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    cancelled.cancel();
    fails(cancelled.await, ErrorKind::Cancelled, &[]);
    for pull in pulls {
        pull.await.unwrap();
    }
    let counts = proxy.counts();
    assert!(counts.blob_bytes < size + (64 << 10), "{size}: {counts:?}");
    let left = rig.count();
    assert_eq!((left.leases, left.ingests, left.images, left.snapshots), (0, 0, 1, 2), "{left:?}");
    engine.close().await;
}
