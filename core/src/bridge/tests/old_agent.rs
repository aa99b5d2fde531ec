//! Agents that only have the old service: the real agent behind a front that passes on that service and nothing else.

use super::*;
use crate::ErrorKind;
use crate::bridge::connection::old;
use crate::bridge::dial::dial;
use crate::bridge::lane::Lane;
use crate::types::{
    ChmodOptions, ChownOptions, CopyOptions, EntryKind, GlobOptions, GrepOptions, ListDirOptions,
    MkdirOptions, ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, SymlinkOptions, WalkOptions,
    WatchOptions,
};
use bytes::Bytes;
use dunnage_bridge::bridgepb::container_service_server::{ContainerService, ContainerServiceServer};
use dunnage_bridge::bridgepb::{self as pb};
use std::pin::Pin;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

struct Front(Lane);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

macro_rules! pass_on {
    ($($name:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl ContainerService for Front {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                old(self.0.clone()).$name(request.into_inner()).await
            })*

            type ExecStream = Answers<pb::ExecOutput>;
            async fn exec(
                &self,
                request: Request<Streaming<pb::ExecInput>>,
            ) -> Result<Response<Self::ExecStream>, Status> {
                let input = request.into_inner().map_while(Result::ok);
                let output = old(self.0.clone()).exec(input).await?.into_inner();
                Ok(Response::new(Box::pin(output)))
            }

            type ReadRawStream = Answers<pb::DataChunk>;
            async fn read_raw(
                &self,
                request: Request<pb::ReadRawRequest>,
            ) -> Result<Response<Self::ReadRawStream>, Status> {
                let output = old(self.0.clone()).read_raw(request.into_inner()).await?.into_inner();
                Ok(Response::new(Box::pin(output)))
            }

            async fn write_raw(
                &self,
                request: Request<Streaming<pb::WriteRawChunk>>,
            ) -> Result<Response<pb::WriteRawResponse>, Status> {
                let input = request.into_inner().map_while(Result::ok);
                old(self.0.clone()).write_raw(input).await
            }
        }
    };
}

pass_on! {
    read_file(pb::ReadFileRequest) -> pb::ReadFileResponse;
    write_file(pb::WriteFileRequest) -> pb::WriteFileResponse;
    list_dir(pb::ListDirRequest) -> pb::ListDirResponse;
    stat(pb::StatRequest) -> pb::StatResponse;
    mkdir(pb::MkdirRequest) -> pb::MkdirResponse;
    rename(pb::RenameRequest) -> pb::RenameResponse;
    delete_file(pb::DeleteFileRequest) -> pb::DeleteFileResponse;
}

/// A real agent, a front before it on a socket and on TCP, and a client of each.
struct Old {
    fixture: Fixture,
    fronts: [JoinHandle<()>; 2],
    clients: [BridgeClient; 2],
}

impl Drop for Old {
    fn drop(&mut self) {
        self.fronts.iter().for_each(JoinHandle::abort);
    }
}

impl Old {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let lane = Lane::open(dial(&BridgeTarget::Socket(fixture.socket())).await.unwrap()).await.unwrap();
        let socket = fixture.path("host").join("old.sock");
        let unix = tokio::net::UnixListener::bind(&socket).unwrap();
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        // Calls of any other service are UNIMPLEMENTED.
        let service = ContainerServiceServer::new(Front(lane)).max_decoding_message_size(16 << 20);
        let (one, two) = (service.clone(), service);
        let server = tonic::transport::Server::builder;
        let (unix, tcp) = (UnixListenerStream::new(unix), TcpListenerStream::new(tcp));
        let fronts = [
            tokio::spawn(async move { server().serve_with_incoming(one, unix).await.unwrap() }),
            tokio::spawn(async move { server().serve_with_incoming(two, tcp).await.unwrap() }),
        ];
        let clients = [
            fixture.pool.client("socket", BridgeTarget::Socket(socket)),
            fixture.pool.client("tcp", BridgeTarget::Tcp(address)),
        ];
        for client in &clients {
            client.wait_ready(Duration::from_secs(5), &CancellationToken::new()).await.unwrap();
        }
        Self { fixture, fronts, clients }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_as_far_as_the_old_service_goes() {
    let old = Old::start().await;
    for client in &old.clients {
        let agent = client.agent().await.unwrap();
        assert_eq!(agent, crate::bridge::AgentInfo::default());
        let options = sh("cat; echo $A >&2; exit 9").env([("A".into(), "b".into())]);
        let output = client.run(&options, Bytes::from("in")).await.unwrap();
        assert_eq!((output.result.exit_code, output.stdout, output.stderr), (9, "in".into(), "b\n".into()));
        let late = client.run(&sh("sleep 60").timeout_ms(900_u64), Bytes::new()).await.unwrap().result;
        assert!(late.timed_out && late.signal.is_none(), "{late:?}");
        let endless = client.run(&sh("sleep 0.1; echo x").timeout_ms(0_u64), Bytes::new()).await.unwrap();
        assert_eq!(endless.stdout, "x\n");

        let process =
            client.spawn(&spawn("stty size; cat").pty(true).cols(90_u32).rows(20_u32)).await.unwrap();
        assert_eq!(process.pid(), None);
        assert_eq!(process.next_output().await.unwrap().unwrap().1, "20 90\r\n");
        assert_eq!(process.signal(15).await.unwrap_err().kind(), ErrorKind::Unsupported);
        let exit = process.kill().await.unwrap();
        assert_eq!((exit.exit_code, process.wait().await.unwrap()), (137, exit));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_service_cannot_do_is_told_and_the_rest_goes_on() {
    let old = Old::start().await;
    for client in &old.clients {
        let args = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
        let options = RunOptions::default().args(args(&["printf", "%s|", "a b", "it's", "$HOME"]));
        assert_eq!(client.run(&options, Bytes::new()).await.unwrap().stdout, "a b|it's|$HOME|");
        let unset = vec!["A".to_owned()];
        for options in [sh("id").user("1"), sh("env").env_clear(true), sh("env").env_unset(unset)] {
            let error = client.run(&options, Bytes::new()).await.unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, "exec.run"), "{error}");
        }
        for options in [spawn("true").detach(true), spawn("true").pty(true).idle_timeout_ms(5_u64)] {
            assert_eq!(client.spawn(&options).await.unwrap_err().kind(), ErrorKind::Unsupported);
        }
        let attach = crate::types::AttachOptions::default().session_id("s");
        assert_eq!(client.attach(&attach).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(client.sessions().await.unwrap_err().kind(), ErrorKind::Unsupported);

        let shell = client.shell(&crate::types::ShellOptions::default()).await.unwrap();
        assert!(shell.available && shell.shell.is_some_and(|path| path.starts_with('/')));
        let terminal = client.spawn(&ExecOptions::default().pty(true)).await.unwrap();
        terminal.write_stdin("echo $((6*7))-$TERM; exit\n").await.unwrap();
        let mut shown = String::new();
        while let Some((_, bytes)) = terminal.next_output().await.unwrap() {
            shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(shown.contains("42-xterm-256color"), "{shown:?}");
        let silent = client.spawn(&spawn("cat; exit 5").stdin(false)).await.unwrap();
        assert_eq!(silent.wait().await.unwrap().exit_code, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_work_as_far_as_the_old_service_goes() {
    let old = Old::start().await;
    std::os::unix::fs::symlink("nowhere", old.fixture.data().join("link")).unwrap();
    for client in &old.clients {
        let content = Bytes::from(vec![5; 3_000_000]);
        client.write(&write("d/f"), content.clone()).await.unwrap();
        assert!(client.read(&read("d/f")).await.unwrap() == content);
        client.write(&write("d/t"), Bytes::from_static(b"a\nb\n")).await.unwrap();
        let text = client.read_text(&ReadTextOptions::default().path("d/t")).await.unwrap();
        assert_eq!(text.total_lines, 2);
        let entry = client.stat(&StatOptions::default().path("d/f")).await.unwrap();
        assert_eq!((entry.kind, entry.size, entry.mode.as_str()), (EntryKind::File, 3_000_000, "0644"));
        entry.mod_time.parse::<jiff::Timestamp>().unwrap();
        let list = client.list(&ListDirOptions::default().path(".").recursive(true)).await.unwrap();
        let names: Vec<_> = list.entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
        let (file, dir) = (EntryKind::File, EntryKind::Dir);
        assert_eq!(names, [("d", dir), ("f", file), ("t", file), ("link", EntryKind::Symlink)]);
        let part = read("d/f").offset(2_999_990_u64).length(20_u64);
        assert_eq!(client.read(&part).await.unwrap(), vec![5; 10]);
        assert_eq!(client.read(&read("d/f").offset(1_000_000_u64).length(7_u64)).await.unwrap(), vec![5; 7]);
        assert_eq!(client.read(&read("d/t").offset(99_u64)).await.unwrap(), "");
        let link = client.stat(&StatOptions::default().path("link").follow(false)).await.unwrap();
        assert_eq!((link.kind, link.uid, link.revision), (EntryKind::Symlink, None, None));
        let gone = client.stat(&StatOptions::default().path("none").follow(false)).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        // What the agent cannot do is refused, and nothing is changed.
        for options in [write("d/t").expected_revision("absent"), write("d/t").mode("0600")] {
            let refused = client.write(&options, Bytes::from_static(b"no")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        }
        assert_eq!(client.read(&read("d/t")).await.unwrap(), "a\nb\n");
        let refused = [
            client.symlink(&SymlinkOptions::default().target("x").path("y")).await.unwrap_err(),
            client.chmod(&ChmodOptions::default().path("d").mode("0700")).await.unwrap_err(),
            client.chown(&ChownOptions::default().path("d").owner("0")).await.unwrap_err(),
            client.copy(&CopyOptions::default().from("d").to("y")).await.unwrap_err(),
            client.walk(&WalkOptions::default()).await.unwrap_err(),
            client.glob(&GlobOptions::default().pattern("*")).await.unwrap_err(),
            client.grep(&GrepOptions::default().pattern("a")).await.unwrap_err(),
            client.watch(&WatchOptions::default(), CancellationToken::new()).await.unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        client.mkdir(&MkdirOptions::default().path("e")).await.unwrap();
        client.rename(&RenameOptions::default().from("d/t").to("e/t")).await.unwrap();
        for path in ["d", "e"] {
            client.remove(&RemoveOptions::default().path(path).recursive(true)).await.unwrap();
        }
        assert_eq!(client.read(&read("d/f")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
