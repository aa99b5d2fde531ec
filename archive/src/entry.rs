/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A moment, as archives have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z; before that they are negative.
    pub seconds: i64,
    /// What comes on top, 0 to 999,999,999.
    pub nanoseconds: i64,
}

/// One entry, without its data.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name, as it is in the archive.
    pub path: Vec<u8>,
    /// What a link points at; empty for anything else.
    pub link: Vec<u8>,
    /// The file's length with its holes; 0 for anything else.
    pub size: u64,
    /// The permissions with setuid, setgid and sticky bit.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content was changed last.
    pub modified: Moment,
    /// When it was read last; never before `modified`.
    pub accessed: Moment,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes: names with their namespace, and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of each piece of data, when the file has holes.
    pub sparse: Option<Vec<(u64, u64)>>,
}
