//! What a proxy has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Requests by kind since the proxy started or was last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests, refused ones included.
    pub requests: u64,
    /// `/v2/`, with which clients look for a registry.
    pub pings: u64,
    /// Manifests by tag or digest, GET.
    pub manifests: u64,
    /// Blobs, GET, those answered by a redirect included.
    pub blobs: u64,
    /// Manifests and blobs that were only asked about (HEAD).
    pub heads: u64,
    /// Blob requests with a Range.
    pub ranges: u64,
    /// Requests at the token service.
    pub tokens: u64,
    /// Requests that were refused for lack of a token (401).
    pub unauthorized: u64,
    /// Requests at the place that blobs are redirected to.
    pub redirected: u64,
    /// Of these, the ones that carried credentials, which is a leak.
    pub leaked_credentials: u64,
    /// Requests that met a fault which is counted (drop, status, stall, corrupt, wrong digest).
    pub faults: u64,
    /// Bytes of blobs that were passed on.
    pub blob_bytes: u64,
    /// Blob answers under way at once, the most so far.
    pub most_blobs_at_once: u64,
}

/// One request, as far as tests ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its header Range.
    pub range: Option<String>,
    /// Its conditions: If-Match or If-None-Match.
    pub condition: Option<String>,
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Every request since the last reset, in the order they came.
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) requests: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) manifests: AtomicU64,
    pub(super) blobs: AtomicU64,
    pub(super) heads: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) unauthorized: AtomicU64,
    pub(super) redirected: AtomicU64,
    pub(super) leaked_credentials: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) blob_bytes: AtomicU64,
    pub(super) most_blobs_at_once: AtomicU64,
    /// Not reported: those under way now.
    pub(super) blobs_now: AtomicU64,
}

/// Adds one.
pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: get(&self.requests),
            pings: get(&self.pings),
            manifests: get(&self.manifests),
            blobs: get(&self.blobs),
            heads: get(&self.heads),
            ranges: get(&self.ranges),
            tokens: get(&self.tokens),
            unauthorized: get(&self.unauthorized),
            redirected: get(&self.redirected),
            leaked_credentials: get(&self.leaked_credentials),
            faults: get(&self.faults),
            blob_bytes: get(&self.blob_bytes),
            most_blobs_at_once: get(&self.most_blobs_at_once),
        }
    }

    pub(super) fn reset(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for counter in [
            &self.requests,
            &self.pings,
            &self.manifests,
            &self.blobs,
            &self.heads,
            &self.ranges,
            &self.tokens,
            &self.unauthorized,
            &self.redirected,
            &self.leaked_credentials,
            &self.faults,
            &self.blob_bytes,
            &self.most_blobs_at_once,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
