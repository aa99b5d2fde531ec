//! A log that keeps nothing back.
#![allow(clippy::print_stderr, reason = "stderr is where it goes")]

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes every record of every level, with all its fields, to stderr: for a process of its own, whose output somebody
/// else looks through.
pub(crate) struct Everything(AtomicU64);

impl Everything {
    /// Makes it the log of this process.
    pub(crate) fn install() {
        tracing::subscriber::set_global_default(Self(AtomicU64::new(1))).unwrap();
    }
}

/// One record as text.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

fn tell(metadata: &Metadata<'_>, fill: impl FnOnce(&mut Line)) {
    let mut line = Line(format!("log {} {}", metadata.level(), metadata.target()));
    fill(&mut line);
    eprintln!("{}", line.0);
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        tell(span.metadata(), |line| span.record(line));
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("log".to_owned());
        values.record(&mut line);
        eprintln!("{}", line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        tell(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
