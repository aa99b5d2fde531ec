//! What becomes of tasks, as containerd tells it.

use super::client::Client;
use super::convert;
use crate::backend::{TaskChange, TaskEvent};
use crate::error::{Error, Result};
use containerd_client::events::{
    TaskCreate, TaskDelete, TaskExit as TaskExited, TaskOom, TaskPaused, TaskResumed, TaskStart,
};
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use futures::stream::{self, BoxStream, StreamExt};
use prost::{Message, Name};
use prost_types::Any;
use std::time::Duration;
use tonic::Streaming;

/// The topics of tasks (<https://github.com/containerd/containerd/blob/main/core/runtime/events.go>).
const TASKS: &str = "/tasks/";

/// The topic of the event by which a subscriber finds out that its subscription stands.
const MARK: &str = "/dunnage/watch";

/// How long a mark may be under way before another is sent.
const MARK_PAUSE: Duration = Duration::from_millis(20);

/// Subscribes, and returns when the subscription stands.
///
/// containerd says nothing when a subscription begins: its first word is the first event. So events of our own are
/// published until one comes back.
pub(super) async fn watch(client: &Client) -> Result<BoxStream<'static, TaskEvent>> {
    client
        .bounded("watch the tasks", async {
            tokio::select! {
                stream = subscribe(client) => Ok(events(client.clone(), stream?)),
                error = mark(client) => Err(error),
            }
        })
        .await
}

/// Subscribes to the tasks of the namespace; returns once a first event, of ours or of a task, has come.
async fn subscribe(client: &Client) -> Result<Streaming<Envelope>> {
    let namespace = client.namespace();
    let filters = vec![
        format!("namespace=={namespace},topic~=\"^{TASKS}\""),
        format!("namespace=={namespace},topic==\"{MARK}\""),
    ];
    let mut service = client.events();
    client
        .call_unbounded("watch the tasks", service.subscribe(client.request(SubscribeRequest { filters })))
        .await
}

/// Publishes marks until it fails.
async fn mark(client: &Client) -> Error {
    loop {
        // containerd refuses an event without a type it can store; what the mark says is in its topic.
        let event = Any { type_url: TaskOom::full_name(), value: Vec::new() };
        let request = client.request(PublishRequest { topic: MARK.to_owned(), event: Some(event) });
        let mut service = client.events();
        if let Err(error) = client.call("mark the watch of the tasks", service.publish(request)).await {
            return error;
        }
        tokio::time::sleep(MARK_PAUSE).await;
    }
}

/// The events of a subscription, until it breaks.
fn events(client: Client, stream: Streaming<Envelope>) -> BoxStream<'static, TaskEvent> {
    stream::unfold((client, stream), async |(client, mut stream)| {
        loop {
            let envelope = match stream.message().await {
                Ok(Some(envelope)) => envelope,
                Ok(None) => return None,
                Err(status) => {
                    tracing::debug!(error = %client.failed("watch the tasks", status), "the watch ended");
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

/// What an envelope tells of a first process; nothing for marks, for other processes and for what is not understood.
fn event(envelope: &Envelope) -> Option<TaskEvent> {
    let value = envelope.event.as_ref()?.value.as_slice();
    let (container, pid, change) = match envelope.topic.strip_prefix(TASKS)? {
        "create" => TaskCreate::decode(value).map(|e| (e.container_id, e.pid, TaskChange::Created)).ok()?,
        "start" => TaskStart::decode(value).map(|e| (e.container_id, e.pid, TaskChange::Started)).ok()?,
        "paused" => TaskPaused::decode(value).map(|e| (e.container_id, 0, TaskChange::Paused)).ok()?,
        "resumed" => TaskResumed::decode(value).map(|e| (e.container_id, 0, TaskChange::Resumed)).ok()?,
        "oom" => TaskOom::decode(value).map(|e| (e.container_id, 0, TaskChange::OutOfMemory)).ok()?,
        "exit" => {
            let exited = TaskExited::decode(value).ok()?;
            // The processes that are executed beside it have ids of their own.
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
