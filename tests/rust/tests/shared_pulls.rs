//! Pulls that several processes make at once, that die under way, or whose containerd does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::helper::{Helper, text, write_config};
use common::{Rig, pull, remove, said, sane, sh, until};
use dunnage::types::{CreateOptions, PullOptions, PullPolicy};
use dunnage::{Engine, Error, ErrorKind};
use dunnage_harness::{FaultProxy, fixtures};

/// An image of some size in a registry that is slow enough to be cut short.
const FIXTURE: &str = "uncompressed";
const RATE: &str = "throttle:2500000";

/// A daemon, a slow registry, and what helpers need to pull from it.
struct Bed {
    rig: Rig,
    proxy: FaultProxy,
    image: String,
    config: String,
}

impl Bed {
    fn start() -> Self {
        let rig = Rig::start();
        let proxy = rig.proxy(RATE);
        let image = proxy.through(&rig.add(FIXTURE));
        let config = text(&write_config(&rig, &rig.config())).to_owned();
        Self { rig, proxy, image, config }
    }

    /// A process that has begun to pull.
    fn puller(&self) -> Helper {
        Helper::begun(&["pull", &self.config, &self.image])
    }

    /// Two processes that pull at once; the first of them has stored some bytes, and the second is at work.
    async fn pair(&self) -> [Helper; 2] {
        let leases = self.rig.count().leases;
        let first = self.puller();
        until("bytes are stored", async || {
            let active = self.rig.ctr(&["content", "active"]);
            active.lines().any(|line| line.starts_with("layer-") && line.contains("MB"))
        })
        .await;
        let second = self.puller();
        until("the second works", async || self.rig.count().leases == leases + 2).await;
        [first, second]
    }

    /// From here on the registry is as fast as it can.
    fn hurry(&self) {
        self.proxy.set_faults(Vec::new());
    }

    /// Does what time does to the leases of the dead: each says when it ends.
    fn expire(&self) -> usize {
        let listed = self.rig.ctr(&["leases", "ls"]);
        let leases: Vec<&str> = listed.lines().skip(1).collect();
        for lease in &leases {
            assert!(lease.contains("containerd.io/gc.expire="), "it never ends: {lease}");
            let id = lease.split_whitespace().next().unwrap();
            self.rig.ctr(&["leases", "delete", "--sync", id]);
        }
        leases.len()
    }

    /// Waits until the daemon keeps nothing of any pull but the image with its two snapshots, if there is to be one.
    async fn kept(&self, image: bool) {
        let wanted = if image { (0, 0, 1, 2) } else { (0, 0, 0, 0) };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.rig.count();
            if (now.leases, now.ingests, now.images, now.snapshots) == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "kept: {now:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The image is whole: a workspace of it runs, without a question to the registry.
    async fn runs(&self) {
        let engine = self.rig.engine().await;
        let workspace = engine.workspace("whole").unwrap();
        let options = CreateOptions::default().image(&self.image).pull_policy(PullPolicy::Never);
        workspace.create(options).await.unwrap();
        let command = "cat /usr/share/bulk/*.txt | wc -c; for f in /usr/share/bulk/*; do md5sum < $f; done | sort -u | wc -l";
        assert_eq!(said(sh(&workspace, command).await), format!("{}\n8", 8 << 20));
        remove(&workspace).await;
        engine.close().await;
    }
}

/// The bytes of all layers, and how many blobs an image has.
fn size() -> (u64, u64) {
    let layers = fixtures::image(FIXTURE).unwrap().layers().unwrap();
    // The configuration is a blob too.
    (layers.iter().map(|layer| layer.size).sum(), layers.len() as u64 + 1)
}

async fn output(helper: Helper) -> String {
    tokio::task::spawn_blocking(|| helper.output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_fetch_an_image_once() {
    let bed = Bed::start();
    let (one, two) = (bed.puller(), bed.puller());
    let (one, two) = tokio::join!(output(one), output(two));
    assert_eq!((one.as_str(), two.as_str()), ("ok", "ok"));
    let (counts, (bytes, blobs)) = (bed.proxy.counts(), size());
    assert!(counts.blobs <= 2 * blobs, "{counts:?}");
    assert!(counts.blob_bytes < bytes + (64 << 10), "{bytes}: {counts:?}");
    bed.kept(true).await;
    bed.runs().await;
    bed.kept(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_processes_that_dies_leaves_its_work_to_the_other() {
    for dies in [0, 1] {
        let bed = Bed::start();
        let [first, second] = bed.pair().await;
        let (dead, alive) = if dies == 0 { (first, second) } else { (second, first) };
        assert!(dead.kill(), "the pull was over before its process was killed");
        bed.hurry();
        assert_eq!(output(alive).await, "ok");
        let (counts, (bytes, blobs)) = (bed.proxy.counts(), size());
        assert!(counts.blobs <= 2 * blobs, "{counts:?}");
        if dies == 0 {
            assert!(counts.ranges > 0, "what the dead had stored was fetched again: {counts:?}");
        } else {
            assert!(counts.blob_bytes < bytes + (64 << 10), "{bytes}: {counts:?}");
        }
        assert_eq!(bed.expire(), 1);
        bed.kept(true).await;
        bed.runs().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_process_finishes_what_two_dead_ones_began() {
    let bed = Bed::start();
    // When nobody comes, all of it goes with what the dead held.
    for helper in bed.pair().await {
        assert!(helper.kill());
    }
    assert!(bed.rig.count().ingests > 0);
    assert_eq!(bed.expire(), 2);
    bed.kept(false).await;

    for helper in bed.pair().await {
        assert!(helper.kill());
    }
    bed.proxy.reset_counts();
    bed.hurry();
    assert_eq!(output(bed.puller()).await, "ok");
    let (counts, (bytes, _)) = (bed.proxy.counts(), size());
    assert!(counts.ranges > 0 && counts.blob_bytes < bytes, "{bytes}: {counts:?}");
    assert_eq!(bed.expire(), 2);
    bed.kept(true).await;
    bed.runs().await;
}

/// When the daemon comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Back {
    /// At once.
    Soon,
    /// After the pull has given up.
    Late,
}

/// Pulls, kills the daemon once so many bytes have come, and starts it again. Returns how the pull ended.
async fn cut(bed: &mut Bed, engine: &Engine, bytes: u64, back: Back) -> Result<(), Error> {
    let mut operation = engine.image().pull(PullOptions::default().image(&bed.image));
    let mut stream = operation.events().unwrap();
    let mut events = Vec::new();
    loop {
        let event = stream.next().await.unwrap();
        assert!(!event.kind.is_terminal(), "{event:?}");
        let enough = event.bytes >= Some(bytes);
        events.push(event);
        if enough {
            break;
        }
    }
    tokio::task::block_in_place(|| bed.rig.containerd.kill9().unwrap());
    let restart = |bed: &mut Bed| tokio::task::block_in_place(|| bed.rig.containerd.restart().unwrap());
    if back == Back::Soon {
        restart(bed);
    }
    let result = tokio::time::timeout(Duration::from_secs(60), operation.wait()).await;
    if back == Back::Late {
        restart(bed);
    }
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    sane(&events);
    result.expect("the pull waits for ever").map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_containerd_that_dies_under_a_pull_keeps_nothing_of_it() {
    let (total, _) = size();
    // In the middle, and when all has come and is being unpacked: then it may be too late to disturb anything.
    for (bytes, back) in
        [(2 << 20, Back::Soon), (2 << 20, Back::Late), (total, Back::Soon), (total, Back::Late)]
    {
        let mut bed = Bed::start();
        let mut config = bed.rig.config();
        config.time_limits.connect_ms = 1_000;
        let engine = Engine::open(config).await.unwrap();
        match cut(&mut bed, &engine, bytes, back).await {
            Ok(()) => assert_eq!(bytes, total),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{bytes} {back:?}: {error}"),
        }
        println!("{bytes} {back:?}: {:?}", bed.rig.count());
        bed.hurry();
        let (result, events) = pull(&engine, &bed.image).await;
        sane(&events);
        result.unwrap_or_else(|error| panic!("{bytes} {back:?}: {error}"));
        bed.kept(true).await;
        bed.runs().await;
        engine.close().await;
    }
}
