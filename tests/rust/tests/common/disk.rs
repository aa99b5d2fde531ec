//! File systems that a test brings along: small ones that fill, and large ones in memory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Rig, names, run};

/// A small file system that can be filled. What it is mounted below unmounts it.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn mount(at: &Path, bytes: u64) -> Self {
        let image =
            tempfile::NamedTempFile::new_in(in_memory(8 * bytes).unwrap_or(env!("CARGO_TARGET_TMPDIR")))
                .unwrap();
        image.as_file().set_len(bytes).unwrap();
        // Small blocks: bytes count.
        run(Command::new("mkfs.ext4").args(["-q", "-b", "1024", "-i", "4096", "-m", "0"]).arg(image.path()));
        std::fs::create_dir_all(at).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(at));
        // The image goes with the mount.
        Self(at.to_owned())
    }

    pub(crate) fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes what is free but for so many bytes.
    pub(crate) fn leave(&self, bytes: u64) {
        self.clear();
        let filler = std::fs::File::create(self.0.join("filler")).unwrap();
        let (mut size, mut step) = (0, self.free().saturating_sub(bytes) & !1023);
        while step >= 1024 {
            match rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), size, step) {
                Ok(()) => {
                    size += step;
                    step = self.free().saturating_sub(bytes) & !1023;
                }
                Err(_) => step = (step / 2) & !1023,
            }
        }
        if bytes == 0 {
            // To the last block, which no extent may take.
            let mut end = std::fs::File::options().append(true).open(self.0.join("filler")).unwrap();
            while end.write_all(&[1; 1024]).and_then(|()| end.sync_all()).is_ok() {}
        }
    }

    pub(crate) fn clear(&self) {
        let _ = std::fs::remove_file(self.0.join("filler"));
        // What was removed is free once the journal says so.
        rustix::fs::syncfs(std::fs::File::open(&self.0).unwrap()).unwrap();
    }

    /// What is there beside the filler and what the file system has by itself.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.0).into_iter().filter(|name| name != "filler" && name != "lost+found").collect()
    }
}

/// A place in memory, where that has room for so many bytes.
pub(crate) fn in_memory(bytes: u64) -> Option<&'static str> {
    let limit = rustix::fs::statvfs("/dev/shm").map_or(0, |shm| shm.f_bavail * shm.f_frsize);
    let told = std::fs::read_to_string("/proc/meminfo").unwrap();
    let free = told.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let free = free.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
    (limit.min(free) > bytes).then_some("/dev/shm")
}

/// Mounts a file system in memory, where there is room.
pub(crate) fn memory(at: &Path, bytes: u64) {
    if in_memory(2 * bytes).is_some() {
        let size = format!("size={bytes},mode=0755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "limits"]).arg(at));
    }
}

/// A rig whose containerd has its files where `mount` puts them.
pub(crate) fn rig_on(mount: impl FnOnce(&Path)) -> Rig {
    let mut rig = Rig::start();
    let root = rig.containerd.dir().join("root");
    rig.containerd.kill9().unwrap();
    std::fs::create_dir_all(&root).unwrap();
    mount(&root);
    rig.containerd.restart().unwrap();
    rig
}
