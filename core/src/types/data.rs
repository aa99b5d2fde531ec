use super::{Phases, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an archive is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// tar in gzip, which `tar xzf` restores.
    #[default]
    TarGz,
    /// tar in zstd.
    TarZst,
    /// tar.
    Tar,
}

/// What becomes of a running workspace while its data is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Consistency {
    /// It is stopped, and runs again afterwards: every program has written what it had to.
    #[default]
    Stop,
    /// Its processes are frozen: the data is as it was at one moment, as after a power failure.
    Pause,
    /// It goes on: each file is as it was while it was read.
    Live,
}

/// How a place in S3, or in something that speaks like it, is reached. What is not given comes from the environment:
/// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`, and `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, these three together or not at all.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct S3Options {
    /// The server, such as `https://storage.example:9000`. Default: Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for. Default `us-east-1`.
    pub region: Option<String>,
    /// Who asks.
    pub access_key_id: Option<String>,
    /// What proves it.
    pub secret_access_key: Option<String>,
    /// What comes with credentials that are lent for a time.
    pub session_token: Option<String>,
    /// Whether the endpoint may be `http://`: whoever listens sees the archive. Default false.
    pub allow_http: bool,
    /// Whether the bucket is in the path, not in the host's name. Default: it is for every endpoint that is given.
    pub path_style: Option<bool>,
}

setters!(S3Options {
    endpoint: String => Some;
    region: String => Some;
    access_key_id: String => Some;
    secret_access_key: String => Some;
    session_token: String => Some;
    allow_http: bool;
    path_style: bool => Some;
});

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("region", &self.region)
            .field("allow_http", &self.allow_http)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// Whom an archive is encrypted for, in the form of `age`: those who know a passphrase, or recipients. One of the two.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SealOptions {
    /// The passphrase.
    pub passphrase: Option<String>,
    /// The recipients, as `age1…`; any of them can open it.
    pub recipients: Vec<String>,
}

setters!(SealOptions { passphrase: String => Some; recipients: Vec<String>; });

impl fmt::Debug for SealOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealOptions").field("recipients", &self.recipients).finish_non_exhaustive()
    }
}

/// What opens an encrypted archive: a passphrase, or identities. One of the two.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UnsealOptions {
    /// The passphrase.
    pub passphrase: Option<String>,
    /// The identities, as `AGE-SECRET-KEY-1…`; any of them may be the right one.
    pub identities: Vec<String>,
}

setters!(UnsealOptions { passphrase: String => Some; identities: Vec<String>; });

impl fmt::Debug for UnsealOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsealOptions").finish_non_exhaustive()
    }
}

/// How a workspace's data directory is written to an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataExportOptions {
    /// Where the archive goes: the absolute path of a file of the host, or an address, `s3://bucket/key` or
    /// `file:///path`. It is there once it is whole, or not at all; a file has mode 0600 and is on the disk then. Needed
    /// unless `fd` is given, or a writer beside the options.
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
    /// What becomes of a running workspace meanwhile. Default `stop`.
    pub consistency: Consistency,
    /// Patterns of what is exported, with all below; none for everything. `*` and `?` stay within a name, `**` does not; a
    /// pattern without a slash counts at any depth. Paths are as in the archive.
    pub include: Vec<String>,
    /// Patterns of what is left out, with all below; they count more than `include`.
    pub exclude: Vec<String>,
    /// A directory within the data directory to export instead of all of it; the archive's paths start there.
    pub subpath: Option<String>,
    /// Milliseconds from SIGTERM to SIGKILL where the workspace is stopped. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

setters!(DataExportOptions {
    destination: String => Some;
    s3: S3Options;
    fd: i32 => Some;
    overwrite: bool;
    format: ArchiveFormat;
    level: u32 => Some;
    seal: SealOptions => Some;
    consistency: Consistency;
    include: Vec<String>;
    exclude: Vec<String>;
    subpath: String => Some;
    grace_ms: u64 => Some;
});

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DataExportResult {
    /// Entries in it, the directory itself among them.
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
    /// Files that became shorter, and entries that went away, while they were read: only in a live export.
    pub changed: u64,
    /// Milliseconds in which the workspace did not run, or was frozen, for it.
    pub downtime_ms: u64,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// What becomes of what is in the data directory when an archive is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImportMode {
    /// It goes: afterwards there is just what the archive has.
    #[default]
    Replace,
    /// It stays, except for what the archive has under the same names.
    Merge,
}

/// How an archive is put into a workspace's data directory. Its format is told from its first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataImportOptions {
    /// The archive: the absolute path of a file of the host, or an address, `s3://bucket/key` or `file:///path`. Needed
    /// unless `fd` is given, or a reader beside the options.
    pub source: Option<String>,
    /// How an `s3://` source is reached.
    pub s3: S3Options,
    /// Instead, a file descriptor of this process that is open for reading: a pipe, a socket or a file. It is duplicated
    /// before the call returns, and stays the caller's.
    pub fd: Option<i32>,
    /// What opens an encrypted archive. Default: nothing; such an archive is UNAUTHENTICATED then.
    pub unseal: Option<UnsealOptions>,
    /// What becomes of what is there. Default `replace`.
    pub mode: ImportMode,
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
    /// Milliseconds from SIGTERM to SIGKILL where the workspace is stopped. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

impl Default for DataImportOptions {
    fn default() -> Self {
        let limits = dunnage_archive::Limits::default();
        Self {
            source: None,
            s3: S3Options::default(),
            unseal: None,
            fd: None,
            mode: ImportMode::default(),
            digest: None,
            max_entries: limits.entries,
            max_bytes: limits.bytes,
            max_ratio: limits.ratio,
            max_path: u32::try_from(limits.path).unwrap_or(u32::MAX),
            allow_devices: false,
            grace_ms: None,
        }
    }
}

setters!(DataImportOptions {
    source: String => Some;
    s3: S3Options;
    fd: i32 => Some;
    unseal: UnsealOptions => Some;
    mode: ImportMode;
    digest: String => Some;
    max_entries: u64;
    max_bytes: u64;
    max_ratio: u64;
    max_path: u32;
    allow_devices: bool;
    grace_ms: u64 => Some;
});

/// An archive that was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DataImportResult {
    /// Entries of it.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive as it is stored.
    pub archive_bytes: u64,
    /// The digest of these, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Milliseconds in which the workspace did not run for it.
    pub downtime_ms: u64,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// How preserved data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PreserveForm {
    /// As a file `backups/<workspace>/<generation>.tar.gz` below the data root, which any tar restores. The newest one is
    /// also at `backups/<workspace>.tar.gz`.
    #[default]
    Archive,
    /// As a snapshot in the workspace's snapshotter, which takes no copy of a byte, nor does its restoration; where that
    /// is not possible, as an archive.
    Snapshot,
}

/// How a workspace's data is preserved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataPreserveOptions {
    /// How it is kept. Default `archive`.
    pub form: PreserveForm,
    /// Milliseconds from SIGTERM to SIGKILL. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

setters!(DataPreserveOptions { form: PreserveForm; grace_ms: u64 => Some; });

/// Data that is kept for a workspace, whether that is there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PreservedData {
    /// Its number: later ones are higher.
    pub generation: u64,
    /// How it is kept.
    pub form: PreserveForm,
    /// When it was preserved, RFC 3339, UTC.
    pub created_at: String,
    /// Entries, the data directory itself among them.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive; of a snapshot there are none of its own.
    pub archive_bytes: u64,
    /// The digest of the archive, as `sha256:` and 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// The archive's path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The snapshot's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot_name: Option<String>,
    /// The image of the workspace that it is of, in the full form; empty where that is not known.
    pub image: String,
    /// The version that the workspace went on from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u64>,
    /// When it was last restored, RFC 3339, UTC. It is kept all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restored_at: Option<String>,
}

/// What a preservation did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DataPreserveResult {
    /// What is kept now; none when the workspace has no data directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preserved: Option<PreservedData>,
    /// The generations that went, as more are kept than are to be.
    pub dropped: Vec<u64>,
    /// Milliseconds in which the workspace did not run for it.
    pub downtime_ms: u64,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// Which preserved data is put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataRestoreOptions {
    /// Its number. Default: the newest.
    pub generation: Option<u64>,
    /// Milliseconds from SIGTERM to SIGKILL. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

setters!(DataRestoreOptions { generation: u64 => Some; grace_ms: u64 => Some; });

/// Preserved data that was put back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DataRestoreResult {
    /// What it was. It is kept all the same.
    pub restored: PreservedData,
    /// The version that what was there before is kept as, where no byte was copied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept_version: Option<u64>,
    /// Milliseconds in which the workspace did not run for it.
    pub downtime_ms: u64,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// How to ask for preserved data. There is nothing to choose yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PreservedOptions {}

/// All data that is kept for a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PreservedList {
    /// The newest first.
    pub preserved: Vec<PreservedData>,
}

/// Which preserved data goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataDiscardOptions {
    /// Its number. Needed.
    pub generation: u64,
}

setters!(DataDiscardOptions { generation: u64; });
