//! The rows and how they are shown.

use crate::Failure;
use crate::bed::Bed;
use crate::sample::Series;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What a row is held to. A row with several must keep them all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// Ours is at most so much, in the row's unit.
    AtMost(f64),
    /// Ours is at least so much, in the row's unit.
    AtLeast(f64),
    /// Ours is at most so many times the peer's.
    TimesPeer(f64),
    /// Ours is at least so many times the peer's.
    AtLeastTimesPeer(f64),
    /// Ours is at most so much more than the peer's, in the row's unit.
    BeyondPeer(f64),
}

impl Bar {
    fn passes(self, ours: f64, peer: Option<f64>) -> bool {
        match self {
            Self::AtMost(most) => ours <= most,
            Self::AtLeast(least) => ours >= least,
            Self::TimesPeer(most) => peer.is_some_and(|peer| peer > 0.0 && ours / peer <= most),
            Self::AtLeastTimesPeer(least) => peer.is_some_and(|peer| peer > 0.0 && ours / peer >= least),
            Self::BeyondPeer(most) => peer.is_some_and(|peer| ours - peer <= most),
        }
    }

    fn shown(self, unit: &str) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most} {unit}"),
            Self::AtLeast(least) => format!("≥ {least} {unit}"),
            Self::TimesPeer(most) => format!("≤ {most} ×"),
            Self::AtLeastTimesPeer(least) => format!("≥ {least} ×"),
            Self::BeyondPeer(most) => format!("≤ peer + {most} {unit}"),
        }
    }
}

/// One thing that was measured.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// What was done, for people.
    pub(crate) about: String,
    /// The unit of all its numbers.
    pub(crate) unit: &'static str,
    /// The library.
    pub(crate) ours: Series,
    /// The peer, if it has one.
    pub(crate) peer: Option<Series>,
    /// What it is held to; nothing for a row that only informs.
    pub(crate) bars: Vec<Bar>,
    /// What would be splendid.
    pub(crate) moonshot: Option<Bar>,
    /// What the time went into, in order, in milliseconds unless named otherwise.
    pub(crate) phases: Vec<(String, Series)>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.median();
        (peer > 0.0).then(|| self.ours.median() / peer)
    }

    fn pass(&self) -> Option<bool> {
        let (ours, peer) = (self.ours.median(), self.peer.as_ref().map(Series::median));
        (!self.bars.is_empty()).then(|| self.bars.iter().all(|bar| bar.passes(ours, peer)))
    }

    fn bar(&self) -> String {
        let bars: Vec<String> = self.bars.iter().map(|bar| bar.shown(self.unit)).collect();
        bars.join(" and ")
    }

    fn moonshot(&self) -> Option<(String, bool)> {
        let bar = self.moonshot?;
        Some((bar.shown(self.unit), bar.passes(self.ours.median(), self.peer.as_ref().map(Series::median))))
    }

    /// Adds the medians of traced steps as phases, the longest first; those below 0.05 ms together as one.
    pub(crate) fn add_calls(&mut self, calls: BTreeMap<String, Series>) {
        let mut calls: Vec<_> = calls.into_iter().collect();
        calls.sort_by(|a, b| b.1.median().total_cmp(&a.1.median()));
        self.phases.extend(calls.into_iter().filter(|(_, series)| series.median() >= 0.05));
    }

    fn json(&self) -> Value {
        let peer = self.peer.as_ref();
        let phases: serde_json::Map<String, Value> =
            self.phases.iter().map(|(name, series)| (name.clone(), json!(round(series.median())))).collect();
        json!({
            "name": self.name,
            "about": self.about,
            "unit": self.unit,
            "n": self.ours.len(),
            "ours": round(self.ours.median()),
            "p10": round(self.ours.quantile(0.1)),
            "p90": round(self.ours.quantile(0.9)),
            "peer": peer.map(|peer| round(peer.median())),
            "peer_n": peer.map(Series::len),
            "peer_p10": peer.map(|peer| round(peer.quantile(0.1))),
            "peer_p90": peer.map(|peer| round(peer.quantile(0.9))),
            "ratio": self.ratio().map(round),
            "bar": if self.bars.is_empty() { Value::Null } else { self.bar().into() },
            "pass": self.pass(),
            "moonshot": self.moonshot().map(|(text, _)| text),
            "moonshot_reached": self.moonshot().map(|(_, reached)| reached),
            "phases": phases,
        })
    }

    fn cells(&self) -> [String; 9] {
        let spread = format!("{}–{}", shown(self.ours.quantile(0.1)), shown(self.ours.quantile(0.9)));
        let dash = || "–".to_owned();
        [
            self.name.clone(),
            format!("{} {}", shown(self.ours.median()), self.unit),
            spread,
            self.peer.as_ref().map_or_else(dash, |peer| format!("{} {}", shown(peer.median()), self.unit)),
            self.ratio().map_or_else(dash, |ratio| format!("{ratio:.2} ×")),
            if self.bars.is_empty() { dash() } else { self.bar() },
            self.pass().map_or_else(dash, |pass| if pass { "yes".to_owned() } else { "NO".to_owned() }),
            self.moonshot().map_or_else(dash, |(text, reached)| {
                format!("{text}: {}", if reached { "yes" } else { "no" })
            }),
            self.ours.len().to_string(),
        ]
    }
}

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

/// The text with what is between the marks replaced; `None` without them.
fn between_marks(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{new}{END}{after}"))
}

const HEAD: [&str; 9] = ["bench", "ours", "p10–p90", "peer", "ratio", "bar", "pass", "moonshot", "n"];

/// All rows of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// In the order of measuring.
    pub(crate) rows: Vec<Row>,
    machine: String,
}

impl Report {
    /// An empty one that tells of the machine.
    pub(crate) fn new(bed: &Bed) -> Self {
        Self { rows: Vec::new(), machine: machine(bed) }
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> = (0..HEAD.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("{}\n\n", self.machine);
        for line in &lines {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        for row in &self.rows {
            let _ = write!(text, "\n{}: {}\n{}", row.name, row.about, phases(row, "  "));
        }
        text
    }

    /// For docs/performance.md.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            format!("{}\n\n| {} |\n|{}\n", self.machine, HEAD.join(" | "), "---|".repeat(HEAD.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text.push_str("\nWhat each did, and what its time went into (medians; steps may overlap):\n\n");
        for row in &self.rows {
            let _ = write!(text, "- **{}**: {}\n{}", row.name, row.about, phases(row, "  - "));
        }
        text
    }

    /// Replaces what stands between the two marks of a file by the Markdown of this run.
    ///
    /// # Errors
    /// When the file cannot be read or written, or lacks the marks.
    pub(crate) fn put_into(&self, path: &Path) -> Result<(), Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let text = between_marks(&text, &self.markdown())
            .ok_or_else(|| format!("{} needs the lines {BEGIN} and {END}", path.display()))?;
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
    }

    /// For programs.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        Ok(serde_json::to_string_pretty(&json!({ "machine": self.machine, "rows": rows }))? + "\n")
    }
}

fn phases(row: &Row, indent: &str) -> String {
    let mut text = String::new();
    for (name, series) in &row.phases {
        let _ = writeln!(text, "{indent}{name}: {}", shown(series.median()));
    }
    text
}

/// Three significant digits are what a median of twenty carries.
fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Processors, memory, kernel and containerd.
fn machine(bed: &Bed) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.trim()))
        .unwrap_or("unknown processor");
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    format!(
        "{cpus} × {model}, {} GB, Linux {}, containerd {}, load {} at the start",
        kib / 1_000_000,
        read("/proc/sys/kernel/osrelease").trim(),
        bed.containerd.version().as_str(),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, peer: f64, bars: Vec<Bar>) -> Row {
        let series = |value| {
            let mut series = Series::default();
            series.push(value);
            series
        };
        Row { ours: series(ours), peer: Some(series(peer)), bars, unit: "ms", ..Row::default() }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n";
        let new = between_marks(text, "new\n").unwrap();
        assert_eq!(new, "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n");
        assert_eq!(between_marks(&new, "old\n").as_deref(), Some(text));
        assert!(between_marks("a <!-- bench --> b", "new").is_none());
    }

    #[test]
    fn every_bar_must_hold() {
        let bars = vec![Bar::AtMost(2.0), Bar::TimesPeer(0.15)];
        assert_eq!(row(1.5, 20.0, bars.clone()).pass(), Some(true));
        assert_eq!(row(2.5, 20.0, bars.clone()).pass(), Some(false));
        assert_eq!(row(1.5, 5.0, bars.clone()).pass(), Some(false));
        assert_eq!(row(1.5, 5.0, bars).bar(), "≤ 2 ms and ≤ 0.15 ×");
        assert_eq!(row(1.5, 5.0, Vec::new()).pass(), None);
        assert_eq!(row(600.0, 1.0, vec![Bar::AtLeast(500.0)]).json()["pass"], true);
    }
}
