//! Measures a running agent: `measure SOCKET` prints what a command costs and how fast files go both ways.
//!
//! It leaves a file of 256 MiB named `measure.tmp` in the data directory while it runs.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dunnage_bridge::bridgepb::container_service_client::ContainerServiceClient;
use dunnage_bridge::bridgepb::{DeleteFileRequest, ExecInput, ReadRawRequest, StatRequest, WriteRawChunk};
use dunnage_bridge::v1::fd_request::Op;
use dunnage_bridge::v1::{FdCommit, FdOpenRead, FdOpenWrite, FdRequest, FdResponse};
use dunnage_bridge::{
    CONNECTION_WINDOW, FD_SOCKET_NAME, MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, RAW_CHUNK_SIZE, STREAM_WINDOW,
};
use hyper_util::rt::TokioIo;
use prost::Message;
use prost::bytes::Bytes;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketType, connect, recvmsg, sendmsg, socket,
};
use tonic::transport::{Channel, Endpoint};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Client = ContainerServiceClient<Channel>;

const SIZE: usize = 256 << 20;
const NAME: &str = "measure.tmp";

fn main() -> Result<()> {
    let socket = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: measure SOCKET")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(calls(&socket))?;
    descriptors(&socket.with_file_name(FD_SOCKET_NAME))
}

async fn calls(socket: &Path) -> Result<()> {
    let socket = socket.to_owned();
    let channel = Endpoint::from_static("http://bridge")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME_SIZE)
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await?;
    let mut client = ContainerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_SIZE);

    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        client.stat(StatRequest { path: "/".into() }).await?;
        times.push(start.elapsed());
    }
    report("stat", times);
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        execute(&mut client).await?;
        times.push(start.elapsed());
    }
    report("exec true", times);

    for _ in 0..3 {
        let chunk = Bytes::from(vec![0x5a; RAW_CHUNK_SIZE]);
        let start = Instant::now();
        let chunks = (0..SIZE / RAW_CHUNK_SIZE).map(move |n| WriteRawChunk {
            path: if n == 0 { NAME.into() } else { String::new() },
            data: chunk.clone(),
        });
        client.write_raw(futures::stream::iter(chunks)).await?;
        rate("WriteRaw", start);
        let start = Instant::now();
        let mut chunks = client.read_raw(ReadRawRequest { path: NAME.into() }).await?.into_inner();
        let mut size = 0;
        while let Some(chunk) = chunks.message().await? {
            size += chunk.data.len();
        }
        assert_eq!(size, SIZE);
        rate("ReadRaw", start);
    }
    client.delete_file(DeleteFileRequest { path: NAME.into(), recursive: false }).await?;
    Ok(())
}

async fn execute(client: &mut Client) -> Result<()> {
    let first = ExecInput { command: "true".into(), ..Default::default() };
    let mut output = client.exec(futures::stream::iter([first])).await?.into_inner();
    while output.message().await?.is_some() {}
    Ok(())
}

fn descriptors(path: &Path) -> Result<()> {
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let ask = |op: Op| -> Result<(FdResponse, Option<std::fs::File>)> {
        let request = FdRequest { op: Some(op) }.encode_to_vec();
        sendmsg(&socket, &[IoSlice::new(&request)], &mut SendAncillaryBuffer::default(), SendFlags::empty())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut packet)];
        let got = recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let response = FdResponse::decode(packet.get(..got.bytes).unwrap_or_default())?;
        if response.code != 0 {
            return Err(response.message.into());
        }
        Ok((response, fd.map(Into::into)))
    };
    let mut buffer = vec![0x5a; 1 << 20];
    for _ in 0..3 {
        let start = Instant::now();
        let (response, file) = ask(Op::OpenWrite(FdOpenWrite { path: NAME.into(), ..Default::default() }))?;
        let mut file = file.ok_or("no descriptor came")?;
        for _ in 0..SIZE >> 20 {
            file.write_all(&buffer)?;
        }
        ask(Op::Commit(FdCommit { token: response.token, expected_size: Some(SIZE.try_into()?) }))?;
        rate("write by descriptor", start);
        let start = Instant::now();
        let (_, file) = ask(Op::OpenRead(FdOpenRead { path: NAME.into() }))?;
        let mut file = file.ok_or("no descriptor came")?;
        while file.read(&mut buffer)? > 0 {}
        rate("read by descriptor", start);
    }
    // An empty file takes its place; this client knows no way to delete.
    let (response, _file) = ask(Op::OpenWrite(FdOpenWrite { path: NAME.into(), ..Default::default() }))?;
    ask(Op::Commit(FdCommit { token: response.token, expected_size: Some(0) }))?;
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what:24} p50 {:7.0?}  p95 {:7.0?}", at(50), at(95));
}

fn rate(what: &str, start: Instant) {
    let megabytes = f64::from(u32::try_from(SIZE).unwrap_or(u32::MAX)) / 1e6;
    println!("{what:24} {:6.0} MB/s", megabytes / start.elapsed().as_secs_f64());
}
