//! Keeping the agent small: it sits idle in every workspace.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long after the last work memory is given back.
const SETTLE: Duration = Duration::from_secs(1);

static WORKED: Notify = Notify::const_new();

/// Says that something has ended which may have needed much memory.
pub(crate) fn settle_later() {
    WORKED.notify_one();
}

/// Gives freed memory back to the system a while after each piece of work, for as long as it is polled.
pub(crate) async fn settle() {
    loop {
        WORKED.notified().await;
        sleep(SETTLE).await;
        allocator::trim();
    }
}

/// Keeps the allocator small from the start: one arena for all threads. To be called before any thread is started.
pub(crate) fn tune() {
    allocator::tune();
}

#[cfg(target_env = "gnu")]
mod allocator {
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_MMAP_THRESHOLD: i32 = -3;
    const M_ARENA_MAX: i32 = -8;

    unsafe extern "C" {
        // SAFETY: both take any numbers, may be called at any time from any thread, and touch nothing of ours.
        safe fn mallopt(param: i32, value: i32) -> i32;
        safe fn malloc_trim(pad: usize) -> i32;
    }

    pub(super) fn tune() {
        mallopt(M_ARENA_MAX, 1);
        // Chunks of files stay below it, so that they are not mapped and unmapped one by one.
        mallopt(M_MMAP_THRESHOLD, 2 << 20);
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
    }

    pub(super) fn trim() {
        malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
mod allocator {
    pub(super) fn tune() {}
    pub(super) fn trim() {}
}
