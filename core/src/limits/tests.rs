use super::*;
use crate::types::Limits;
use std::path::Path;

const DISK: BlockDevice = BlockDevice { major: 8, minor: 0 };

/// A kernel's files below a directory.
fn kernel(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

const V2: &[(&str, &str)] = &[
    ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"),
    ("proc/7/cgroup", "0::/n/w\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids io\n"),
    ("sys/fs/cgroup/n/w/cgroup.controllers", "cpu memory pids io\n"),
    ("sys/fs/cgroup/n/w/cpu.max", "25000 100000\n"),
    ("sys/fs/cgroup/n/w/cpu.weight", "50\n"),
    ("sys/fs/cgroup/n/w/memory.max", "67108864\n"),
    ("sys/fs/cgroup/n/w/memory.current", "1000\n"),
    ("sys/fs/cgroup/n/w/memory.stat", "anon 600\nfile 300\nshmem 100\n"),
    ("sys/fs/cgroup/n/w/pids.max", "max\n"),
    ("sys/fs/cgroup/n/w/io.bfq.weight", "default 200\n8:16 300\n"),
    (
        "sys/fs/cgroup/n/w/io.max",
        "8:16 rbps=1 wbps=1 riops=1 wiops=1\n8:0 rbps=1048576 wbps=max riops=max wiops=7\n",
    ),
];

const V1: &[(&str, &str)] = &[
    (
        "proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
         36 31 0:33 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    ),
    ("proc/7/cgroup", "9:name=systemd:/\n7:blkio:/n/w\n4:memory:/n/w\n1:cpu:/n/w\n0::/\n"),
    ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
    ("sys/fs/cgroup/cpu/n/w/cpu.cfs_quota_us", "-1\n"),
    ("sys/fs/cgroup/cpu/n/w/cpu.cfs_period_us", "100000\n"),
    ("sys/fs/cgroup/cpu/n/w/cpu.shares", "2048\n"),
    ("sys/fs/cgroup/memory/n/w/memory.limit_in_bytes", "9223372036854771712\n"),
    ("sys/fs/cgroup/memory/n/w/memory.usage_in_bytes", "1000\n"),
    ("sys/fs/cgroup/memory/n/w/memory.stat", "cache 1\ntotal_cache 400\ntotal_shmem 50\n"),
    ("sys/fs/cgroup/blkio/n/w/blkio.throttle.read_bps_device", "8:0 4096\n"),
    ("sys/fs/cgroup/blkio/n/w/blkio.throttle.write_bps_device", "8:16 4096\n"),
];

fn seen(root: &Path) -> Vec<Seen> {
    let groups = InForce::below(root, 7, "w", Some(DISK)).unwrap();
    LimitName::ALL.into_iter().map(|name| groups.seen(name)).collect()
}

#[test]
fn what_is_in_force_is_read_of_both_versions() {
    use Seen::{At, Missing, Unlimited};
    let kernel_of = |files| kernel(files);
    let two = kernel_of(V2);
    let wanted = [
        At(0.25),
        At(50.0),
        At(67_108_864.0),
        Unlimited,
        At(200.0),
        At(1_048_576.0),
        Unlimited,
        Unlimited,
        At(7.0),
        Missing,
    ];
    assert_eq!(seen(two.path()), wanted);
    let one = kernel_of(V1);
    let wanted =
        [Unlimited, At(200.0), Unlimited, Missing, Missing, At(4096.0), Unlimited, Missing, Missing, Missing];
    assert_eq!(seen(one.path()), wanted);
    let held = |root| InForce::below(root, 7, "w", None).unwrap().memory_held();
    assert_eq!((held(two.path()), held(one.path())), (Some(800), Some(650)));
    // The groups of another container, and of nobody.
    for root in [two.path(), one.path()] {
        assert!(InForce::below(root, 7, "v", None).is_none());
        assert!(InForce::below(root, 8, "w", None).is_none());
    }
}

#[test]
fn bandwidth_is_written_to_both_versions() {
    for (files, file, set, lifted) in [
        (V2, "n/w/io.max", "8:0 riops=9", "8:0 riops=max"),
        (V1, "blkio/n/w/blkio.throttle.read_iops_device", "8:0 9", "8:0 0"),
    ] {
        let dir = kernel(files);
        let groups = InForce::below(dir.path(), 7, "w", Some(DISK)).unwrap();
        for (to, line) in [(Some(9.0), set), (None, lifted)] {
            let change = LimitChange { name: LimitName::IoReadOpsPerSecond, to };
            throttle(&groups, DISK, change).unwrap();
            let written = std::fs::read_to_string(dir.path().join("sys/fs/cgroup").join(file)).unwrap();
            assert_eq!(written, line);
        }
        let other = LimitChange { name: LimitName::Pids, to: None };
        assert_eq!(throttle(&groups, DISK, other).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}

#[test]
fn what_is_wanted_is_met_as_the_kernel_rounds_it() {
    use LimitName as L;
    for (name, wanted, seen, met) in [
        (L::Cpus, Some(0.333_333_3), Seen::At(0.33333), true),
        (L::Cpus, Some(0.3334), Seen::At(0.33333), false),
        (L::MemoryBytes, Some(67_108_865.0), Seen::At(67_108_864.0), true),
        (L::MemoryBytes, Some(67_108_863.0), Seen::At(67_108_864.0), false),
        (L::Pids, Some(7.0), Seen::Unlimited, false),
        (L::Pids, None, Seen::At(7.0), false),
        (L::Pids, None, Seen::Missing, true),
        (L::CpuWeight, None, Seen::At(100.0), true),
        (L::CpuWeight, Some(100.0), Seen::Missing, false),
    ] {
        assert_eq!(is_met(name, wanted, seen), met, "{name:?} {wanted:?} {seen:?}");
    }
}

#[test]
fn weights_of_both_versions_are_the_same() {
    assert_eq!((shares(100), shares(1), shares(10_000)), (1024, 10, 102_400));
    for known in (1..200).chain([999, 1000, 5000, 9999, 10_000]) {
        assert_eq!(weight(shares(known) as f64), known as f64);
    }
}

#[test]
fn what_a_host_lacks_is_told() {
    let disk = || Some(Storage { file_system: "xfs".to_owned(), device: Some(DISK) });
    let limits: Limits = serde_json::from_str(
        r#"{"cpus":1,"pids":9,"io_weight":10,"io_read_ops_per_second":1,"storage_bytes":9}"#,
    )
    .unwrap();
    let dir = kernel(V1);
    let reach = Reach::below(dir.path(), disk());
    // There is no controller of processes here, no scheduler that heeds weights, and no quota.
    assert_eq!(reach.within(&limits), Limits::default().cpus(1.0).io_read_ops_per_second(1));
    assert!(reach.why_not(LimitName::Pids).unwrap().contains("pids"));
    assert!(reach.why_not(LimitName::StorageBytes).unwrap().contains("xfs"));
    let dir = kernel(V2);
    let scheduler = dir.path().join("sys/dev/block/8:0/queue");
    std::fs::create_dir_all(&scheduler).unwrap();
    std::fs::write(scheduler.join("scheduler"), "none [bfq] mq-deadline\n").unwrap();
    let mut all = limits.clone();
    all.storage_bytes = None;
    assert_eq!(Reach::below(dir.path(), disk()).within(&limits), all);
    // Without a disk of its own, nothing is limited of it.
    let memory = Some(Storage { file_system: "tmpfs".to_owned(), device: None });
    let reach = Reach::below(dir.path(), memory);
    assert_eq!(reach.within(&limits), Limits::default().cpus(1.0).pids(9));
    assert!(reach.why_not(LimitName::IoWeight).unwrap().contains("tmpfs"));
}

#[test]
fn a_partition_is_limited_as_its_disk() {
    let dir = kernel(&[
        ("devices/a/dev", "8:0\n"),
        ("devices/a/a1/dev", "8:1\n"),
        ("devices/a/a1/partition", "1\n"),
        ("dev/block/none", ""),
    ]);
    for (link, to) in [("8:0", "../../devices/a"), ("8:1", "../../devices/a/a1")] {
        std::os::unix::fs::symlink(to, dir.path().join("dev/block").join(link)).unwrap();
    }
    let disk = |minor| storage::whole_disk(dir.path(), BlockDevice { major: 8, minor });
    assert_eq!((disk(0), disk(1), disk(2)), (Some(DISK), Some(DISK), None));
}
