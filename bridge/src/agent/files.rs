//! Calls of `dunnage.bridge.v1` about files: from a request to its answer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use futures::stream::{self, Stream};
use tonic::Status;

use super::atomic::{Replacement, Written};
use super::change::{self, Change};
use super::errors::At;
use super::long::{Gone, long};
use super::raw::Source;
use super::revision::{self, Expected};
use super::state::Agent;
use super::threads::blocking;
use super::{copy, entry, glob, grep, link, page, paths, user, watch};
use crate::v1::{
    ChangeResponse, ChmodRequest, ChownRequest, CopyRequest, CopyResponse, GlobRequest, GlobResponse,
    GrepRequest, GrepResponse, ReadRequest, ReadResponse, StatRequest, StatResponse, SymlinkRequest,
    SymlinkResponse, WalkRequest, WalkResponse, WatchRequest, WatchResponse, WriteResponse,
    WriteWholeRequest,
};

/// Most bytes of what a link says: as many as a path may have.
const MAX_TARGET: usize = 4095;

pub(crate) async fn stat(agent: &Agent, request: StatRequest) -> Result<StatResponse, Status> {
    let StatRequest { path, follow } = request;
    let path = paths::resolve(&agent.config.data_dir, &path)?;
    blocking(move || {
        let read = if follow { rustix::fs::stat(&path) } else { rustix::fs::lstat(&path) };
        let stat = read.at("describe", &path)?;
        // Fails for all but symbolic links.
        let target = if follow { None } else { std::fs::read_link(&path).ok() };
        let name = paths::base_name(&path);
        let info = Some(entry::full(name, &stat, target.as_ref().map(|target| target.as_os_str())));
        Ok(StatResponse { info, revision: revision::revision(&stat) })
    })
    .await
}

pub(crate) async fn symlink(agent: &Agent, request: SymlinkRequest) -> Result<SymlinkResponse, Status> {
    let SymlinkRequest { target, path, overwrite } = request;
    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
        return Err(Status::invalid_argument(format!("a link says 1 to {MAX_TARGET} bytes without a NUL")));
    }
    let path = paths::required(&agent.config.data_dir, &path)?;
    blocking(move || link::symlink(OsStr::from_bytes(&target), &path, overwrite)).await?;
    Ok(SymlinkResponse {})
}

pub(crate) async fn chmod(agent: &Agent, request: ChmodRequest) -> Result<ChangeResponse, Status> {
    let ChmodRequest { path, mode, recursive } = request;
    if mode > 0o7777 {
        return Err(Status::invalid_argument("a mode has permission bits only, up to octal 7777"));
    }
    changed(agent, &path, move || Ok(Change::Mode(mode)), recursive).await
}

pub(crate) async fn chown(agent: &Agent, request: ChownRequest) -> Result<ChangeResponse, Status> {
    let ChownRequest { path, owner, recursive } = request;
    let find = move || user::owner(&owner).map(|(uid, gid)| Change::Owner(uid, gid));
    changed(agent, &path, find, recursive).await
}

/// Changes a path, or a tree on a thread of its own.
async fn changed(
    agent: &Agent,
    path: &[u8],
    find: impl FnOnce() -> Result<Change, Status> + Send + 'static,
    recursive: bool,
) -> Result<ChangeResponse, Status> {
    let path = paths::required(&agent.config.data_dir, path)?;
    let entries = if recursive {
        long(move |gone| change::change(&path, find()?, true, gone)).await?
    } else {
        blocking(move || change::change(&path, find()?, false, &Gone::default())).await?
    };
    Ok(ChangeResponse { entries })
}

pub(crate) async fn read(
    agent: &Agent,
    request: ReadRequest,
) -> Result<impl Stream<Item = Result<ReadResponse, Status>> + Send + 'static, Status> {
    let path = paths::required(&agent.config.data_dir, &request.path)?;
    let source = Source::open(path, request.offset, request.length).await?;
    Ok(stream::try_unfold(source, |source| async {
        Ok(source.next().await?.map(|(data, source)| (ReadResponse { data }, source)))
    }))
}

pub(crate) async fn write_whole(agent: &Agent, request: WriteWholeRequest) -> Result<WriteResponse, Status> {
    let WriteWholeRequest { path, content, mode, expected_revision } = request;
    let path = paths::required(&agent.config.data_dir, &path)?;
    let expected = Expected::new(expected_revision)?;
    let written = blocking(move || {
        let mut new = Replacement::begin(&path, mode, expected)?;
        std::io::Write::write_all(new.file(), &content).at("write", &path)?;
        new.commit()
    });
    Ok(written.await?.into())
}

impl From<Written> for WriteResponse {
    fn from(written: Written) -> Self {
        Self { bytes_written: written.size, revision: written.revision }
    }
}

pub(crate) async fn walk(agent: &Agent, request: WalkRequest) -> Result<WalkResponse, Status> {
    let path = paths::resolve(&agent.config.data_dir, &request.path)?;
    blocking(move || page::page(&path, &request)).await
}

pub(crate) async fn glob(
    agent: &Agent,
    request: GlobRequest,
) -> Result<impl Stream<Item = Result<GlobResponse, Status>> + Send + 'static, Status> {
    let path = paths::resolve(&agent.config.data_dir, &request.path)?;
    let search = blocking(move || glob::Search::new(&path, &request)).await?;
    // Looks on only when the client has taken the last message.
    Ok(stream::try_unfold(search, |mut search| async {
        blocking(move || Ok(search.batch().map(|batch| (batch, search)))).await
    }))
}

pub(crate) async fn grep(
    agent: &Agent,
    request: GrepRequest,
) -> Result<impl Stream<Item = Result<GrepResponse, Status>> + Send + 'static, Status> {
    let path = paths::resolve(&agent.config.data_dir, &request.path)?;
    grep::begin(path, request).await
}

pub(crate) async fn copy(agent: &Agent, request: CopyRequest) -> Result<CopyResponse, Status> {
    let from = paths::required(&agent.config.data_dir, &request.from)?;
    let to = paths::required(&agent.config.data_dir, &request.to)?;
    let copied = long(move |gone| copy::copy(&from, &to, request.overwrite, gone)).await?;
    Ok(CopyResponse { entries: copied.entries, bytes: copied.bytes, skipped: copied.skipped })
}

pub(crate) async fn watch(
    agent: &Agent,
    request: WatchRequest,
) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + Send + 'static, Status> {
    let path = paths::resolve(&agent.config.data_dir, &request.path)?;
    watch::begin(path, request, agent.stopped()).await
}
