//! What a server says without being asked.

use super::pending::{Message, Pending};
use crate::error::Result;
use crate::types::McpNotification;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The most notifications kept for readers that come later or are slow.
const MOST: usize = 1024;
/// The most bytes of them, about.
const MOST_BYTES: usize = 4 << 20;

/// The last notifications of a server, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Notices {
    kept: VecDeque<(McpNotification, usize)>,
    bytes: usize,
    /// How many there were before those that are kept.
    gone: u64,
}

impl Notices {
    /// Takes one; the oldest go when there are too many.
    pub(super) fn add(&mut self, mut message: Message, length: usize, pending: &Pending) {
        let mut caller = None;
        if let Some(token) = message.get_mut("params").and_then(|params| params.get_mut("progressToken"))
            && let Some((of, own)) = pending.progress_of(token)
        {
            caller = Some(of.to_owned());
            *token = own.clone();
        }
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let params = match message.remove("params") {
            Some(Value::Object(params)) => params.into_iter().collect(),
            _ => Default::default(),
        };
        self.kept.push_back((McpNotification { method, params, caller, missed: 0 }, length));
        self.bytes += length;
        while self.kept.len() > MOST || (self.bytes > MOST_BYTES && self.kept.len() > 1) {
            if let Some((_, length)) = self.kept.pop_front() {
                self.bytes -= length;
                self.gone += 1;
            }
        }
    }

    /// The one at this place, or the first that is still kept after it, and the place after that.
    pub(super) fn at(&self, place: u64) -> Option<(McpNotification, u64)> {
        let missed = self.gone.saturating_sub(place);
        let place = place.max(self.gone);
        let index = usize::try_from(place - self.gone).ok()?;
        let (notice, _) = self.kept.get(index)?;
        Some((McpNotification { missed, ..notice.clone() }, place + 1))
    }
}

/// The notifications of an MCP server: first those that are kept, at most 1024 and 4 MiB, then new ones as they come. It ends when the
/// server does. A reader that is too slow is told how many it has missed.
pub struct McpNotifications {
    inner: BoxStream<'static, Result<McpNotification>>,
}

impl McpNotifications {
    /// Reads by asking for the next, from the place given; none is the end.
    pub(super) fn new<F, Fut>(next: F) -> Self
    where
        F: Fn(u64) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<(McpNotification, u64)>> + Send + 'static,
    {
        let read = stream::unfold((0, next), |(place, next)| async move {
            let (notice, place) = next(place).await?;
            Some((Ok(notice), (place, next)))
        });
        Self { inner: read.boxed() }
    }
}

impl Stream for McpNotifications {
    type Item = Result<McpNotification>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl fmt::Debug for McpNotifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpNotifications").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn add(notices: &mut Notices, n: u64, length: usize) {
        let message = json!({ "method": "m", "params": { "n": n } });
        notices.add(message.as_object().unwrap().clone(), length, &Pending::default());
    }

    #[test]
    fn the_oldest_go_and_are_counted() {
        let mut notices = Notices::default();
        for n in 0..MOST as u64 + 10 {
            add(&mut notices, n, 10);
        }
        let (first, next) = notices.at(0).unwrap();
        assert_eq!((first.missed, first.params["n"].as_u64(), next), (10, Some(10), 11));
        let (second, next) = notices.at(next).unwrap();
        assert_eq!((second.missed, second.params["n"].as_u64(), next), (0, Some(11), 12));
        assert!(notices.at(MOST as u64 + 10).is_none());
        // One that is larger than all may be is told all the same.
        add(&mut notices, 0, MOST_BYTES + 1);
        assert_eq!((notices.kept.len(), notices.gone), (1, MOST as u64 + 10));
    }
}
