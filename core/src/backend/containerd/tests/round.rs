//! What one daemon does for containers that live and end as they should, or not.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_round_leaves_nothing() {
    let bench = Bench::new(&["busybox"]).await;
    let before = bench.daemon.leaks().unwrap();
    let backend = &bench.backend;
    let container = bench.create("busybox", new_container("a", HEEDS_TERM)).await;
    let id = container.id.as_str();

    let read = backend.container(id).await.unwrap().unwrap();
    assert_eq!(read, container);
    assert_eq!((read.image, read.snapshot_key), (name("busybox"), "a-active-1".to_owned()));
    assert_eq!(backend.container("b").await.unwrap(), None);
    let again = backend.create_container(&new_container("a", "")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(backend.snapshot("overlayfs", "a-active-1").await.unwrap().is_some());
    assert!(backend.snapshot("overlayfs", "none").await.unwrap().is_none());
    assert_eq!(backend.task(id).await.unwrap(), None);
    assert_eq!(backend.wait_task(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!backend.kill_task(id, 15, true).await.unwrap());
    assert_eq!(backend.delete_task(id).await.unwrap(), None);

    let made = backend.create_task(&container).await.unwrap();
    assert_eq!(made.status, TaskStatus::Created);
    assert!(std::path::Path::new(&format!("/proc/{}", made.pid)).exists());
    assert_eq!(backend.task(id).await.unwrap().unwrap().status, TaskStatus::Created);
    // One that never started is what a process that died has left: it makes room.
    let left = made;
    let made = backend.create_task(&container).await.unwrap();
    assert_ne!(made.pid, left.pid);
    backend.start_task(id).await.unwrap();
    assert_eq!(backend.create_task(&container).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let running = backend.task(id).await.unwrap().unwrap();
    assert_eq!((running.status, running.pid), (TaskStatus::Running, made.pid));
    let listed = backend.tasks().await.unwrap();
    assert_eq!(listed, [running]);

    let refused = backend.delete_task(id).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");
    let refused = backend.delete_container(id).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");

    let (ended, killed) = tokio::join!(backend.wait_task(id), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        backend.kill_task(id, 15, false).await
    });
    assert!(killed.unwrap());
    assert_eq!(ended.unwrap().code, 7);
    let stopped = backend.task(id).await.unwrap().unwrap();
    assert_eq!((stopped.status, stopped.exit.unwrap().code), (TaskStatus::Stopped, 7));
    assert!(!backend.kill_task(id, 9, true).await.unwrap());
    assert_eq!(backend.wait_task(id).await.unwrap().code, 7);
    assert_eq!(backend.delete_task(id).await.unwrap().unwrap().code, 7);
    assert_eq!(backend.delete_task(id).await.unwrap(), None);

    // The same container starts again, on the same snapshot.
    backend.create_task(&container).await.unwrap();
    backend.start_task(id).await.unwrap();
    assert!(backend.kill_task(id, 9, true).await.unwrap());
    assert_eq!(backend.wait_task(id).await.unwrap().code, 137);
    assert_eq!(backend.delete_task(id).await.unwrap().unwrap().code, 137);
    // A task that never started can be removed too.
    backend.create_task(&container).await.unwrap();
    assert!(backend.kill_task(id, 9, true).await.unwrap());
    backend.wait_task(id).await.unwrap();
    backend.delete_task(id).await.unwrap().unwrap();

    assert!(backend.delete_container(id).await.unwrap());
    assert!(!backend.delete_container(id).await.unwrap());
    assert!(backend.remove_snapshot("overlayfs", "a-active-1").await.unwrap());
    assert!(!backend.remove_snapshot("overlayfs", "a-active-1").await.unwrap());
    let top = bench.unpacked("busybox").await.top_snapshot;
    assert_eq!(bench.daemon.leaks().unwrap(), before);

    let snapshot = |key: &str, parent: &str| NewSnapshot {
        snapshotter: "overlayfs".to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: BTreeMap::new(),
    };
    backend.prepare_snapshot(&snapshot("x", &top)).await.unwrap();
    let taken = backend.prepare_snapshot(&snapshot("x", &top)).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken}");
    let orphan = backend.prepare_snapshot(&snapshot("y", "sha256:none")).await.unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::NotFound, "{orphan}");
    let held = backend.remove_snapshot("overlayfs", &top).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::FailedPrecondition, "{held}");
    bench.daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_container_outlives_garbage_collection() {
    let bench = Bench::new(&["busybox"]).await;
    let container = bench.create("busybox", new_container("a", "true")).await;
    assert!(bench.backend.delete_container("a").await.unwrap());
    // Deleting a lease with --sync waits for a whole collection.
    bench.ctr(&["leases", "create", "--id", "l"]);
    bench.ctr(&["leases", "delete", "--sync", "l"]);
    assert!(bench.backend.snapshot("overlayfs", &container.snapshot_key).await.unwrap().is_some());
    let info = bench.ctr(&["snapshots", "info", &container.snapshot_key]);
    assert!(info.contains("containerd.io/gc.root") && info.contains("dunnage.test"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_confined_and_is_who_it_should_be() {
    let bench = Bench::new(&["busybox", "user"]).await;
    let script = "id; hostname; pwd; ulimit -Sn; ulimit -Hn; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
        ls /sys/class/net; mount -t tmpfs none /mnt; mknod /tmp/disk b 254 0 && head -c1 /tmp/disk; cat /proc/kcore | head -c1; \
        echo x > /proc/sys/kernel/hostname; nproc; echo \"$GREETING\"; echo $PATH";
    let root = bench.output("busybox", new_container("root", ""), script).await;
    assert!(root.contains("uid=0(root) gid=0(root)"), "{root}");
    for line in
        ["root\n", "/\n", "\n1024\n", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t00000000a80425fb", "/bin\n"]
    {
        assert!(root.contains(line), "{line:?} is not in {root}");
    }
    // Only loopback, no mounts, no foreign devices, no settings of the kernel.
    assert!(root.contains("\nlo\n") && !root.contains("eth"), "{root}");
    assert_eq!(root.matches("ermitted").count() + root.matches("enied").count(), 2, "{root}");
    assert!(root.contains("ead-only file system"), "{root}");

    let mut new = new_container("user", "");
    new.env.push("GREETING=hello".to_owned());
    new.working_dir = "/home/app".to_owned();
    let user = bench
        .output(
            "user",
            new,
            "id -u; id -g; id -G; pwd; touch /data/mine && stat -c %U:%a /data; echo $GREETING",
        )
        .await;
    let lines: Vec<&str> = user.lines().collect();
    assert_eq!((lines[0], lines[3], lines.last()), ("1000", "/home/app", Some(&"hello")), "{user}");
    assert!(user.contains("app:755"), "{user}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_mounts_arrive_inside() {
    let bench = Bench::new(&["busybox"]).await;
    let shown = bench.daemon.data_root().join("shown");
    std::fs::create_dir(&shown).unwrap();
    std::fs::write(shown.join("file"), "from the host\n").unwrap();
    let mut new = new_container("a", "");
    new.mounts = vec![GuestMount { source: shown.clone(), target: "/opt/memoh".into(), read_only: true }];
    new.limits = Limits::default().cpus(0.5).memory_bytes(64 << 20).pids(8);
    let said = bench
        .output(
            "busybox",
            new,
            "cat /opt/memoh/file; touch /opt/memoh/x; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait",
        )
        .await;
    assert!(said.contains("from the host"), "{said}");
    assert!(said.contains("ead-only file system"), "{said}");
    assert!(said.contains("fork"), "more than 8 processes were made: {said}");
    let mut new = new_container("b", "sleep 60");
    new.limits = Limits::default().memory_bytes(64 << 20);
    new.mounts = vec![GuestMount { source: shown.clone(), target: "/opt/memoh".into(), read_only: true }];
    new.network = NetworkNamespace::Host;
    let container = bench.create("busybox", new).await;
    assert_eq!(
        (container.mounts[0].source.as_path(), container.mounts[0].read_only),
        (shown.as_path(), true)
    );
    assert_eq!(container.network, NetworkNamespace::Host);
    bench.remove(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_process_that_cannot_run_says_so_and_leaves_no_task() {
    let bench = Bench::new(&["busybox"]).await;
    let mut new = new_container("a", "");
    new.args = vec!["/opt/memoh/bridge".to_owned()];
    let container = bench.create("busybox", new).await;
    let made = bench.backend.create_task(&container).await;
    let error = match made {
        Err(error) => error,
        Ok(_) => bench.backend.start_task("a").await.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("/opt/memoh/bridge"), "{error}");
    assert_eq!(bench.backend.delete_task("a").await.unwrap(), None);
    assert_eq!(bench.backend.task("a").await.unwrap(), None);
    assert!(bench.backend.delete_container("a").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_found_by_label_and_prefix() {
    let bench = Bench::new(&[]).await;
    let odd = "a \"quoted\\\" ünïcode, label\t==";
    for (id, key, value) in
        [("workspace-a", "memoh.bot_id", "a"), ("workspace-b", "memoh.bot_id", odd), ("mcp-c", "other", "a")]
    {
        let mut new = new_container(id, "true");
        new.labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        bench.backend.create_container(&new).await.unwrap();
    }
    let found_by = async |filters: &[ContainerFilter]| {
        let found = bench.backend.containers(filters).await.unwrap();
        let mut ids: Vec<String> = found.into_iter().map(|c| c.id).collect();
        ids.sort();
        ids.join(" ")
    };
    let found = async |filter: ContainerFilter| found_by(&[filter]).await;
    let all = ContainerFilter::default;
    assert_eq!(found(all()).await, "mcp-c workspace-a workspace-b");
    let label = |value: &str| BTreeMap::from([("memoh.bot_id".to_owned(), value.to_owned())]);
    assert_eq!(found(ContainerFilter { labels: label("a"), ..all() }).await, "workspace-a");
    assert_eq!(found(ContainerFilter { labels: label(odd), ..all() }).await, "workspace-b");
    assert_eq!(found(ContainerFilter { labels: label("none"), ..all() }).await, "");
    let has = ContainerFilter { has_label: Some("memoh.bot_id".to_owned()), ..all() };
    assert_eq!(found(has.clone()).await, "workspace-a workspace-b");
    assert_eq!(found_by(&[]).await, "mcp-c workspace-a workspace-b");
    let prefix = |prefix: &str| ContainerFilter { id_prefix: Some(prefix.to_owned()), ..all() };
    assert_eq!(found(prefix("mcp-")).await, "mcp-c");
    assert_eq!(found(prefix(".*")).await, "");
    // One that two filters let through is listed once.
    let twice = [has, prefix("mcp-"), prefix("workspace-a")];
    assert_eq!(found_by(&twice).await, "mcp-c workspace-a workspace-b");
    // The daemon filters as well: our own check would hide a filter it takes for "all".
    let text = r#"labels."memoh.bot_id",id~="^workspace\\-""#;
    assert_eq!(bench.ctr(&["containers", "ls", "-q", text]).lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_tasks_is_told_in_order() {
    let bench = Bench::new(&["busybox"]).await;
    let backend = &bench.backend;
    let container = bench.create("busybox", new_container("a", HEEDS_TERM)).await;
    let other = bench.create("busybox", new_container("b", HEEDS_TERM)).await;
    let mut events = backend.watch().await.unwrap();
    for container in [&container, &other] {
        let made = backend.create_task(container).await.unwrap();
        backend.start_task(&container.id).await.unwrap();
        bench.ctr(&["tasks", "pause", &container.id]);
        bench.ctr(&["tasks", "resume", &container.id]);
        // What is executed beside the first process is no change of it.
        bench.ctr(&["tasks", "exec", "--exec-id", "beside", &container.id, "/bin/true"]);
        assert!(backend.kill_task(&container.id, 9, true).await.unwrap());
        backend.wait_task(&container.id).await.unwrap();
        let exit = backend.delete_task(&container.id).await.unwrap().unwrap();
        let mut told = Vec::new();
        while told.last() != Some(&TaskChange::Deleted) {
            let next = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap();
            let BackendEvent::Task(event) = next.unwrap() else { continue };
            assert_eq!(event.container, container.id);
            assert!(event.pid == made.pid || event.pid == 0, "{event:?}");
            told.push(event.change);
        }
        let life = [
            TaskChange::Created,
            TaskChange::Started,
            TaskChange::Paused,
            TaskChange::Resumed,
            TaskChange::Exited(exit),
            TaskChange::Deleted,
        ];
        assert_eq!(told, life);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_comes_after_what_was_complete_before_it() {
    let bench = Bench::new(&["busybox"]).await;
    let backend = &bench.backend;
    let mut events = backend.watch().await.unwrap();
    for round in 0..50 {
        let id = format!("c{round}");
        backend.create_container(&new_container(&id, "true")).await.unwrap();
        if round % 2 == 0 {
            bench.ctr(&["containers", "label", &id, "a=b"]);
        }
        backend.delete_container(&id).await.unwrap();
        backend.mark(&id).await.unwrap();
        let mut told = 0;
        loop {
            let next = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap().unwrap();
            match next {
                BackendEvent::Container(changed) => assert_eq!(changed, id),
                // Those of the watch's beginning.
                BackendEvent::Mark(mark) if mark.is_empty() => continue,
                other => {
                    assert_eq!(other, BackendEvent::Mark(id.clone()));
                    break;
                }
            }
            told += 1;
        }
        assert_eq!(told, if round % 2 == 0 { 3 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_daemon() {
    let mut bench = Bench::new(&[]).await;
    let events = bench.backend.watch().await.unwrap();
    bench.daemon.kill9().unwrap();
    // Nothing but marks of its beginning, and then the end.
    let told: Vec<_> = tokio::time::timeout(Duration::from_secs(60), events.collect()).await.unwrap();
    assert!(told.iter().all(|event| *event == BackendEvent::Mark(String::new())), "{told:?}");
    bench.daemon.restart().unwrap();
    assert!(bench.backend.watch().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_committed_and_the_container_moves_on_in_place() {
    let bench = Bench::new(&["busybox"]).await;
    let backend = &bench.backend;
    let container = bench.create("busybox", new_container("a", "echo one >>/told")).await;
    let run = async |container: &Container| {
        backend.create_task(container).await.unwrap();
        backend.start_task("a").await.unwrap();
        assert_eq!(backend.wait_task("a").await.unwrap().code, 0);
        backend.delete_task("a").await.unwrap();
    };
    run(&container).await;
    let labels = BTreeMap::from([("dunnage.version".to_owned(), "1".to_owned())]);
    let commit = async |key: &str, name: &str| backend.commit_snapshot("overlayfs", key, name, &labels).await;
    commit("a-active-1", "a-v1").await.unwrap();
    assert_eq!(commit("a-active-1", "a-v2").await.unwrap_err().kind(), ErrorKind::NotFound);
    let made = backend.snapshot("overlayfs", "a-v1").await.unwrap().unwrap();
    assert_eq!((made.kind, made.labels["dunnage.version"].as_str()), (SnapshotKind::Committed, "1"));
    assert!(made.labels.contains_key("containerd.io/gc.root"));
    assert_eq!(made.parent, bench.unpacked("busybox").await.top_snapshot);
    assert_eq!(backend.snapshot("overlayfs", "a-active-1").await.unwrap(), None);

    let next = NewSnapshot {
        snapshotter: "overlayfs".to_owned(),
        key: "a-active-2".to_owned(),
        parent: "a-v1".to_owned(),
        labels: BTreeMap::new(),
    };
    backend.prepare_snapshot(&next).await.unwrap();
    let taken = commit("a-active-2", "a-v1").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken}");
    let moved = backend.move_container("a", "a-active-2").await.unwrap();
    let same = Container {
        updated_at: container.updated_at,
        snapshot_key: container.snapshot_key.clone(),
        ..moved.clone()
    };
    assert_eq!(same, container, "only the snapshot has changed");
    assert_eq!(backend.container("a").await.unwrap().unwrap(), moved);
    assert_eq!(backend.move_container("b", "a-active-2").await.unwrap_err().kind(), ErrorKind::NotFound);

    let found = backend
        .snapshots("overlayfs", &[SnapshotFilter { labels: labels.clone(), ..Default::default() }])
        .await
        .unwrap();
    assert_eq!(found.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["a-v1"]);
    assert!(backend.snapshots("overlayfs", &[SnapshotFilter::default()]).await.unwrap().len() >= 3);
    // What was written stays, and what is written next goes to the new one.
    run(&moved).await;
    commit("a-active-2", "a-v2").await.unwrap();
    let held = backend.remove_snapshot("overlayfs", "a-v1").await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::FailedPrecondition, "{held}");
    assert!(backend.delete_container("a").await.unwrap());
}
