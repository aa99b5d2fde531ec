//! Listens to what the library traces: how long each of its steps took.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::Failure;
use crate::sample::Series;

/// The steps since the last [`Calls::clear`]: what was done, and the microseconds it took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<(String, u64)>>>);

/// Begins to listen, for the whole process.
///
/// # Errors
/// When somebody listens already.
pub(crate) fn install() -> Result<Calls, Failure> {
    let calls = Calls::default();
    tracing::subscriber::set_global_default(calls.clone())?;
    Ok(calls)
}

impl Calls {
    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes what was heard and adds it to `series`, in milliseconds; a step that came several times counts as their sum.
    pub(crate) fn take_into(&self, series: &mut BTreeMap<String, Series>) {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (doing, micros) in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            *sums.entry(doing).or_default() += micros;
        }
        for (doing, micros) in sums {
            series.entry(doing).or_default().push(micros as f64 / 1e3);
        }
    }
}

/// The two fields of a traced step.
#[derive(Default)]
struct Step {
    doing: Option<String>,
    micros: Option<u64>,
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "doing" {
            self.doing = Some(value.to_owned());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "micros" {
            self.micros = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Calls {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::TRACE && metadata.target().starts_with("dunnage")
    }

    fn event(&self, event: &Event<'_>) {
        let mut step = Step::default();
        event.record(&mut step);
        if let (Some(doing), Some(micros)) = (step.doing, step.micros) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((doing, micros));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
