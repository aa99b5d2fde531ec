//! The life of a workspace: one operation a file.
//!
//! Every multi-step write holds the workspace's lock, first finishes or undoes what an earlier process left in the
//! journal, and enters its own generated names there before it makes anything.

mod boot;
mod bridge;
mod create;
pub(crate) mod data;
mod delete;
mod ends;
#[cfg(test)]
mod events_tests;
mod gc;
mod info;
mod journal;
mod layout;
mod limits;
mod list;
mod lost;
mod metrics;
mod options;
mod reconcile;
mod recover;
mod recreate;
mod resolve;
mod restart;
#[cfg(test)]
mod restart_tests;
mod seed;
pub(crate) mod snapshots;
mod start;
mod stop;
#[cfg(test)]
mod tests;

pub(crate) use bridge::{bridge, files_at_rest};
pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use ends::take_ends;
pub(crate) use gc::gc;
pub(crate) use info::info;
pub(crate) use limits::set_limits;
pub(crate) use list::{filters, list};
pub(crate) use lost::complete_records;
pub use metrics::MetricsStream;
pub(crate) use metrics::{follow, metrics};
pub(crate) use reconcile::reconcile;
pub(crate) use recover::{recover_all, recover_later};
pub(crate) use recreate::recreate;
pub(crate) use restart::Restarting;
pub(crate) use start::{ensure_running, start};
pub(crate) use stop::stop;

use std::time::{Duration, Instant};

/// Milliseconds since an instant.
fn millis(since: Instant) -> u64 {
    whole_millis(since.elapsed())
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
