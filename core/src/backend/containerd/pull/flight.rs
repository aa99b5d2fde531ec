//! Equal pulls at the same time are one pull: each caller sees its progress, and it goes on as long as one wants it.

use super::run::run;
use crate::backend::containerd::client::Client;
use crate::backend::{PullRequest, PullTracker, Pulled};
use crate::config::{Credential, RegistryConfig};
use crate::error::{Error, Result};
use crate::registry::Platform;
use crate::types::LayerState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often progress is copied to the callers.
const TICK: Duration = Duration::from_millis(25);

/// What makes two pulls equal.
#[derive(PartialEq)]
struct Key {
    address: String,
    namespace: String,
    image: String,
    platform: Platform,
    snapshotter: String,
    credential: Option<Credential>,
    config: String,
}

type Outcome = Arc<Result<Pulled>>;

/// A pull under way.
struct Flight {
    key: Key,
    tracker: Arc<PullTracker>,
    cancel: CancellationToken,
    callers: Mutex<usize>,
    outcome: watch::Receiver<Option<Outcome>>,
}

static FLIGHTS: Mutex<Vec<Arc<Flight>>> = Mutex::new(Vec::new());

fn flights() -> MutexGuard<'static, Vec<Arc<Flight>>> {
    FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller's part in a flight. The last one to go cancels it.
struct Seat(Arc<Flight>);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = flights();
        let mut callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        *callers -= 1;
        if *callers == 0 {
            flights.retain(|flight| !Arc::ptr_eq(flight, &self.0));
            self.0.cancel.cancel();
        }
    }
}

/// Pulls, or waits for the equal pull that is under way.
pub(super) async fn join(
    client: &Client,
    config: &RegistryConfig,
    request: &PullRequest,
    platform: Platform,
    tracker: &PullTracker,
    cancel: &CancellationToken,
) -> Result<Pulled> {
    let seat = seat(client, config, request, platform);
    let mut outcome = seat.0.outcome.clone();
    let shown = seat.0.tracker.clone();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let changed = tokio::select! {
            biased;
            changed = outcome.changed() => changed.is_ok(),
            () = cancel.cancelled() => {
                let flight = seat.0.clone();
                drop(seat);
                if !flight.cancel.is_cancelled() {
                    return Err(super::cancelled());
                }
                // Nobody else wants it: it is undone before the caller hears.
                let _ = outcome.wait_for(Option::is_some).await;
                break;
            }
            _ = tick.tick() => {
                mirror(&shown, tracker);
                true
            }
        };
        if !changed || outcome.borrow().is_some() {
            break;
        }
    }
    let done = outcome.borrow().clone();
    mirror(&shown, tracker);
    let Some(done) = done else { return Err(Error::unexpected("the task of a pull broke")) };
    match &*done {
        Ok(pulled) => Ok(pulled.clone()),
        Err(error) => Err(again(error)),
    }
}

fn seat(client: &Client, config: &RegistryConfig, request: &PullRequest, platform: Platform) -> Seat {
    let key = Key {
        address: client.address().to_owned(),
        namespace: client.namespace().to_owned(),
        image: request.image.to_string(),
        platform: platform.clone(),
        snapshotter: request.snapshotter.clone(),
        credential: request.credential.clone(),
        // Two engines of one process may have different hosts and credentials.
        config: serde_json::to_string(config).unwrap_or_default(),
    };
    let mut flights = flights();
    let open = flights.iter().find(|flight| flight.key == key && flight.outcome.borrow().is_none());
    if let Some(flight) = open {
        *flight.callers.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        return Seat(flight.clone());
    }
    let (tell, outcome) = watch::channel(None);
    let flight = Arc::new(Flight {
        key,
        tracker: Arc::new(PullTracker::default()),
        cancel: CancellationToken::new(),
        callers: Mutex::new(1),
        outcome,
    });
    flights.push(flight.clone());
    let (client, config, request) = (client.clone(), config.clone(), request.clone());
    let (flying, cancel) = (flight.clone(), flight.cancel.clone());
    tokio::spawn(async move {
        let done = run(&client, &config, &request, &platform, flying.tracker.clone(), &cancel).await;
        self::flights().retain(|flight| !Arc::ptr_eq(flight, &flying));
        // All callers may have gone.
        let _ = tell.send(Some(Arc::new(done)));
    });
    Seat(flight)
}

/// Brings one tracker to where another is.
fn mirror(from: &PullTracker, to: &PullTracker) {
    let Some(layers) = from.event().and_then(|event| event.layers) else { return };
    to.set_layers(layers.iter().map(|layer| (layer.reference.clone(), layer.total)));
    for layer in &layers {
        let Some(counter) = to.layer(&layer.reference) else { continue };
        counter.unpacked(layer.unpacked);
        match layer.state {
            LayerState::Waiting => {}
            LayerState::Downloading => counter.fetched(layer.offset),
            LayerState::Extracting => counter.extracting(),
            LayerState::Done => counter.done(),
            LayerState::Exists => counter.exists(),
        }
    }
}

/// The error of a shared pull, once more.
fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message_with_cause()).in_operation(error.operation());
    error.context().fold(copy, |copy, (key, value)| copy.with(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_tracker_shows_the_same() {
        let (from, to) = (PullTracker::default(), PullTracker::default());
        mirror(&from, &to);
        assert!(to.event().is_none());
        from.set_layers(["a", "b", "c", "d"].map(|digest| (digest.to_owned(), 10)));
        from.layer("a").unwrap().fetched(4);
        from.layer("a").unwrap().unpacked(2);
        from.layer("b").unwrap().extracting();
        from.layer("c").unwrap().done();
        from.layer("d").unwrap().exists();
        mirror(&from, &to);
        assert_eq!(from.event(), to.event());
    }
}
