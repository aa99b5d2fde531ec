use super::{
    ArchiveFormat, DataExportOptions, DataImportOptions, S3Options, SealOptions, UnsealOptions, setters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a folder is written to an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// The folder; a relative path is under the data directory. The archive's paths start there.
    pub path: String,
    /// Where the archive goes: the absolute path of a file of the host, or an address, `s3://bucket/key` or
    /// `file:///path`. It is there once it is whole, or not at all; a file has mode 0600 and is on the disk then. Needed
    /// unless `fd` is given.
    pub destination: Option<String>,
    /// How an `s3://` destination is reached.
    pub s3: S3Options,
    /// Instead, a file descriptor of this process that is open for writing: a pipe, a socket or a file. It is duplicated
    /// before the call returns, and stays the caller's.
    pub fd: Option<i32>,
    /// Whether what is at `destination` is replaced. Default false: it is ALREADY_EXISTS.
    pub overwrite: bool,
    /// How the archive is stored. Default `tar_gz`.
    pub format: ArchiveFormat,
    /// How hard it is compressed: 1 to 12 for `tar_gz`, 1 by default; 1 to 19 for `tar_zst`, 3 by default.
    pub level: Option<u32>,
    /// Whom it is encrypted for. Default: it is not encrypted.
    pub seal: Option<SealOptions>,
    /// Patterns of what is archived, with all below; none for everything. `*` and `?` stay within a name, `**` does not; a
    /// pattern without a slash counts at any depth. Paths are as in the archive.
    pub include: Vec<String>,
    /// Patterns of what is left out, with all below; they count more than `include`.
    pub exclude: Vec<String>,
}

setters!(ArchiveOptions {
    path: String;
    destination: String => Some;
    s3: S3Options;
    fd: i32 => Some;
    overwrite: bool;
    format: ArchiveFormat;
    level: u32 => Some;
    seal: SealOptions => Some;
    include: Vec<String>;
    exclude: Vec<String>;
});

impl ArchiveOptions {
    /// What it has in common with an export.
    pub(crate) fn as_export(&self) -> DataExportOptions {
        DataExportOptions {
            destination: self.destination.clone(),
            s3: self.s3.clone(),
            fd: self.fd,
            overwrite: self.overwrite,
            format: self.format,
            level: self.level,
            seal: self.seal.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            ..DataExportOptions::default()
        }
    }
}

/// An archive of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ArchiveResult {
    /// Entries in it, the folder itself among them.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive as it is stored.
    pub archive_bytes: u64,
    /// The digest of these, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// What the object store calls this state of the object, where it goes into one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// Sockets, which no archive holds and which were passed over.
    pub sockets: u64,
    /// Files that became shorter, and entries that went away, while they were read.
    pub changed: u64,
}

/// What becomes of what is in a folder when an archive is extracted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExtractMode {
    /// Nothing may be there, or an empty directory.
    #[default]
    New,
    /// It goes: afterwards there is just what the archive has. The folder changes at once, or not at all.
    Replace,
    /// It stays, except for what the archive has under the same names. Entries come one after another: when it fails, those
    /// before stay.
    Merge,
}

/// How an archive becomes a folder. Its format is told from its first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// The folder; a relative path is under the data directory. Missing parents are made.
    pub path: String,
    /// The archive: the absolute path of a file of the host, or an address, `s3://bucket/key` or `file:///path`. Needed
    /// unless `fd` is given.
    pub source: Option<String>,
    /// How an `s3://` source is reached.
    pub s3: S3Options,
    /// Instead, a file descriptor of this process that is open for reading: a pipe, a socket or a file. It is duplicated
    /// before the call returns, and stays the caller's.
    pub fd: Option<i32>,
    /// What opens an encrypted archive. Default: nothing; such an archive is UNAUTHENTICATED then.
    pub unseal: Option<UnsealOptions>,
    /// What becomes of what is there. Default `new`.
    pub mode: ExtractMode,
    /// The digest that the archive must have, as `sha256:` and 64 hexadecimal digits. Default: any.
    pub digest: Option<String>,
    /// The most entries. Default 10 000 000.
    pub max_entries: u64,
    /// The most bytes of files' data, holes aside. Default 1 TiB.
    pub max_bytes: u64,
    /// How many bytes may come of each byte of the archive, once there is more than 1 GiB. Default 200.
    pub max_ratio: u64,
    /// The longest path within the archive, and the longest target of a link, in bytes. Default 65 536.
    pub max_path: u32,
    /// Whether device files are made. Default false: an archive that has one is UNSUPPORTED.
    pub allow_devices: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        let limits = DataImportOptions::default();
        Self {
            path: String::new(),
            source: None,
            s3: S3Options::default(),
            fd: None,
            unseal: None,
            mode: ExtractMode::default(),
            digest: None,
            max_entries: limits.max_entries,
            max_bytes: limits.max_bytes,
            max_ratio: limits.max_ratio,
            max_path: limits.max_path,
            allow_devices: false,
        }
    }
}

setters!(ExtractOptions {
    path: String;
    source: String => Some;
    s3: S3Options;
    fd: i32 => Some;
    unseal: UnsealOptions => Some;
    mode: ExtractMode;
    digest: String => Some;
    max_entries: u64;
    max_bytes: u64;
    max_ratio: u64;
    max_path: u32;
    allow_devices: bool;
});

impl ExtractOptions {
    /// What it has in common with an import.
    pub(crate) fn as_import(&self) -> DataImportOptions {
        DataImportOptions {
            source: self.source.clone(),
            s3: self.s3.clone(),
            fd: self.fd,
            unseal: self.unseal.clone(),
            digest: self.digest.clone(),
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            max_ratio: self.max_ratio,
            max_path: self.max_path,
            allow_devices: self.allow_devices,
            ..DataImportOptions::default()
        }
    }
}

/// A folder that was made of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExtractResult {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive as it is stored.
    pub archive_bytes: u64,
    /// The digest of these, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}
