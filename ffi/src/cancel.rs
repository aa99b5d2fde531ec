use std::ptr::null_mut;
use tokio_util::sync::CancellationToken;

/// Cancels calls: give it to any number of them in `dunnage_call.cancel`, and trigger it from any thread.
#[derive(Debug)]
pub struct dunnage_cancel {
    pub(crate) token: CancellationToken,
}

/// Makes one that is not triggered. Never NULL, unless memory is used up.
#[unsafe(no_mangle)]
pub extern "C" fn dunnage_cancel_new() -> *mut dunnage_cancel {
    let made = std::panic::catch_unwind(|| Box::new(dunnage_cancel { token: CancellationToken::new() }));
    made.map_or(null_mut(), Box::into_raw)
}

/// Cancels every call that has it, now and later. Returns at once: the calls end by themselves, with DUNNAGE_CANCELLED.
/// Triggering it again does nothing. Not for signal handlers: it takes a lock. NULL is fine.
///
/// # Safety
/// `cancel` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_cancel_trigger(cancel: *const dunnage_cancel) {
    // SAFETY: NULL or alive, by the caller's promise.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        // A waker that panics is a fault of the runtime below; it must not cross into C.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cancel.token.cancel()));
    }
}

/// Whether it was triggered: 1 or 0. 0 for NULL.
///
/// # Safety
/// `cancel` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_cancel_is_triggered(cancel: *const dunnage_cancel) -> i32 {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { cancel.as_ref() }.is_some_and(|c| c.token.is_cancelled()).into()
}

/// Frees it, without triggering it. Calls that have it go on, and cannot be cancelled by it any more. NULL is fine.
///
/// # Safety
/// `cancel` is NULL or came from dunnage_cancel_new, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_cancel_free(cancel: *mut dunnage_cancel) {
    if !cancel.is_null() {
        // SAFETY: made by Box::into_raw above, by the caller's promise.
        drop(unsafe { Box::from_raw(cancel) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::UserData;

    #[test]
    fn a_trigger_stays_and_outlives_its_owner() {
        let cancel = dunnage_cancel_new();
        // SAFETY: made above, alive until the free; NULL is fine everywhere.
        unsafe {
            let token = (*cancel).token.child_token();
            assert_eq!(dunnage_cancel_is_triggered(cancel), 0);
            let shared = UserData(cancel.cast());
            let other = std::thread::spawn(move || {
                let shared = shared;
                dunnage_cancel_trigger(shared.0.cast());
            });
            other.join().unwrap();
            dunnage_cancel_trigger(cancel);
            assert_eq!(dunnage_cancel_is_triggered(cancel), 1);
            dunnage_cancel_free(cancel);
            assert!(token.is_cancelled());
            dunnage_cancel_trigger(std::ptr::null());
            assert_eq!(dunnage_cancel_is_triggered(std::ptr::null()), 0);
            dunnage_cancel_free(null_mut());
        }
    }

    #[test]
    fn a_free_triggers_nothing() {
        let cancel = dunnage_cancel_new();
        // SAFETY: made above, not used after the free.
        let token = unsafe {
            let token = (*cancel).token.child_token();
            dunnage_cancel_free(cancel);
            token
        };
        assert!(!token.is_cancelled());
    }
}
