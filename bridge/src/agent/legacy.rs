//! `bridgepb.ContainerService`, as hosts have always spoken it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::atomic::{Replacement, make_dirs};
use super::errors::At;
use super::feed::Input;
use super::long::long;
use super::program::{self, Program};
use super::pty::Size;
use super::raw::{Sink, Source};
use super::revision::Expected;
use super::session::{self, Event, Exit, Limits};
use super::state::Agent;
use super::threads::{blocking, starting};
use super::walk::{Order, Step, Walk};
use super::{entry, paths, read_text, remove, replay, spawn};
use crate::bridgepb::container_service_server::ContainerService;
use crate::bridgepb::exec_output::Stream as Kind;
use crate::bridgepb::{
    DataChunk, DeleteFileRequest, DeleteFileResponse, ExecInput, ExecOutput, ListDirRequest, ListDirResponse,
    MkdirRequest, MkdirResponse, ReadFileRequest, ReadFileResponse, ReadRawRequest, RenameRequest,
    RenameResponse, StatRequest, StatResponse, WriteFileRequest, WriteFileResponse, WriteRawChunk,
    WriteRawResponse,
};
use crate::consts::{DEFAULT_EXEC_TIMEOUT, MAX_MESSAGE_SIZE, TIMEOUT_EXIT_CODE};

/// The service.
pub(crate) struct Legacy(pub(crate) Arc<Agent>);

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Legacy {
    fn path(&self, raw: &str) -> Result<PathBuf, Status> {
        paths::required(&self.0.config.data_dir, raw.as_bytes())
    }
}

#[tonic::async_trait]
impl ContainerService for Legacy {
    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let request = request.into_inner();
        let path = self.path(&request.path)?;
        blocking(move || read_text::read(&path, request.line_offset, request.n_lines))
            .await
            .map(Response::new)
    }

    async fn write_file(
        &self,
        request: Request<WriteFileRequest>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let WriteFileRequest { path, content } = request.into_inner();
        let path = self.path(&path)?;
        blocking(move || {
            let mut new = Replacement::begin(&path, None, Expected::default())?;
            std::io::Write::write_all(new.file(), &content).at("write", &path)?;
            new.commit()
        })
        .await?;
        Ok(Response::new(WriteFileResponse {}))
    }

    async fn list_dir(&self, request: Request<ListDirRequest>) -> Result<Response<ListDirResponse>, Status> {
        let ListDirRequest { path, recursive } = request.into_inner();
        let path = paths::resolve(&self.0.config.data_dir, path.as_bytes())?;
        let order = Order { sorted: true, max_depth: usize::from(!recursive) };
        blocking(move || {
            let (mut entries, mut size) = (Vec::new(), 0);
            for step in Walk::new(&path, order)? {
                // What cannot be read is skipped: this protocol has no way to say so.
                let Step::Found(found) = step else { continue };
                let entry = entry::legacy(found.path.as_os_str(), &found.stat);
                // Each entry has a tag and a length of at most five bytes around it.
                size += entry.encoded_len() + 6;
                if size > MAX_MESSAGE_SIZE {
                    return Err(Status::resource_exhausted(format!(
                        "{} holds more than one message can carry: list its directories one by one, or use \
                         dunnage.bridge.v1",
                        path.display()
                    )));
                }
                entries.push(entry);
            }
            Ok(Response::new(ListDirResponse { entries }))
        })
        .await
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        let path = self.path(&request.into_inner().path)?;
        blocking(move || {
            let stat = rustix::fs::stat(&path).at("describe", &path)?;
            let entry = Some(entry::legacy(paths::base_name(&path), &stat));
            Ok(Response::new(StatResponse { entry }))
        })
        .await
    }

    async fn mkdir(&self, request: Request<MkdirRequest>) -> Result<Response<MkdirResponse>, Status> {
        let path = self.path(&request.into_inner().path)?;
        blocking(move || make_dirs(&path)).await?;
        Ok(Response::new(MkdirResponse {}))
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Result<Response<RenameResponse>, Status> {
        let RenameRequest { old_path, new_path } = request.into_inner();
        let (from, to) = (self.path(&old_path)?, self.path(&new_path)?);
        blocking(move || remove::rename(&from, &to)).await?;
        Ok(Response::new(RenameResponse {}))
    }

    type ExecStream = Output<ExecOutput>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut frames = request.into_inner();
        let Some(first) = frames.message().await? else {
            return Err(Status::invalid_argument("the first message must describe the command"));
        };
        let agent = Arc::clone(&self.0);
        starting(move || start(agent, first, frames)).await.map(Response::new)
    }

    type ReadRawStream = Output<DataChunk>;

    async fn read_raw(
        &self,
        request: Request<ReadRawRequest>,
    ) -> Result<Response<Self::ReadRawStream>, Status> {
        let source = Source::open(self.path(&request.into_inner().path)?, 0, None).await?;
        let chunks = stream::try_unfold(source, |source| async {
            Ok(source.next().await?.map(|(data, source)| (DataChunk { data }, source)))
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn write_raw(
        &self,
        request: Request<Streaming<WriteRawChunk>>,
    ) -> Result<Response<WriteRawResponse>, Status> {
        let mut chunks = request.into_inner();
        let Some(first) = chunks.message().await? else {
            return Err(Status::invalid_argument("the first chunk must name the path"));
        };
        let mut sink = Sink::begin(self.path(&first.path)?, None, Expected::default()).await?;
        let mut next = Some(first.data);
        while let Some(data) = next {
            if !data.is_empty() {
                sink = sink.write(data).await?;
            }
            // A stream that breaks off ends here, and the unfinished file goes.
            next = chunks.message().await?.map(|chunk| chunk.data);
        }
        let bytes_written = i64::try_from(sink.commit(None).await?.size).unwrap_or(i64::MAX);
        Ok(Response::new(WriteRawResponse { bytes_written }))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> Result<Response<DeleteFileResponse>, Status> {
        let DeleteFileRequest { path, recursive } = request.into_inner();
        let path = self.path(&path)?;
        if recursive {
            long(move |_| remove::delete(&path, true)).await?;
        } else {
            blocking(move || remove::delete(&path, false)).await?;
        }
        Ok(Response::new(DeleteFileResponse {}))
    }
}

fn start(
    agent: Arc<Agent>,
    first: ExecInput,
    frames: Streaming<ExecInput>,
) -> Result<Output<ExecOutput>, Status> {
    agent.check_commands()?;
    let counted = agent.enter();
    let program = program(&agent, &first)?;
    let limit = limit(first.timeout_seconds, first.pty);
    let limits = Limits { total: limit, idle: None };
    let running = spawn::spawn(&agent.reaper, &program, agent.nofile)?;
    // The first message may bring input too; its size is the terminal's already.
    let head = (!first.stdin_data.is_empty()).then_some(Ok(Input::Stdin(first.stdin_data)));
    let input = stream::iter(head).chain(frames.flat_map(|frame| stream::iter(inputs(frame))));
    let (out, events) = mpsc::channel(session::QUEUE);
    tokio::spawn(session::run(agent, counted, running, limits, input, out));
    let output =
        ReceiverStream::new(events).flat_map(move |event| stream::iter(outputs(event, limit)).map(Ok));
    Ok(Box::pin(output))
}

fn program(agent: &Agent, first: &ExecInput) -> Result<Program, Status> {
    if first.command.is_empty() {
        return Err(Status::invalid_argument("a command is required in the first message"));
    }
    if agent.is_stopping() {
        return Err(Status::unavailable("the bridge is stopping"));
    }
    program::no_nul("a command", first.command.as_bytes())?;
    let config = &agent.config;
    let asked = first.env.iter().map(|entry| program::assignment(entry)).collect::<Result<_, _>>()?;
    let pty = first.pty.then(|| {
        let size = first.resize.unwrap_or_default();
        Size::or_default(size.cols, size.rows)
    });
    Ok(Program {
        argv: if first.pty {
            program::terminal_command(&first.command)
        } else {
            program::shell(first.command.as_bytes())
        },
        env: program::environment(false, &[], None, first.pty, asked, &config.toolkit()),
        work_dir: program::work_dir(&config.data_dir, first.work_dir.as_bytes())?,
        identity: None,
        pty,
        stdin: true,
    })
}

/// The time limit: the number of seconds; 0 is the default, but none for a terminal; below 0 is none.
fn limit(seconds: i32, terminal: bool) -> Option<Duration> {
    match u64::try_from(seconds) {
        Ok(0) if terminal => None,
        Ok(0) => Some(DEFAULT_EXEC_TIMEOUT),
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => None,
    }
}

/// What a message after the first means: a size, bytes, or both.
fn inputs(frame: Result<ExecInput, Status>) -> Vec<Result<Input, Status>> {
    let frame = match frame {
        Ok(frame) => frame,
        Err(status) => return vec![Err(status)],
    };
    let size = frame.resize.and_then(|size| Size::checked(size.cols, size.rows)).map(Input::Resize);
    let data = (!frame.stdin_data.is_empty()).then_some(Input::Stdin(frame.stdin_data));
    size.into_iter().chain(data).map(Ok).collect()
}

/// What an event is on the wire. This protocol cannot say that the time limit ended a command, so a line on standard
/// error does, and the exit code is 124.
fn outputs(event: Event, limit: Option<Duration>) -> Vec<ExecOutput> {
    let output = |stream: Kind, data: Bytes| ExecOutput { stream: stream.into(), data, exit_code: 0 };
    let exited = |exit_code| ExecOutput { stream: Kind::Exit.into(), data: Bytes::new(), exit_code };
    match event {
        Event::Output(replay::Kind::Stdout, data) => vec![output(Kind::Stdout, data)],
        Event::Output(replay::Kind::Stderr, data) => vec![output(Kind::Stderr, data)],
        Event::Exited(Exit { timed_out: false, code, .. }) => vec![exited(code)],
        Event::Exited(Exit { timed_out: true, .. }) => {
            let seconds = limit.unwrap_or_default().as_secs();
            let note = format!("bridge: the command was ended by its time limit of {seconds} s\n");
            vec![output(Kind::Stderr, note.into()), exited(TIMEOUT_EXIT_CODE)]
        }
    }
}
