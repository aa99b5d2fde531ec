//! The old protocol, byte for byte, as its field table says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dunnage_bridge::bridgepb as pb;
use dunnage_bridge::bridgepb::exec_output::Stream;
use prost::Message;

/// Encodes to exactly these bytes, and back.
fn golden<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(&M::decode(bytes).unwrap(), message);
}

#[test]
fn files() {
    golden(
        &pb::ReadFileRequest { path: "a".into(), line_offset: 2, n_lines: 300 },
        &[0x0a, 1, b'a', 0x10, 2, 0x18, 0xac, 2],
    );
    golden(
        &pb::ReadFileResponse { content: "x".into(), total_lines: 1, binary: true },
        &[0x0a, 1, b'x', 0x10, 1, 0x18, 1],
    );
    golden(
        &pb::WriteFileRequest { path: "a".into(), content: vec![0, 255].into() },
        &[0x0a, 1, b'a', 0x12, 2, 0, 255],
    );
    golden(&pb::WriteFileResponse {}, &[]);
    golden(&pb::ListDirRequest { path: "d".into(), recursive: true }, &[0x0a, 1, b'd', 0x10, 1]);
    let entry =
        pb::FileEntry { path: "f".into(), is_dir: true, size: 5, mode: "-".into(), mod_time: "T".into() };
    let bytes = [0x0a, 1, b'f', 0x10, 1, 0x18, 5, 0x22, 1, b'-', 0x2a, 1, b'T'];
    golden(&entry, &bytes);
    let mut wrapped = vec![0x0a, 13];
    wrapped.extend(bytes);
    golden(&pb::ListDirResponse { entries: vec![entry.clone()] }, &wrapped);
    golden(&pb::StatResponse { entry: Some(entry) }, &wrapped);
    golden(&pb::StatRequest { path: "s".into() }, &[0x0a, 1, b's']);
    golden(&pb::MkdirRequest { path: "m".into() }, &[0x0a, 1, b'm']);
    golden(
        &pb::RenameRequest { old_path: "o".into(), new_path: "n".into() },
        &[0x0a, 1, b'o', 0x12, 1, b'n'],
    );
    golden(&pb::DeleteFileRequest { path: "x".into(), recursive: true }, &[0x0a, 1, b'x', 0x10, 1]);
}

#[test]
fn streams() {
    golden(&pb::ReadRawRequest { path: "r".into() }, &[0x0a, 1, b'r']);
    golden(&pb::DataChunk { data: vec![9].into() }, &[0x0a, 1, 9]);
    golden(&pb::WriteRawChunk { path: "w".into(), data: vec![8].into() }, &[0x0a, 1, b'w', 0x12, 1, 8]);
    golden(&pb::WriteRawResponse { bytes_written: 1 << 32 }, &[0x08, 0x80, 0x80, 0x80, 0x80, 0x10]);
}

#[test]
fn commands() {
    let input = pb::ExecInput {
        command: "c".into(),
        work_dir: "w".into(),
        env: vec!["A=1".into(), "B=".into()],
        timeout_seconds: -1,
        stdin_data: vec![3].into(),
        pty: true,
        resize: Some(pb::TerminalSize { cols: 80, rows: 24 }),
    };
    #[rustfmt::skip]
    golden(&input, &[
        0x0a, 1, b'c',
        0x12, 1, b'w',
        0x1a, 3, b'A', b'=', b'1',
        0x1a, 2, b'B', b'=',
        0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1,
        0x2a, 1, 3,
        0x30, 1,
        0x3a, 4, 0x08, 80, 0x10, 24,
    ]);
    let output = |stream: Stream, data: &'static [u8], exit_code| pb::ExecOutput {
        stream: stream.into(),
        data: data.into(),
        exit_code,
    };
    golden(&output(Stream::Stdout, b"o", 0), &[0x12, 1, b'o']);
    golden(&output(Stream::Stderr, b"e", 0), &[0x08, 1, 0x12, 1, b'e']);
    golden(&output(Stream::Exit, b"", 137), &[0x08, 2, 0x18, 137, 1]);
}

#[test]
fn the_service_has_its_old_name() {
    assert_eq!(pb::container_service_server::SERVICE_NAME, "bridgepb.ContainerService");
    assert_eq!(dunnage_bridge::v1::bridge_server::SERVICE_NAME, "dunnage.bridge.v1.Bridge");
}
