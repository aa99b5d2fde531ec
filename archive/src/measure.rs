use crate::chain::{Chain, DIRECTORY};
use crate::error::{Error, Result};
use crate::pack::PackOptions;
use crate::patterns::Patterns;
use crate::watch::Watch;
use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;
use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

/// How much a tree has to pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Entries that its archive would have.
    pub entries: u64,
    /// Bytes of files' data, by the space that they take: of a file with holes or one that the file system compresses, about.
    pub bytes: u64,
}

/// Finds out how much [`pack()`](crate::pack()) would pack, without reading a file.
///
/// # Errors
/// Invalid options, Source, Cancelled.
pub fn measure(root: BorrowedFd<'_>, options: &PackOptions, watch: &Watch) -> Result<Measured> {
    let failed = |e: io::Error| Error::source(e, "cannot measure the tree");
    let patterns = Patterns::new(&options.include, &options.exclude)?;
    let open = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty());
    let mut walk = Counting {
        chain: Chain::new(open.map_err(|e| failed(e.into()))?),
        levels: Vec::new(),
        path: Vec::new(),
        linked: HashSet::new(),
        counted: 0,
        found: Measured::default(),
    };
    walk.enter(patterns.asks_for(b"")).map_err(failed)?;
    while let Some(level) = walk.levels.last_mut() {
        watch.check()?;
        match level.names.pop() {
            Some(name) => walk.one(&name, &patterns).map_err(failed)?,
            None => walk.leave().map_err(failed)?,
        }
    }
    Ok(walk.found)
}

struct Counting {
    chain: Chain,
    /// The directories down to here.
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Files of several names that were counted.
    linked: HashSet<(u64, u64)>,
    /// How many of the directories down to here were counted.
    counted: usize,
    found: Measured,
}

struct Level {
    names: Vec<Vec<u8>>,
    /// How long the path was above.
    above: usize,
}

impl Counting {
    /// Reads the names of the directory where the chain ends.
    fn enter(&mut self, asked: bool) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.chain.here())? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        let above = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.levels.push(Level { names, above });
        if asked {
            self.count_directories();
        }
        Ok(())
    }

    fn count_directories(&mut self) {
        self.found.entries += (self.levels.len() - self.counted) as u64;
        self.counted = self.levels.len();
    }

    fn leave(&mut self) -> io::Result<()> {
        if let Some(level) = self.levels.pop() {
            self.path.truncate(level.above);
        }
        self.counted = self.counted.min(self.levels.len());
        if self.chain.depth() > 0 {
            self.chain.pop()?;
        }
        Ok(())
    }

    fn one(&mut self, name: &[u8], patterns: &Patterns) -> io::Result<()> {
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let stat = match rustix::fs::statat(self.chain.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away.
            Err(Errno::NOENT) => None,
            stat => Some(stat?),
        };
        if let Some(stat) = stat.filter(|_| !patterns.leaves_out(&self.path)) {
            let asked = patterns.asks_for(&self.path);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    match rustix::fs::openat(self.chain.here(), name, DIRECTORY, Mode::empty()) {
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                        opened => {
                            self.chain.push(name, opened?)?;
                            return self.enter(asked);
                        }
                    }
                }
                FileType::Socket => {}
                kind if asked => {
                    self.count_directories();
                    self.found.entries += 1;
                    let first = stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino));
                    if kind == FileType::RegularFile && first {
                        let kept = stat.st_blocks.cast_unsigned().saturating_mul(512);
                        self.found.bytes += stat.st_size.cast_unsigned().min(kept);
                    }
                }
                _ => {}
            }
        }
        self.path.truncate(above);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_measure_is_what_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        std::fs::create_dir_all(at("empty")).unwrap();
        std::fs::write(at("a/b/c/file"), vec![7; 5000]).unwrap();
        std::fs::write(at("a/top.o"), vec![7; 4096]).unwrap();
        std::fs::hard_link(at("a/top.o"), at("z")).unwrap();
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let text = |text: &[&str]| text.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        for (include, exclude) in [
            (vec![], vec![]),
            (vec!["file"], vec![]),
            (vec!["a/b"], vec!["c"]),
            (vec![], vec!["*.o", "empty"]),
        ] {
            let options =
                PackOptions { include: text(&include), exclude: text(&exclude), ..PackOptions::default() };
            let packed = crate::pack(root.as_fd(), &options, &mut Vec::new(), &Watch::default()).unwrap();
            let measured = measure(root.as_fd(), &options, &Watch::default()).unwrap();
            let (found, there) = ((measured.entries, measured.bytes), (packed.entries, packed.bytes));
            assert_eq!(found, there, "{include:?} {exclude:?}");
        }
    }
}
