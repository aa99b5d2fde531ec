use super::dial::{BridgeTarget, dial};
use super::failure;
use super::fd::{FdPlace, FdPool};
use super::lane::Lane;
use crate::error::{Error, Result};
use dunnage_bridge::bridgepb::container_service_client::ContainerServiceClient;
use dunnage_bridge::v1::InfoRequest;
use dunnage_bridge::v1::bridge_client::BridgeClient as V1Client;
use dunnage_bridge::{FD_SOCKET_NAME, MAX_MESSAGE_SIZE, features};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Code;

/// Calls on one lane before another is opened: well under what agents allow, so that long-lived ones never make short
/// ones wait.
const CALLS_PER_LANE: usize = 100;

/// What an agent is and can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentInfo {
    /// Its release; none for an agent that only has the old service.
    pub(crate) version: Option<String>,
    /// Whether it runs commands by the new service: with signals, a process id and milliseconds.
    pub(crate) exec: bool,
    /// Whether it tells the exact kinds of files, and lists without limit.
    pub(crate) file_info: bool,
    /// Whether a streamed file has an explicit end.
    pub(crate) write: bool,
    /// Whether it hands out descriptors.
    pub(crate) descriptors: bool,
    /// Whether it takes variables out of a command's environment.
    pub(crate) env_unset: bool,
    /// Whether it finds a user's shell.
    pub(crate) shell: bool,
    /// Whether it ends terminals that nobody uses.
    pub(crate) idle_timeout: bool,
    /// Whether it keeps sessions.
    pub(crate) sessions: bool,
    /// Whether it makes links and changes modes and owners.
    pub(crate) change: bool,
    /// Whether it reads parts of files.
    pub(crate) read_range: bool,
    /// Whether it knows revisions, and writes a file in one message.
    pub(crate) revision: bool,
    /// Whether it walks trees and looks for names.
    pub(crate) walk: bool,
    /// Whether it searches text.
    pub(crate) grep: bool,
    /// Whether it copies.
    pub(crate) copy: bool,
    /// Whether it watches directories.
    pub(crate) watch: bool,
}

/// What a call is about: bulk bytes travel apart, so that they never hold up a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Commands and questions.
    Control,
    /// The bytes of files.
    Bulk,
}

/// The lanes to one life of one agent.
pub(super) struct Connection {
    target: BridgeTarget,
    agent: AgentInfo,
    first: Lane,
    control: Mutex<Vec<Lane>>,
    bulk: Mutex<Vec<Lane>>,
    fd: Option<Arc<FdPool>>,
}

impl Connection {
    /// Connects and asks the agent what it is. The caller sets the time limit.
    pub(super) async fn open(target: &BridgeTarget) -> Result<Self> {
        let first = open_lane(target).await?;
        let agent = probe(&first, target).await?;
        let fd = match target {
            BridgeTarget::Socket(path) if agent.descriptors => {
                Some(FdPlace::Path(path.with_file_name(FD_SOCKET_NAME)))
            }
            BridgeTarget::Held(held) if agent.descriptors => Some(FdPlace::Held(Arc::clone(&held.bulk))),
            _ => None,
        };
        let fd = fd.map(|place| Arc::new(FdPool::new(place)));
        let control = Mutex::new(vec![first.clone()]);
        Ok(Self { target: target.clone(), agent, first, control, bulk: Mutex::default(), fd })
    }

    /// Whether the agent it was made to still holds its end.
    pub(super) fn is_open(&self) -> bool {
        self.first.is_open()
    }

    /// What the agent is and can do.
    pub(super) fn agent(&self) -> &AgentInfo {
        &self.agent
    }

    /// The descriptor socket, when the agent has one that has not failed.
    pub(super) fn fd(&self) -> Option<Arc<FdPool>> {
        self.fd.as_ref().filter(|fd| fd.is_usable()).cloned()
    }

    /// A lane with room for one more call. Opens another when all are full.
    pub(super) async fn lane(&self, class: Class) -> Result<Lane> {
        let mut lanes = match class {
            Class::Control => self.control.lock().await,
            Class::Bulk => self.bulk.lock().await,
        };
        lanes.retain(Lane::is_open);
        if let Some(lane) = lanes.iter().find(|lane| lane.calls() < CALLS_PER_LANE) {
            return Ok(lane.reserve());
        }
        let lane = open_lane(&self.target).await?;
        let reserved = lane.reserve();
        lanes.push(lane);
        Ok(reserved)
    }
}

async fn open_lane(target: &BridgeTarget) -> Result<Lane> {
    let stream = dial(target).await?;
    Lane::open(stream).await.map_err(|error| {
        Error::unavailable("the agent closed the connection at once").caused_by(error).with("address", target)
    })
}

/// Asks for the new service. An agent without it has the old one.
async fn probe(lane: &Lane, target: &BridgeTarget) -> Result<AgentInfo> {
    match v1(lane.clone()).info(InfoRequest {}).await {
        Ok(info) => {
            let info = info.into_inner();
            let has = |feature: &str| info.features.iter().any(|f| f == feature);
            Ok(AgentInfo {
                exec: has(features::EXEC),
                file_info: has(features::FILE_INFO),
                write: has(features::WRITE),
                descriptors: has(features::FD_SOCKET),
                env_unset: has(features::ENV_UNSET),
                shell: has(features::SHELL),
                idle_timeout: has(features::IDLE_TIMEOUT),
                sessions: has(features::SESSIONS),
                change: has(features::CHANGE),
                read_range: has(features::READ_RANGE),
                revision: has(features::REVISION),
                walk: has(features::WALK),
                grep: has(features::GREP),
                copy: has(features::COPY),
                watch: has(features::WATCH),
                version: Some(info.version),
            })
        }
        Err(status) if status.code() == Code::Unimplemented => Ok(AgentInfo::default()),
        Err(status) => Err(failure::error(&status).with("address", target)),
    }
}

/// A client of the new service.
pub(super) fn v1(lane: Lane) -> V1Client<Lane> {
    V1Client::with_origin(lane, http::Uri::from_static("http://bridge"))
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE)
}

/// A client of the old service.
pub(super) fn old(lane: Lane) -> ContainerServiceClient<Lane> {
    ContainerServiceClient::with_origin(lane, http::Uri::from_static("http://bridge"))
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE)
}
