use crate::types::{Event, EventType, LayerProgress, LayerState};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How far a pull is: counters that the transfer raises and the operation samples.
///
/// Counting never waits and never calls back, so progress costs the transfer nothing. Counters only rise; a transfer
/// that is repeated from its beginning shows no step backwards.
#[derive(Debug, Default)]
pub(crate) struct PullTracker {
    layers: OnceLock<Vec<Arc<LayerCounter>>>,
    /// Called when the registry is about to be asked, or is not asked at all.
    phase: AtomicU8,
}

/// How far one layer is.
#[derive(Debug)]
pub(crate) struct LayerCounter {
    digest: String,
    total: u64,
    offset: AtomicU64,
    unpacked: AtomicU64,
    state: AtomicU8,
}

const STATES: [LayerState; 5] = [
    LayerState::Waiting,
    LayerState::Downloading,
    LayerState::Extracting,
    LayerState::Done,
    LayerState::Exists,
];

impl LayerCounter {
    /// Bytes that have come, counted from the layer's beginning.
    pub(crate) fn fetched(&self, offset: u64) {
        self.offset.fetch_max(offset.min(self.total), Ordering::Relaxed);
        self.raise(LayerState::Downloading);
    }

    /// Compressed bytes that have been unpacked, counted from the layer's beginning.
    pub(crate) fn unpacked(&self, offset: u64) {
        self.unpacked.fetch_max(offset.min(self.total), Ordering::Relaxed);
    }

    /// All bytes are here.
    pub(crate) fn extracting(&self) {
        self.offset.store(self.total, Ordering::Relaxed);
        self.raise(LayerState::Extracting);
    }

    /// The layer is here and unpacked.
    pub(crate) fn done(&self) {
        self.offset.store(self.total, Ordering::Relaxed);
        self.unpacked.store(self.total, Ordering::Relaxed);
        self.raise(LayerState::Done);
    }

    /// The layer was here, unpacked, before the pull began.
    pub(crate) fn exists(&self) {
        self.done();
        self.state.store(4, Ordering::Relaxed);
    }

    fn raise(&self, state: LayerState) {
        let rank = STATES.iter().position(|s| *s == state).unwrap_or(0) as u8;
        self.state.fetch_max(rank, Ordering::Relaxed);
    }

    fn progress(&self) -> LayerProgress {
        LayerProgress {
            reference: self.digest.clone(),
            offset: self.offset.load(Ordering::Relaxed),
            total: self.total,
            unpacked: self.unpacked.load(Ordering::Relaxed),
            state: STATES[usize::from(self.state.load(Ordering::Relaxed)).min(4)],
        }
    }
}

impl PullTracker {
    /// Tells that the registry is about to be asked.
    pub(crate) fn pulling(&self) {
        self.phase.store(1, Ordering::Release);
    }

    /// Tells that the registry is not asked.
    pub(crate) fn skipped(&self) {
        self.phase.store(2, Ordering::Release);
    }

    /// Whether it is known yet: true for asked, false for skipped.
    pub(crate) fn asked(&self) -> Option<bool> {
        match self.phase.load(Ordering::Acquire) {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        }
    }

    /// Names the layers, as digest and compressed length, in the manifest's order; once. Returns their counters. A
    /// layer that the manifest names twice is counted once.
    pub(crate) fn set_layers(&self, layers: impl IntoIterator<Item = (String, u64)>) -> &[Arc<LayerCounter>] {
        self.layers.get_or_init(|| {
            let mut counters: Vec<Arc<LayerCounter>> = Vec::new();
            for (digest, total) in layers {
                if counters.iter().all(|c| c.digest != digest) {
                    counters.push(Arc::new(LayerCounter {
                        digest,
                        total,
                        offset: AtomicU64::new(0),
                        unpacked: AtomicU64::new(0),
                        state: AtomicU8::new(0),
                    }));
                }
            }
            counters
        })
    }

    /// The counter of one layer.
    pub(crate) fn layer(&self, digest: &str) -> Option<Arc<LayerCounter>> {
        self.layers.get()?.iter().find(|c| c.digest == digest).cloned()
    }

    /// A progress event of this moment, once the layers are known.
    pub(crate) fn event(&self) -> Option<Event> {
        let layers: Vec<LayerProgress> = self.layers.get()?.iter().map(|c| c.progress()).collect();
        let mut event = Event::new(EventType::PullProgress);
        event.bytes = Some(layers.iter().map(|l| l.offset).sum());
        event.total_bytes = Some(layers.iter().map(|l| l.total).sum());
        event.unpacked_bytes = Some(layers.iter().map(|l| l.unpacked).sum());
        event.layers = Some(layers);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_fall_and_states_never_go_back() {
        let tracker = PullTracker::default();
        assert!(tracker.event().is_none());
        let layers = [("a", 10), ("b", 20), ("a", 10)].map(|(d, n)| (d.to_owned(), n));
        assert_eq!(tracker.set_layers(layers).len(), 2);
        let a = tracker.layer("a").unwrap();
        a.fetched(8);
        a.fetched(3);
        assert_eq!(tracker.event().unwrap().bytes, Some(8));
        a.extracting();
        a.fetched(2);
        let shown = tracker.event().unwrap().layers.unwrap();
        assert_eq!((shown[0].offset, shown[0].state), (10, LayerState::Extracting));
        tracker.layer("b").unwrap().exists();
        a.done();
        let event = tracker.event().unwrap();
        assert_eq!((event.bytes, event.total_bytes, event.unpacked_bytes), (Some(30), Some(30), Some(30)));
        assert_eq!(event.layers.unwrap()[1].state, LayerState::Exists);
    }
}
