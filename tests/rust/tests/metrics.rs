//! What a workspace uses, on a real kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Rig, kill, said, sh};
use dunnage::ErrorKind;
use dunnage::types::{CreateOptions, Limits, MetricsOptions, MetricsStreamOptions, RunOptions};
use futures::StreamExt;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_seen() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = engine.workspace("used").unwrap();
    let limits = Limits::default().cpus(0.5).memory_bytes(64 * MIB as i64).pids(64);
    workspace.create(CreateOptions::default().image(&image).limits(limits)).await.unwrap();
    let before = workspace.metrics(MetricsOptions::default().disk(true)).await.unwrap();
    said(sh(&workspace, "head -c 20000000 /dev/urandom > /data/file; sleep 60 & sleep 60 &").await);
    // More time than it may have, of which some is waited for.
    let busy = RunOptions::default().command("while :; do :; done").timeout_ms(1500u64);
    assert!(workspace.exec().run(busy, "").await.unwrap().result.timed_out);
    let after = workspace.metrics(MetricsOptions::default().disk(true)).await.unwrap();

    let (cpu, memory, pids) = (after.cpu.unwrap(), after.memory.unwrap(), after.pids.unwrap());
    let spent = Duration::from_nanos(cpu.usage_ns - before.cpu.unwrap().usage_ns);
    assert!(spent > Duration::from_millis(300), "{spent:?}");
    assert!(
        cpu.throttled_periods > 0 && cpu.throttled_periods <= cpu.periods && cpu.throttled_ns > 0,
        "{cpu:?}"
    );
    assert!(cpu.user_ns > 0, "{cpu:?}");
    assert_eq!((memory.limit_bytes, memory.oom_kills), (Some(64 * MIB), 0));
    assert!(memory.usage_bytes > 0 && memory.working_set_bytes <= memory.usage_bytes, "{memory:?}");
    assert!(pids.current >= 3 && pids.limit == Some(64), "{pids:?}");
    let (disk, old) = (after.disk.unwrap(), before.disk.unwrap());
    assert!(disk.used_bytes >= old.used_bytes + 20_000_000 && disk.inodes > old.inodes, "{old:?} {disk:?}");

    // More memory than there is: one is ended, and counted.
    let hungry = RunOptions::default().command("head -c 200000000 /dev/zero | tail");
    assert_ne!(workspace.exec().run(hungry, "").await.unwrap().result.exit_code, 0);
    let killed = workspace.metrics(MetricsOptions::default()).await.unwrap();
    assert!(killed.memory.unwrap().oom_kills > 0);
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_until_its_workspace_or_engine_goes() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = engine.workspace("stream").unwrap();
    workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    let options = || MetricsStreamOptions::default().interval_ms(100u64);
    let mut stream = workspace.metrics_stream(options()).await.unwrap();
    for _ in 0..3 {
        assert!(stream.next().await.unwrap().unwrap().running);
    }
    workspace.stop(dunnage::types::StopOptions::default().grace_ms(0u64)).await.unwrap();
    let stopped = loop {
        let metrics = stream.next().await.unwrap().unwrap();
        if !metrics.running {
            break metrics;
        }
    };
    assert!(stopped.cpu.is_none() && stopped.memory.is_none());
    workspace.delete(kill()).await.unwrap();
    while let Some(metrics) = stream.next().await {
        assert!(!metrics.unwrap().running);
    }
    let error = workspace.metrics_stream(options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    let mut stream =
        workspace.metrics_stream(MetricsStreamOptions::default().interval_ms(3_600_000u64)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
    assert!(stream.next().await.is_none());
}
