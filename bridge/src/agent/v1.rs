//! `dunnage.bridge.v1.Bridge`: what the old protocol cannot say.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use prost::bytes::Bytes;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::errors::blocking;
use super::feed::Input;
use super::program::{self, Program};
use super::pty::Size;
use super::raw::Sink;
use super::revision::Expected;
use super::session::{self, Event};
use super::state::Agent;
use super::walk::{Order, Step, Walk};
use super::{entry, files, paths, spawn, user};
use crate::consts::features;
use crate::v1::bridge_server::Bridge;
use crate::v1::exec_request::Frame as In;
use crate::v1::exec_response::Frame as Out;
use crate::v1::exec_start::Program as Asked;
use crate::v1::write_request::Frame as Write;
use crate::v1::{
    ChangeResponse, ChmodRequest, ChownRequest, CopyRequest, CopyResponse, ExecExited, ExecRequest,
    ExecResponse, ExecStart, ExecStarted, GlobRequest, GlobResponse, GrepRequest, GrepResponse, InfoRequest,
    InfoResponse, ListProblem, ListRequest, ListResponse, ReadRequest, ReadResponse, StatRequest,
    StatResponse, StdinMode, SymlinkRequest, SymlinkResponse, WalkRequest, WalkResponse, WatchRequest,
    WatchResponse, WriteRequest, WriteResponse, WriteWholeRequest,
};

/// Entries of one message of a listing.
const BATCH: usize = 512;

/// The service.
pub(crate) struct V1(pub(crate) Arc<Agent>);

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Bridge for V1 {
    async fn info(&self, _request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: features::ALL.iter().map(|&feature| feature.to_owned()).collect(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uptime_ms: u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            data_dir: Bytes::copy_from_slice(self.0.config.data_dir.as_os_str().as_bytes()),
            sessions: self.0.sessions(),
        }))
    }

    type ExecStream = Output<ExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut frames = request.into_inner();
        let Some(ExecRequest { frame: Some(In::Start(start)) }) = frames.message().await? else {
            return Err(Status::invalid_argument("the first frame must be start"));
        };
        let limit = (start.timeout_ms > 0).then(|| Duration::from_millis(start.timeout_ms));
        let program = self.program(start)?;
        let running = spawn::spawn(&self.0.reaper, &program, self.0.nofile)?;
        // A terminal has no pipe to close: one that takes no input is typed the end of it.
        let head = (!program.stdin && program.pty.is_some()).then_some(Ok(Input::End));
        let input = stream::iter(head).chain(Box::pin(frames.map(input)));
        let (out, events) = mpsc::channel(session::QUEUE);
        let started = Out::Started(ExecStarted { pid: running.pid.as_raw_nonzero().get() });
        tokio::spawn(session::run(Arc::clone(&self.0), running, limit, input, out));
        let output = stream::iter([started]).chain(ReceiverStream::new(events).map(output));
        Ok(Response::new(Box::pin(output.map(|frame| Ok(ExecResponse { frame: Some(frame) })))))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        files::stat(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn symlink(&self, request: Request<SymlinkRequest>) -> Result<Response<SymlinkResponse>, Status> {
        files::symlink(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn chmod(&self, request: Request<ChmodRequest>) -> Result<Response<ChangeResponse>, Status> {
        files::chmod(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn chown(&self, request: Request<ChownRequest>) -> Result<Response<ChangeResponse>, Status> {
        files::chown(&self.0, request.into_inner()).await.map(Response::new)
    }

    type ReadStream = Output<ReadResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(Response::new(Box::pin(files::read(&self.0, request.into_inner()).await?)))
    }

    async fn write_whole(
        &self,
        request: Request<WriteWholeRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        files::write_whole(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn walk(&self, request: Request<WalkRequest>) -> Result<Response<WalkResponse>, Status> {
        files::walk(&self.0, request.into_inner()).await.map(Response::new)
    }

    type GlobStream = Output<GlobResponse>;

    async fn glob(&self, request: Request<GlobRequest>) -> Result<Response<Self::GlobStream>, Status> {
        Ok(Response::new(Box::pin(files::glob(&self.0, request.into_inner()).await?)))
    }

    type GrepStream = Output<GrepResponse>;

    async fn grep(&self, request: Request<GrepRequest>) -> Result<Response<Self::GrepStream>, Status> {
        Ok(Response::new(Box::pin(files::grep(&self.0, request.into_inner()).await?)))
    }

    async fn copy(&self, request: Request<CopyRequest>) -> Result<Response<CopyResponse>, Status> {
        files::copy(&self.0, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = Output<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(files::watch(&self.0, request.into_inner()).await?)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let mut frames = request.into_inner();
        let Some(WriteRequest { frame: Some(Write::Start(start)) }) = frames.message().await? else {
            return Err(Status::invalid_argument("the first frame must be start"));
        };
        let path = paths::required(&self.0.config.data_dir, &start.path)?;
        let expected = Expected::new(start.expected_revision)?;
        let mut sink = Sink::begin(path, start.mode, expected).await?;
        while let Some(WriteRequest { frame }) = frames.message().await? {
            match frame {
                Some(Write::Data(data)) => sink = sink.write(data).await?,
                Some(Write::Finish(finish)) => {
                    let written = sink.commit(finish.expected_size).await?;
                    return Ok(Response::new(written.into()));
                }
                Some(Write::Start(_)) | None => {
                    return Err(Status::invalid_argument("only data and finish may follow the start"));
                }
            }
        }
        Err(Status::cancelled("the stream ended without finish, nothing is written"))
    }

    type ListStream = Output<ListResponse>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let ListRequest { path, recursive, max_depth } = request.into_inner();
        let path: PathBuf = paths::resolve(&self.0.config.data_dir, &path)?;
        let max_depth = if recursive { usize::try_from(max_depth).unwrap_or(usize::MAX) } else { 1 };
        let order = Order { sorted: false, max_depth };
        let walk = blocking(move || Walk::new(&path, order)).await?;
        // Walks on only when the client has taken the last batch.
        let batches = stream::try_unfold(walk, |mut walk| async {
            let batch = blocking(move || Ok((batch(&mut walk), walk))).await?;
            Ok((!batch.0.entries.is_empty() || !batch.0.problems.is_empty()).then_some(batch))
        });
        Ok(Response::new(Box::pin(batches)))
    }
}

impl V1 {
    fn program(&self, start: ExecStart) -> Result<Program, Status> {
        if self.0.is_stopping() {
            return Err(Status::unavailable("the bridge is stopping"));
        }
        let argv = match start.program {
            Some(Asked::Command(command)) if !command.is_empty() => {
                program::no_nul("a command", &command)?;
                program::shell(&command)
            }
            Some(Asked::Argv(argv)) if argv.args.first().is_some_and(|name| !name.is_empty()) => {
                argv.args.iter().try_for_each(|arg| program::no_nul("an argument", arg))?;
                argv.args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg).to_owned()).collect()
            }
            _ => return Err(Status::invalid_argument("a command or a program with arguments is required")),
        };
        let config = &self.0.config;
        let identity = if start.user.is_empty() { None } else { Some(user::find(&start.user)?) };
        let asked = start.env.iter().map(|var| program::variable(&var.name, &var.value));
        let asked = asked.collect::<Result<_, _>>()?;
        let pty = start.pty.map(|size| Size::or_default(size.cols, size.rows));
        let env =
            program::environment(start.env_clear, identity.as_ref(), pty.is_some(), asked, &config.toolkit());
        let work_dir = program::work_dir(&config.data_dir, &start.work_dir)?;
        let stdin = StdinMode::try_from(start.stdin) == Ok(StdinMode::Open);
        Ok(Program { argv, env, work_dir, identity, pty, stdin })
    }
}

fn input(frame: Result<ExecRequest, Status>) -> Result<Input, Status> {
    match frame?.frame {
        Some(In::Stdin(data)) => Ok(Input::Stdin(data)),
        Some(In::StdinEof(_)) => Ok(Input::End),
        Some(In::Resize(size)) => {
            Ok(Size::checked(size.cols, size.rows).map_or(Input::Ignored, Input::Resize))
        }
        Some(In::Signal(signal)) => {
            Ok(Signal::from_named_raw(signal.number).map_or(Input::Ignored, Input::Signal))
        }
        // A frame of a later protocol.
        Some(In::Start(_)) | None => Ok(Input::Ignored),
    }
}

fn output(event: Event) -> Out {
    match event {
        Event::Stdout(data) => Out::Stdout(data),
        Event::Stderr(data) => Out::Stderr(data),
        Event::Exited(exit) => {
            Out::Exited(ExecExited { code: exit.code, signal: exit.signal, timed_out: exit.timed_out })
        }
    }
}

fn batch(walk: &mut Walk) -> ListResponse {
    let mut response = ListResponse::default();
    for step in walk.by_ref().take(BATCH) {
        match step {
            Step::Found(found) => {
                let target = found.link_target.as_deref();
                response.entries.push(entry::full(found.path.as_os_str(), &found.stat, target));
            }
            Step::Problem(path, message) => {
                let path = Bytes::copy_from_slice(path.as_os_str().as_bytes());
                response.problems.push(ListProblem { path, message });
            }
        }
    }
    response
}
