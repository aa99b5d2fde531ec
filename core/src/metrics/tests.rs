use super::{Used, used, used_below};
use crate::types::{CpuMetrics, IoMetrics, MemoryMetrics, NetworkMetrics, PidsMetrics};
use std::path::Path;

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

fn in_own_network(root: &Path) {
    for (process, number) in [("self", 1), ("7", 2)] {
        let dir = root.join("proc").join(process).join("ns");
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink(format!("net:[{number}]"), dir.join("net")).unwrap();
    }
}

#[test]
fn version_two_is_read_where_it_counts() {
    let dir = kernel(&[
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"),
        ("proc/7/cgroup", "0::/a/w-1\n"),
        (
            "proc/7/net/dev",
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n  eth1:10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n",
        ),
        ("sys/fs/cgroup/a/w-1/cgroup.controllers", "cpu memory pids io\n"),
        (
            "sys/fs/cgroup/a/w-1/cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
        ),
        ("sys/fs/cgroup/a/w-1/memory.current", "1000\n"),
        ("sys/fs/cgroup/a/w-1/memory.max", "max\n"),
        ("sys/fs/cgroup/a/w-1/memory.stat", "anon 600\nfile 300\ninactive_file 250\n"),
        ("sys/fs/cgroup/a/w-1/memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("sys/fs/cgroup/a/w-1/pids.current", "4\n"),
        ("sys/fs/cgroup/a/w-1/pids.max", "64\n"),
        (
            "sys/fs/cgroup/a/w-1/io.stat",
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n",
        ),
    ]);
    in_own_network(dir.path());
    let wanted = Used {
        cpu: Some(CpuMetrics {
            usage_ns: 30_000,
            user_ns: 20_000,
            system_ns: 10_000,
            periods: 5,
            throttled_periods: 2,
            throttled_ns: 7_000,
        }),
        memory: Some(MemoryMetrics {
            usage_bytes: 1000,
            working_set_bytes: 750,
            anon_bytes: 600,
            file_bytes: 300,
            peak_bytes: None,
            limit_bytes: None,
            oom_kills: 2,
        }),
        pids: Some(PidsMetrics { current: 4, limit: Some(64) }),
        io: Some(IoMetrics { read_bytes: 11, write_bytes: 22, read_ops: 33, write_ops: 44 }),
        network: Some(NetworkMetrics {
            rx_bytes: 11,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 25,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        }),
    };
    assert_eq!(used_below(dir.path(), 7), wanted);
}

#[test]
fn version_one_is_read_where_version_two_counts_nothing() {
    let mounts = "\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let dir = kernel(&[
        ("proc/self/mountinfo", mounts),
        (
            "proc/7/cgroup",
            "9:name=systemd:/\n8:pids:/n/w\n4:memory:/docker/x/n/w\n2:cpu,cpuacct:/n/w\n0::/\n",
        ),
        ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
        ("sys/fs/cgroup/cpu,cpuacct/n/w/cpuacct.usage", "123\n"),
        ("sys/fs/cgroup/cpu,cpuacct/n/w/cpuacct.stat", "user 2\nsystem 1\n"),
        ("sys/fs/cgroup/cpu,cpuacct/n/w/cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 7\n"),
        ("sys/fs/cgroup/memory/n/w/memory.usage_in_bytes", "1000\n"),
        ("sys/fs/cgroup/memory/n/w/memory.max_usage_in_bytes", "2000\n"),
        ("sys/fs/cgroup/memory/n/w/memory.limit_in_bytes", "9223372036854771712\n"),
        (
            "sys/fs/cgroup/memory/n/w/memory.stat",
            "rss 1\ntotal_rss 600\ntotal_cache 300\ntotal_inactive_file 250\n",
        ),
        ("sys/fs/cgroup/memory/n/w/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("sys/fs/cgroup/pids/n/w/pids.current", "4\n"),
        ("sys/fs/cgroup/pids/n/w/pids.max", "max\n"),
    ]);
    let wanted = Used {
        cpu: Some(CpuMetrics {
            usage_ns: 123,
            user_ns: 20_000_000,
            system_ns: 10_000_000,
            periods: 5,
            throttled_periods: 2,
            throttled_ns: 7,
        }),
        memory: Some(MemoryMetrics {
            usage_bytes: 1000,
            working_set_bytes: 750,
            anon_bytes: 600,
            file_bytes: 300,
            peak_bytes: Some(2000),
            limit_bytes: None,
            oom_kills: 2,
        }),
        pids: Some(PidsMetrics { current: 4, limit: None }),
        io: None,
        network: None,
    };
    assert_eq!(used_below(dir.path(), 7), wanted);
}

#[test]
fn a_process_that_is_gone_uses_nothing() {
    assert_eq!(used(u32::MAX), Used::default());
    // This one is in the host's network, and something counts its memory.
    assert_eq!(used(std::process::id()).network, None);
}
