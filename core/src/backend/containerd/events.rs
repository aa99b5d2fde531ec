//! What becomes of containers and tasks, as containerd tells it.
//!
//! containerd tells a change of a record before it answers the request for it, and tells every subscriber everything in one
//! order (<https://github.com/containerd/containerd/blob/main/core/events/exchange/exchange.go>); so an event of our
//! own, published after an answer has come, is told after the change. What shims report of tasks comes when it comes.

use super::client::Client;
use super::convert;
use crate::backend::{BackendEvent, TaskChange, TaskEvent};
use crate::error::{Error, Result};
use containerd_client::events::{
    ContainerCreate, ContainerDelete, ContainerUpdate, TaskCreate, TaskDelete, TaskExit as TaskExited,
    TaskOom, TaskPaused, TaskResumed, TaskStart,
};
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use prost::{Message, Name};
use prost_types::Any;
use std::time::Duration;
use tonic::Streaming;

/// The topics of container records and of tasks
/// (<https://github.com/containerd/containerd/blob/main/core/runtime/events.go>).
const CONTAINERS: &str = "/containers/";
const TASKS: &str = "/tasks/";

/// The topic of marks, which only this library publishes.
const MARKS: &str = "/dunnage/mark";

/// How long a first mark may be under way before another is set.
const FIRST_MARK: Duration = Duration::from_millis(20);

/// Subscribes, and returns when the subscription stands.
///
/// containerd says nothing when a subscription begins: its first word is the first event. So marks are set until one
/// comes back.
pub(super) async fn watch(client: &Client) -> Result<BoxStream<'static, BackendEvent>> {
    client
        .bounded("watch the containers", async {
            tokio::select! {
                stream = subscribe(client) => Ok(events(client.clone(), stream?)),
                error = mark_until_it_fails(client) => Err(error),
            }
        })
        .await
}

/// Subscribes to what happens in the namespace; returns once a first event has come.
async fn subscribe(client: &Client) -> Result<Streaming<Envelope>> {
    let namespace = client.namespace();
    let topics = [CONTAINERS, TASKS, MARKS];
    let filters =
        topics.iter().map(|topic| format!("namespace==\"{namespace}\",topic~=\"^{topic}\"")).collect();
    let mut service = client.events();
    let request = client.request(SubscribeRequest { filters });
    client.call_unbounded("watch the containers", service.subscribe(request)).await
}

async fn mark_until_it_fails(client: &Client) -> Error {
    loop {
        if let Err(error) = mark(client, "").await {
            return error;
        }
        tokio::time::sleep(FIRST_MARK).await;
    }
}

/// Publishes a mark. It travels in an event of a type that containerd knows; that it is none, its topic says.
pub(super) async fn mark(client: &Client, mark: &str) -> Result<()> {
    let value = TaskOom { container_id: mark.to_owned() }.encode_to_vec();
    let event = Any { type_url: TaskOom::full_name(), value };
    let request = client.request(PublishRequest { topic: MARKS.to_owned(), event: Some(event) });
    let mut service = client.events();
    client.call("set a mark", service.publish(request)).await
}

/// The events of a subscription, until it breaks.
fn events(client: Client, stream: Streaming<Envelope>) -> BoxStream<'static, BackendEvent> {
    stream::unfold((client, stream), async |(client, mut stream)| {
        loop {
            let envelope = match stream.message().await {
                Ok(Some(envelope)) => envelope,
                Ok(None) => return None,
                Err(status) => {
                    let error = client.failed("watch the containers", status);
                    tracing::debug!(%error, "the watch ended");
                    return None;
                }
            };
            if let Some(event) = event(&envelope) {
                return Some((event, (client, stream)));
            }
        }
    })
    .boxed()
}

/// What an envelope tells; nothing where it cannot be read.
fn event(envelope: &Envelope) -> Option<BackendEvent> {
    let value = envelope.event.as_ref()?.value.as_slice();
    let topic = envelope.topic.as_str();
    if topic == MARKS {
        return TaskOom::decode(value).ok().map(|mark| BackendEvent::Mark(mark.container_id));
    }
    if let Some(change) = topic.strip_prefix(CONTAINERS) {
        let id = match change {
            "create" => ContainerCreate::decode(value).ok()?.id,
            "update" => ContainerUpdate::decode(value).ok()?.id,
            "delete" => ContainerDelete::decode(value).ok()?.id,
            _ => return None,
        };
        return Some(BackendEvent::Container(id));
    }
    let at = convert::timestamp(envelope.timestamp);
    task_event(topic.strip_prefix(TASKS)?, value, at).map(BackendEvent::Task)
}

/// What is told of a first process; nothing for the processes that are executed beside it. `at` is when it was told, to
/// every subscriber the same.
fn task_event(change: &str, value: &[u8], at: Timestamp) -> Option<TaskEvent> {
    let (container, pid, change) = match change {
        "create" => TaskCreate::decode(value).map(|e| (e.container_id, e.pid, TaskChange::Created)).ok()?,
        "start" => TaskStart::decode(value).map(|e| (e.container_id, e.pid, TaskChange::Started)).ok()?,
        "paused" => TaskPaused::decode(value).map(|e| (e.container_id, 0, TaskChange::Paused)).ok()?,
        "resumed" => TaskResumed::decode(value).map(|e| (e.container_id, 0, TaskChange::Resumed)).ok()?,
        "oom" => TaskOom::decode(value).map(|e| (e.container_id, 0, TaskChange::OutOfMemory(at))).ok()?,
        "exit" => {
            let exited = TaskExited::decode(value).ok()?;
            // Those beside it have ids of their own.
            if exited.id != exited.container_id {
                return None;
            }
            let exit = convert::task_exit(exited.exit_status, exited.exited_at);
            (exited.container_id, exited.pid, TaskChange::Exited(exit))
        }
        "delete" => TaskDelete::decode(value).map(|e| (e.container_id, e.pid, TaskChange::Deleted)).ok()?,
        _ => return None,
    };
    Some(TaskEvent { container, pid, change })
}
