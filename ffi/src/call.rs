use crate::buffer::c_string;
use crate::cancel::dunnage_cancel;
use dunnage::types::Event;
use dunnage::{CallOptions, Error, Result};
use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::ptr::{addr_of, null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Takes one event as JSON; the text lives until it returns. A negative return cancels the call.
///
/// Called on a thread of the library, one event at a time and in order; progress that comes while it works is coalesced.
/// It may block and call the library. It must not throw or longjmp.
pub type dunnage_event_fn = Option<unsafe extern "C" fn(event: *const c_char, user_data: *mut c_void) -> i32>;

/// Lets go of `user_data`. Called exactly once, after the last event and before the call returns, or, for
/// dunnage_submit, after `on_done`; also when the call fails at once. Only when `struct_size` is wrong it is not called.
pub type dunnage_finalizer_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// What goes with a call besides its options: who watches, who may cancel, and how long it may take. NULL stands for
/// nobody and no limit. Begin with DUNNAGE_CALL_INIT; later versions of the library may add fields at its end.
#[repr(C)]
#[derive(Debug)]
pub struct dunnage_call {
    /// `sizeof(dunnage_call)`.
    pub struct_size: usize,
    /// Takes events; NULL for none.
    pub on_event: dunnage_event_fn,
    /// Passed to `on_event` and `finalizer`.
    pub user_data: *mut c_void,
    /// Lets go of `user_data`; NULL when there is nothing to do.
    pub finalizer: dunnage_finalizer_fn,
    /// Cancels the call; NULL for none. It stays the caller's, and may be freed while the call runs.
    pub cancel: *const dunnage_cancel,
    /// Milliseconds after which the call is undone and ends in DUNNAGE_TIMEOUT; 0 for no limit.
    pub time_limit_ms: u64,
}

/// The least a header of this ABI can have: no field of today may be missing.
const SMALLEST: usize = size_of::<dunnage_call>();
/// What no later version will reach; more is garbage.
const LARGEST: usize = 4096;

/// A pointer of the host, which says that any thread may carry it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserData(pub(crate) *mut c_void);

// SAFETY: the library never looks at what it points to; the host promises that its callbacks may run on other threads.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// A checked call: runs the finalizer when dropped.
#[derive(Debug)]
pub(crate) struct Call {
    options: CallOptions,
    token: CancellationToken,
    sink: Option<Arc<Sink>>,
    finalizer: dunnage_finalizer_fn,
    user_data: UserData,
}

/// Where events go, until the call ends.
#[derive(Debug)]
struct Sink {
    callback: Mutex<dunnage_event_fn>,
    user_data: UserData,
    token: CancellationToken,
}

impl Call {
    /// Reads and checks what the host gave.
    ///
    /// # Safety
    /// `call` is NULL or points to `struct_size` bytes; its cancel is NULL or alive.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a wrong size, or for fields that this version of the library does not know.
    pub(crate) unsafe fn read(call: *const dunnage_call) -> Result<Self> {
        if call.is_null() {
            return Ok(Self::none());
        }
        // SAFETY: not NULL, so at least the size can be read, by the caller's promise.
        let size = unsafe { addr_of!((*call).struct_size).read() };
        if !(SMALLEST..=LARGEST).contains(&size) {
            return Err(Error::invalid_argument("wrong struct_size: begin with DUNNAGE_CALL_INIT")
                .with("struct_size", size)
                .with("expected", SMALLEST));
        }
        // SAFETY: `size` bytes are there, by the caller's promise, and cover the struct.
        let (given, rest) = unsafe {
            let rest = call.cast::<u8>().add(SMALLEST);
            (call.read(), std::slice::from_raw_parts(rest, size - SMALLEST))
        };
        // From here the finalizer runs, whatever comes.
        let mut this = Self::none();
        this.finalizer = given.finalizer;
        this.user_data = UserData(given.user_data);
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Error::invalid_argument(
                "the call has fields that this version of the library does not know: update the library",
            )
            .with("struct_size", size));
        }
        // SAFETY: NULL or alive, by the caller's promise.
        if let Some(cancel) = unsafe { given.cancel.as_ref() } {
            // A child: the callback's own way to cancel must not reach other calls.
            this.token = cancel.token.child_token();
        }
        let mut options = CallOptions::default().cancel_token(this.token.clone());
        if given.time_limit_ms > 0 {
            options = options.time_limit(Duration::from_millis(given.time_limit_ms));
        }
        if given.on_event.is_some() {
            let sink = Arc::new(Sink {
                callback: Mutex::new(given.on_event),
                user_data: this.user_data,
                token: this.token.clone(),
            });
            this.sink = Some(sink.clone());
            options = options.on_event(move |event| sink.take(&event));
        }
        this.options = options;
        Ok(this)
    }

    fn none() -> Self {
        let token = CancellationToken::new();
        Self {
            options: CallOptions::default().cancel_token(token.clone()),
            token,
            sink: None,
            finalizer: None,
            user_data: UserData(null_mut()),
        }
    }

    /// The options as the library takes them.
    pub(crate) fn options(&self) -> CallOptions {
        self.options.clone()
    }

    /// What cancels the call, and later what was made by it.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(sink) = &self.sink {
            // Waits for a callback that still runs; none comes after it.
            sink.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        if let Some(finalizer) = self.finalizer.take() {
            // SAFETY: the host promises that it may be called with its own pointer; it is taken, so once.
            unsafe { finalizer(self.user_data.0) };
        }
    }
}

impl Sink {
    fn take(&self, event: &Event) {
        let Ok(json) = serde_json::to_string(event) else { return };
        let json = c_string(json);
        let callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(callback) = *callback else { return };
        // SAFETY: the host promises that it may be called with a text and its own pointer, until the finalizer ran.
        if unsafe { callback(json.as_ptr(), self.user_data.0) } < 0 {
            self.token.cancel();
        }
    }
}

impl Default for dunnage_call {
    fn default() -> Self {
        Self {
            struct_size: size_of::<Self>(),
            on_event: None,
            user_data: null_mut(),
            finalizer: None,
            cancel: null(),
            time_limit_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunnage::ErrorKind;
    use std::ffi::CStr;

    /// What a host keeps: the events it got, its answer to each, how often it was let go.
    #[derive(Default)]
    struct Seen {
        events: Mutex<Vec<String>>,
        answer: i32,
        finalized: Mutex<u32>,
    }

    impl Seen {
        fn pointer(&self) -> *mut c_void {
            std::ptr::from_ref(self).cast_mut().cast()
        }

        fn finalized(&self) -> u32 {
            *self.finalized.lock().unwrap()
        }
    }

    unsafe extern "C" fn take(event: *const c_char, seen: *mut c_void) -> i32 {
        // SAFETY: the tests pass a `Seen` that outlives the call.
        let (event, seen) = unsafe { (CStr::from_ptr(event), &*seen.cast::<Seen>()) };
        seen.events.lock().unwrap().push(event.to_str().unwrap().to_owned());
        seen.answer
    }

    unsafe extern "C" fn finalize(seen: *mut c_void) {
        // SAFETY: as above.
        *unsafe { &*seen.cast::<Seen>() }.finalized.lock().unwrap() += 1;
    }

    fn given(seen: &Seen) -> dunnage_call {
        dunnage_call {
            on_event: Some(take),
            user_data: seen.pointer(),
            finalizer: Some(finalize),
            ..dunnage_call::default()
        }
    }

    fn event() -> Event {
        serde_json::from_str(r#"{"type":"creating","operation_id":"x","elapsed_ms":1}"#).unwrap()
    }

    #[test]
    fn events_reach_the_host_until_the_call_ends() {
        let seen = Seen::default();
        let given = given(&seen);
        // SAFETY: a whole call.
        let call = unsafe { Call::read(&raw const given) }.unwrap();
        let sink = call.sink.clone().unwrap();
        let other = {
            let sink = sink.clone();
            std::thread::spawn(move || sink.take(&event()))
        };
        other.join().unwrap();
        assert!(!call.token().is_cancelled());
        assert_eq!(seen.finalized(), 0);
        drop(call);
        assert_eq!(seen.finalized(), 1);
        sink.take(&event());
        let events = seen.events.lock().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].contains("\"creating\""), "{events:?}");
    }

    #[test]
    fn a_negative_answer_cancels_this_call_and_no_other() {
        let seen = Seen { answer: -1, ..Seen::default() };
        let cancel = crate::cancel::dunnage_cancel_new();
        let given = dunnage_call { cancel, ..given(&seen) };
        // SAFETY: a whole call, with a cancel that lives until the end.
        unsafe {
            let call = Call::read(&raw const given).unwrap();
            call.sink.as_ref().unwrap().take(&event());
            assert!(call.token().is_cancelled());
            assert_eq!(crate::cancel::dunnage_cancel_is_triggered(cancel), 0);
            let other = Call::read(&raw const given).unwrap();
            assert!(!other.token().is_cancelled());
            crate::cancel::dunnage_cancel_trigger(cancel);
            assert!(other.token().is_cancelled());
            // The call does not need it any more.
            crate::cancel::dunnage_cancel_free(cancel);
            assert!(other.token().is_cancelled());
        }
        assert_eq!(seen.finalized(), 2);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_without_a_look_at_the_rest() {
        let seen = Seen::default();
        for struct_size in [0, SMALLEST - 1, LARGEST + 1, usize::MAX] {
            let given = dunnage_call { struct_size, ..given(&seen) };
            // SAFETY: the size is there to be read.
            let error = unsafe { Call::read(&raw const given) }.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!(seen.finalized(), 0);
        // SAFETY: NULL is fine.
        assert!(unsafe { Call::read(null()) }.unwrap().sink.is_none());
    }

    #[test]
    fn later_fields_may_be_there_when_they_say_nothing() {
        #[repr(C)]
        struct Later {
            call: dunnage_call,
            more: [u64; 2],
        }
        let seen = Seen::default();
        for (more, fine) in [([0, 0], true), ([0, 1], false)] {
            let call = dunnage_call { struct_size: size_of::<Later>(), ..given(&seen) };
            let later = Later { call, more };
            // SAFETY: as many bytes are there as the size says.
            let read = unsafe { Call::read((&raw const later).cast()) };
            assert_eq!(read.is_ok(), fine, "{more:?}");
        }
        assert_eq!(seen.finalized(), 2, "a call that was read is let go, fine or not");
    }
}
