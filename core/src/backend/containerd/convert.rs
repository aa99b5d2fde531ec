//! The only place where containerd's wire types and statuses become ours, and ours theirs.

use crate::backend::{Container, Snapshot, SnapshotKind, Task, TaskExit, TaskStatus};
use crate::error::{Error, ErrorKind};
use crate::spec;
use containerd_client::services::v1::snapshots::{Info, Kind};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use jiff::Timestamp;
use prost::Message;
use prost_types::Any;
use std::error::Error as _;
use std::io;
use tonic::{Code, Status};

/// How containerd marks a runtime specification in JSON: the import path of the Go type it decodes it to.
const SPEC_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// How containerd marks resources in JSON: in the same way.
const RESOURCES_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// How containerd marks the options of its runc shim.
const RUNC_OPTIONS_URL: &str = "containerd.runc.v1.Options";

/// The fields we set of the runc shim's options
/// (<https://github.com/containerd/containerd/blob/main/api/types/runc/options/oci.proto>).
#[derive(Clone, PartialEq, Message)]
struct RuncOptions {
    /// Whether to save the kernel a session keyring per container.
    #[prost(bool, tag = "2")]
    no_new_keyring: bool,
    /// The OCI runtime, as a path or a name on the shim's PATH.
    #[prost(string, tag = "6")]
    binary_name: String,
}

/// The error of a status that came while `doing`, which completes "cannot …".
///
/// Most codes say all. Two cases need more: a connection that broke has no code of its own, and containerd hands on
/// runc's and its own texts as `Unknown` (1.6 and 2.1 do so where 1.7 has a code), so these are told apart by text.
pub(crate) fn status(status: Status, doing: &str, address: &str) -> Error {
    let broken = status.source().is_some()
        && matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled);
    if broken {
        // The words of the innermost cause say more than "transport error".
        let mut cause = status.source();
        let mut said = status.message().to_owned();
        while let Some(error) = cause {
            said = error.to_string();
            cause = error.source();
        }
        return Error::unavailable(format!("cannot {doing}: the connection to containerd failed: {said}"))
            .with("address", address)
            .caused_by(status);
    }
    let kind = kind_of(status.code(), status.message());
    let error = Error::new(kind, format!("cannot {doing}: {}", status.message()));
    match kind {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Unexpected => error.with("address", address),
        _ => error,
    }
}

/// The error of a socket that cannot be dialled.
pub(crate) fn unreachable(error: io::Error, address: &str) -> Error {
    let (kind, why) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::Unavailable, "no socket there".to_owned()),
        io::ErrorKind::ConnectionRefused => (ErrorKind::Unavailable, "nobody listens there".to_owned()),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "this process may not use the socket".to_owned())
        }
        io::ErrorKind::TimedOut => (ErrorKind::Unavailable, "it does not accept connections".to_owned()),
        // A path longer than sockaddr_un holds.
        io::ErrorKind::InvalidInput => {
            (ErrorKind::Unavailable, "the path is too long for a socket".to_owned())
        }
        _ => (ErrorKind::Unavailable, error.to_string()),
    };
    Error::new(kind, why).with("address", address).caused_by(error)
}

fn kind_of(code: Code, message: &str) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => by_text(message).unwrap_or(ErrorKind::FailedPrecondition),
        Code::Aborted => ErrorKind::Conflict,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::DataLoss => ErrorKind::DataCorrupt,
        Code::Ok | Code::Unknown | Code::Internal => by_text(message).unwrap_or(ErrorKind::Unexpected),
    }
}

/// Texts that say what their code does not. Each was seen from containerd or from runc through it.
fn by_text(message: &str) -> Option<ErrorKind> {
    use ErrorKind as K;
    const INSIDE: &[(&str, ErrorKind)] = &[
        ("no space left on device", K::ResourceExhausted),
        ("disk quota exceeded", K::ResourceExhausted),
        ("cannot allocate memory", K::ResourceExhausted),
        ("too many open files", K::ResourceExhausted),
        ("exec format error", K::Unsupported),
        ("cannot delete a running process", K::FailedPrecondition),
        ("cannot delete a paused process", K::FailedPrecondition),
        ("task must be stopped before deletion", K::FailedPrecondition),
        ("process already finished", K::NotFound),
        ("no such process", K::NotFound),
        ("container not running", K::FailedPrecondition),
        ("container does not exist", K::NotFound),
        ("executable file not found", K::FailedPrecondition),
        ("no such file or directory", K::FailedPrecondition),
        ("permission denied", K::FailedPrecondition),
        ("read-only file system", K::FailedPrecondition),
        ("ttrpc: closed", K::Unavailable),
    ];
    // errdefs ends its messages so; a code that is lost on the way through a shim leaves the text.
    const AT_END: &[(&str, ErrorKind)] = &[
        (": not found", K::NotFound),
        (": already exists", K::AlreadyExists),
        (": failed precondition", K::FailedPrecondition),
        (": invalid argument", K::InvalidArgument),
        (": unavailable", K::Unavailable),
        (": not implemented", K::Unsupported),
        (": context deadline exceeded", K::Timeout),
        (": context canceled", K::Cancelled),
    ];
    let inside = INSIDE.iter().find(|(text, _)| message.contains(text));
    inside.or_else(|| AT_END.iter().find(|(text, _)| message.ends_with(text))).map(|(_, kind)| *kind)
}

/// A moment on the wire; an absent or impossible one becomes the epoch.
pub(crate) fn timestamp(wire: Option<prost_types::Timestamp>) -> Timestamp {
    wire.and_then(|t| Timestamp::new(t.seconds, t.nanos).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A runtime specification for containerd.
pub(crate) fn spec_any(json: Vec<u8>) -> Any {
    Any { type_url: SPEC_URL.to_owned(), value: json }
}

/// Limits of a running task for containerd.
pub(crate) fn resources_any(json: Vec<u8>) -> Any {
    Any { type_url: RESOURCES_URL.to_owned(), value: json }
}

/// The runc shim's options: none when there is nothing to say, or when the runtime is another one, whose options
/// have another type.
pub(crate) fn runtime_options(runtime: &str, binary: Option<&std::path::Path>) -> Option<Any> {
    let binary = binary?;
    if !runtime.starts_with("io.containerd.runc.") {
        return None;
    }
    let options = RuncOptions { no_new_keyring: false, binary_name: binary.to_str()?.to_owned() };
    Some(Any { type_url: RUNC_OPTIONS_URL.to_owned(), value: options.encode_to_vec() })
}

/// A container's record, with what its specification says of mounts, network and user.
pub(crate) fn container(record: containerd_client::services::v1::Container) -> Container {
    let seen = spec::read_back(record.spec.as_ref().map_or(&[], |any| &any.value));
    Container {
        id: record.id,
        image: record.image,
        snapshotter: record.snapshotter,
        snapshot_key: record.snapshot_key,
        labels: record.labels.into_iter().collect(),
        mounts: seen.mounts,
        network: seen.network,
        user: seen.user,
        created_at: timestamp(record.created_at),
        updated_at: timestamp(record.updated_at),
    }
}

/// A snapshot as it is listed or asked for.
pub(crate) fn snapshot(info: Info) -> Snapshot {
    let kind = match info.kind() {
        Kind::Active => SnapshotKind::Active,
        Kind::View => SnapshotKind::View,
        Kind::Committed | Kind::Unknown => SnapshotKind::Committed,
    };
    Snapshot {
        key: info.name,
        parent: info.parent,
        kind,
        labels: info.labels.into_iter().collect(),
        created_at: timestamp(info.created_at),
        updated_at: timestamp(info.updated_at),
    }
}

/// A task as it is listed or asked for.
pub(crate) fn task(process: Process) -> Task {
    let status = match process.status() {
        ProcessStatus::Created => TaskStatus::Created,
        ProcessStatus::Running => TaskStatus::Running,
        ProcessStatus::Paused | ProcessStatus::Pausing => TaskStatus::Paused,
        ProcessStatus::Stopped => TaskStatus::Stopped,
        ProcessStatus::Unknown => TaskStatus::Unknown,
    };
    let exit = (status == TaskStatus::Stopped).then(|| task_exit(process.exit_status, process.exited_at));
    // A task reply names its container in `id`; 1.6 leaves `container_id` empty in lists.
    let container = if process.container_id.is_empty() { process.id } else { process.container_id };
    Task { container, pid: process.pid, status, exit }
}

/// How a task ended.
pub(crate) fn task_exit(code: u32, at: Option<prost_types::Timestamp>) -> TaskExit {
    TaskExit { code, at: timestamp(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, text: &str) -> ErrorKind {
        status(Status::new(code, text), "do it", "/a.sock").kind()
    }

    #[test]
    fn codes_that_say_all_are_taken_at_their_word() {
        for (code, expected) in [
            (Code::NotFound, ErrorKind::NotFound),
            (Code::AlreadyExists, ErrorKind::AlreadyExists),
            (Code::FailedPrecondition, ErrorKind::FailedPrecondition),
            (Code::InvalidArgument, ErrorKind::InvalidArgument),
            (Code::Unavailable, ErrorKind::Unavailable),
            (Code::Unimplemented, ErrorKind::Unsupported),
            (Code::DeadlineExceeded, ErrorKind::Timeout),
            (Code::Aborted, ErrorKind::Conflict),
            (Code::Unknown, ErrorKind::Unexpected),
        ] {
            assert_eq!(kind(code, "x"), expected, "{code:?}");
        }
    }

    #[test]
    fn unknown_codes_are_told_apart_by_text() {
        for (text, expected) in [
            ("cannot delete a running process: unknown", ErrorKind::FailedPrecondition),
            ("write /var/x: no space left on device: unknown", ErrorKind::ResourceExhausted),
            ("exec /x: exec format error: unknown", ErrorKind::Unsupported),
            ("process already finished", ErrorKind::NotFound),
            ("task a: not found", ErrorKind::NotFound),
            ("snapshot \"a\": already exists", ErrorKind::AlreadyExists),
            ("something else", ErrorKind::Unexpected),
        ] {
            assert_eq!(kind(Code::Unknown, text), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_connection_is_unavailable_and_names_the_address() {
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert_eq!(broken.code(), Code::Unknown);
        let error = status(broken, "list containers", "/a.sock");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("address: /a.sock"), "{error}");
        assert!(error.message().starts_with("cannot list containers: "), "{error}");
    }

    #[test]
    fn runtime_options_are_sent_for_runc_only() {
        let path = std::path::Path::new("/usr/sbin/crun");
        let any = runtime_options("io.containerd.runc.v2", Some(path)).unwrap();
        assert_eq!(RuncOptions::decode(&any.value[..]).unwrap().binary_name, "/usr/sbin/crun");
        assert!(runtime_options("io.containerd.runc.v2", None).is_none());
        assert!(runtime_options("io.containerd.kata.v2", Some(path)).is_none());
    }

    #[test]
    fn tasks_keep_their_container_whichever_field_names_it() {
        let listed = Process { id: "a".to_owned(), pid: 7, status: 2, ..Process::default() };
        assert_eq!(task(listed).container, "a");
        let ended = Process {
            container_id: "b".to_owned(),
            status: 3,
            exit_status: 137,
            exited_at: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
            ..Process::default()
        };
        let task = task(ended);
        assert_eq!((task.container.as_str(), task.status), ("b", TaskStatus::Stopped));
        assert_eq!(task.exit.unwrap().code, 137);
        assert_eq!(task.exit.unwrap().at.as_second(), 5);
    }

    #[test]
    fn impossible_moments_become_the_epoch() {
        let wire = prost_types::Timestamp { seconds: i64::MAX, nanos: -1 };
        assert_eq!(timestamp(Some(wire)), Timestamp::UNIX_EPOCH);
        assert_eq!(timestamp(None), Timestamp::UNIX_EPOCH);
    }
}
