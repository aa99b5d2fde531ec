//! `dunnage.bridge.v1.Bridge`: what the old protocol cannot say.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use prost::bytes::Bytes;
use tonic::{Request, Response, Status, Streaming};

use super::held::Held;
use super::pty::{self, Size};
use super::raw::Sink;
use super::revision::Expected;
use super::state::Agent;
use super::threads::blocking;
use super::walk::{Order, Step, Walk};
use super::{attach, entry, files, paths, sessions, shell, user};
use crate::consts::features;
use crate::v1::bridge_server::Bridge;
use crate::v1::exec_request::Frame as In;
use crate::v1::write_request::Frame as Write;
use crate::v1::{
    ChangeResponse, ChmodRequest, ChownRequest, CopyRequest, CopyResponse, ExecRequest, GlobRequest,
    GlobResponse, GrepRequest, GrepResponse, InfoRequest, InfoResponse, ListProblem, ListRequest,
    ListResponse, ReadRequest, ReadResponse, SessionInfo, SessionsRequest, SessionsResponse, ShellRequest,
    ShellResponse, SignalSessionRequest, SignalSessionResponse, StatRequest, StatResponse, SymlinkRequest,
    SymlinkResponse, WaitSessionRequest, WaitSessionResponse, WalkRequest, WalkResponse, WatchRequest,
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
            features: features::ALL
                .iter()
                .filter(|feature| !self.0.config.files_only || !features::COMMANDS.contains(feature))
                .map(|&feature| feature.to_owned())
                .collect(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uptime_ms: u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            data_dir: Bytes::copy_from_slice(self.0.config.data_dir.as_os_str().as_bytes()),
            sessions: self.0.running(),
        }))
    }

    type ExecStream = attach::Frames;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut frames = request.into_inner();
        let Some(ExecRequest { frame: Some(In::Start(start)) }) = frames.message().await? else {
            return Err(Status::invalid_argument("the first frame must be start"));
        };
        attach::start(&self.0, start, frames).await.map(Response::new)
    }

    type AttachStream = attach::Frames;

    async fn attach(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut frames = request.into_inner();
        let Some(ExecRequest { frame: Some(In::Attach(asked)) }) = frames.message().await? else {
            return Err(Status::invalid_argument("the first frame must be attach"));
        };
        attach::attach(&self.0, &asked, frames).map(Response::new)
    }

    async fn sessions(
        &self,
        _request: Request<SessionsRequest>,
    ) -> Result<Response<SessionsResponse>, Status> {
        let sessions = self.0.sessions.list().iter().map(|held| session_info(held)).collect();
        Ok(Response::new(SessionsResponse { sessions }))
    }

    async fn wait_session(
        &self,
        request: Request<WaitSessionRequest>,
    ) -> Result<Response<WaitSessionResponse>, Status> {
        let WaitSessionRequest { session_id, timeout_ms } = request.into_inner();
        let held = self.0.sessions.find(&session_id)?;
        let exit = if timeout_ms == 0 {
            Some(held.wait().await)
        } else {
            tokio::time::timeout(Duration::from_millis(timeout_ms), held.wait()).await.ok()
        };
        Ok(Response::new(WaitSessionResponse { exited: exit.map(attach::exited) }))
    }

    async fn signal_session(
        &self,
        request: Request<SignalSessionRequest>,
    ) -> Result<Response<SignalSessionResponse>, Status> {
        let SignalSessionRequest { session_id, number } = request.into_inner();
        sessions::signal(&*self.0.sessions.find(&session_id)?, number)?;
        Ok(Response::new(SignalSessionResponse {}))
    }

    async fn shell(&self, request: Request<ShellRequest>) -> Result<Response<ShellResponse>, Status> {
        let ShellRequest { user } = request.into_inner();
        let identity = if user.is_empty() { None } else { Some(user::find(&user)?) };
        let found = shell::choose(identity.as_ref());
        let available = found.is_some() && pty::open(Size::or_default(0, 0)).is_ok();
        let shell = found.map(|path| Bytes::copy_from_slice(path.as_os_str().as_bytes()));
        Ok(Response::new(ShellResponse { available, shell: shell.unwrap_or_default() }))
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

fn session_info(held: &Held) -> SessionInfo {
    let (about, counts) = (&held.about, held.counts());
    SessionInfo {
        session_id: about.id.clone(),
        command: about.command.clone(),
        pid: about.pid.as_raw_nonzero().get(),
        user: about.user.clone(),
        started_at_ms: about.started_at_ms,
        exited: held.exit().map(attach::exited),
        pty: about.pty,
        attached: u32::try_from(counts.readers).unwrap_or(u32::MAX),
        stdout_bytes: counts.stdout_bytes,
        stderr_bytes: counts.stderr_bytes,
        buffered_bytes: counts.buffered_bytes as u64,
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
