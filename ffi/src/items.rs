use crate::buffer::c_string;
use crate::call::{Call, UserData, dunnage_call, dunnage_finalizer_fn};
use crate::door::{Out, guard, handle, options, text};
use crate::engine::{Host, dunnage_engine};
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use dunnage::catalog::{self, JsonItems, Target};
use dunnage::{Error, Result};
use futures::FutureExt;
use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{addr_of, null_mut};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Takes one item as JSON; the text lives until it returns. A return other than 0 ends the items.
///
/// Called on a thread of the library, one item at a time and in order; the next item is made when it has returned. It may
/// block, which holds up nothing but these items, and call the library. It must not throw or longjmp.
pub type dunnage_item_fn = Option<unsafe extern "C" fn(item: *const c_char, user_data: *mut c_void) -> i32>;

/// Takes the end of items, exactly once, after the last item: DUNNAGE_OK when there are no more, DUNNAGE_CANCELLED when
/// the host ended them, else what went wrong. The error is NULL on DUNNAGE_OK, else the callback's, which frees it by
/// dunnage_error_free. Threads as for dunnage_item_fn.
pub type dunnage_end_fn =
    Option<unsafe extern "C" fn(status: dunnage_status, error: *mut dunnage_error, user_data: *mut c_void)>;

/// Where items go. Begin with DUNNAGE_ITEM_SINK_INIT; later versions of the library may add fields at its end.
#[repr(C)]
#[derive(Debug)]
pub struct dunnage_item_sink {
    /// `sizeof(dunnage_item_sink)`.
    pub struct_size: usize,
    /// Takes items; not NULL.
    pub on_item: dunnage_item_fn,
    /// Takes the end; NULL for nobody.
    pub on_end: dunnage_end_fn,
    /// Passed to all callbacks.
    pub user_data: *mut c_void,
    /// Lets go of `user_data`, exactly once, after `on_end`, or when the items do not begin; NULL when there is nothing to
    /// do. Only when `struct_size` is wrong it is not called.
    pub finalizer: dunnage_finalizer_fn,
}

/// The least a header of this ABI can have, and what no later version will reach.
const SMALLEST: usize = size_of::<dunnage_item_sink>();
const LARGEST: usize = 4096;

/// Items under way.
#[derive(Debug)]
pub struct dunnage_items {
    shared: Arc<Shared>,
    host: Arc<Host>,
}

/// What the handle and the pump share.
#[derive(Debug)]
struct Shared {
    stop: CancellationToken,
    /// The thread that is in a callback now.
    inside: Mutex<Option<ThreadId>>,
    /// Whether the last callback has returned.
    ended: watch::Sender<bool>,
}

impl Shared {
    /// Runs a callback.
    fn run<T>(&self, callback: impl FnOnce() -> T) -> T {
        let set = |thread| *self.inside.lock().unwrap_or_else(PoisonError::into_inner) = thread;
        set(Some(std::thread::current().id()));
        let done = callback();
        set(None);
        done
    }

    fn is_inside(&self) -> bool {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        *inside == Some(std::thread::current().id())
    }
}

/// The host's callbacks. Dropping it runs the finalizer; before that, an end that was owed is told.
#[derive(Debug)]
struct Sink {
    on_item: dunnage_item_fn,
    on_end: dunnage_end_fn,
    user_data: UserData,
    finalizer: dunnage_finalizer_fn,
    /// Whether the items have begun, so that their end is to be told.
    begun: bool,
}

impl Sink {
    /// Reads and checks what the host gave.
    ///
    /// # Safety
    /// `sink` is NULL or points to `struct_size` bytes.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for NULLs, a wrong size, or fields that this version of the library does not know.
    unsafe fn read(sink: *const dunnage_item_sink) -> Result<Self> {
        let missing = |name: &str| {
            Error::invalid_argument("an argument is NULL that must not be").with("argument", name)
        };
        if sink.is_null() {
            return Err(missing("sink"));
        }
        // SAFETY: not NULL, so at least the size can be read, by the caller's promise.
        let size = unsafe { addr_of!((*sink).struct_size).read() };
        if !(SMALLEST..=LARGEST).contains(&size) {
            return Err(Error::invalid_argument("wrong struct_size: begin with DUNNAGE_ITEM_SINK_INIT")
                .with("struct_size", size)
                .with("expected", SMALLEST));
        }
        // SAFETY: `size` bytes are there, by the caller's promise, and cover the struct.
        let (given, rest) = unsafe {
            let rest = sink.cast::<u8>().add(SMALLEST);
            (sink.read(), std::slice::from_raw_parts(rest, size - SMALLEST))
        };
        // From here the finalizer runs, whatever comes.
        let this = Self {
            on_item: given.on_item,
            on_end: given.on_end,
            user_data: UserData(given.user_data),
            finalizer: given.finalizer,
            begun: false,
        };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Error::invalid_argument(
                "the sink has fields that this version of the library does not know: update the library",
            )
            .with("struct_size", size));
        }
        if this.on_item.is_none() {
            return Err(missing("on_item"));
        }
        Ok(this)
    }

    /// Hands over an item. False when the host wants no more.
    fn item(&self, json: String) -> bool {
        let Some(callback) = self.on_item else { return false };
        let json = c_string(json);
        // SAFETY: the host promises that it may be called with a text and its own pointer, until the finalizer ran.
        unsafe { callback(json.as_ptr(), self.user_data.0) == 0 }
    }

    /// Tells the end, once.
    fn end(&mut self, end: Result<()>) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        let Some(callback) = self.on_end.take() else { return };
        let (status, error) = match end {
            Ok(()) => (dunnage_status::DUNNAGE_OK, null_mut()),
            Err(error) => (error.kind().into(), Box::into_raw(dunnage_error::boxed(&error))),
        };
        // SAFETY: as above; it is taken, so once.
        unsafe { callback(status, error, self.user_data.0) };
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end(Err(Error::unavailable("the library was shut down while items came")));
        if let Some(finalizer) = self.finalizer.take() {
            // SAFETY: the host promises that it may be called with its own pointer; it is taken, so once.
            unsafe { finalizer(self.user_data.0) };
        }
    }
}

/// Begins an operation that yields items, by its name, such as `engine.events`: for hosts that pass calls on. All else is
/// as in the function of the operation's own name.
///
/// # Safety
/// `engine` is alive; the texts are NUL-terminated, or NULL where they may be; `sink` and `items` are not NULL; `call` and
/// `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_items_open(
    engine: *const dunnage_engine,
    operation: *const c_char,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    sink: *const dunnage_item_sink,
    items: *mut *mut dunnage_items,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "", call, |call| {
            let sink = Sink::read(sink)?;
            let name = text(operation, "operation")?;
            let spec = catalog::find(name).filter(|spec| spec.item.is_some()).ok_or_else(|| {
                Error::invalid_argument("no operation that yields items has this name: see the catalogue")
                    .with("operation", name)
            })?;
            let workspace = (spec.target == Target::Workspace).then_some(workspace_id);
            begin(spec.name, engine, workspace, options_json, call, sink, items)
                .map_err(|e| e.in_operation(spec.name))
        })
    }
}

/// An operation that yields items.
///
/// # Safety
/// The promises of the generated functions.
#[expect(clippy::too_many_arguments, reason = "they are the arguments of the C function")]
pub(crate) unsafe fn open(
    operation: &'static str,
    engine: *const dunnage_engine,
    workspace_id: Option<*const c_char>,
    options_json: *const c_char,
    call: *const dunnage_call,
    sink: *const dunnage_item_sink,
    items: *mut *mut dunnage_items,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller's promises, each passed on to what needs it.
    unsafe {
        guard(error, operation, call, |call| {
            let sink = Sink::read(sink)?;
            begin(operation, engine, workspace_id, options_json, call, sink, items)
        })
    }
}

/// Begins the items and their pump.
///
/// # Safety
/// As for [`open`].
unsafe fn begin(
    operation: &'static str,
    engine: *const dunnage_engine,
    workspace_id: Option<*const c_char>,
    options_json: *const c_char,
    call: &Call,
    mut sink: Sink,
    items: *mut *mut dunnage_items,
) -> Result<()> {
    // SAFETY: the caller's promises.
    let (out, host, workspace, given) = unsafe {
        (
            Out::required(items, null_mut(), "items")?,
            handle(engine, "engine")?.host.clone(),
            workspace_id.map(|id| text(id, "workspace_id")).transpose()?,
            options(options_json)?,
        )
    };
    let opened = host.engine().call_items(operation, workspace, given, call.options());
    let opened = host.runtime.wait(opened)?;
    sink.begun = true;
    let shared = Arc::new(Shared {
        stop: CancellationToken::new(),
        inside: Mutex::default(),
        ended: watch::Sender::new(false),
    });
    host.runtime.handle()?.spawn(pump(opened, sink, shared.clone(), host.clone()));
    out.set(Box::into_raw(Box::new(dunnage_items { shared, host })));
    Ok(())
}

/// Takes items to the host until either has had enough. Callbacks run on threads where they may block and call back.
async fn pump(mut items: JsonItems, mut sink: Sink, shared: Arc<Shared>, host: Arc<Host>) {
    let ended = || Error::cancelled("the host ended the items");
    let end = loop {
        let next = AssertUnwindSafe(items.next()).catch_unwind();
        let next = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break Err(ended()),
            next = next => next,
        };
        let text = match next {
            Ok(Some(Ok(text))) => text,
            Ok(Some(Err(error))) => break Err(error),
            Ok(None) => break Ok(()),
            Err(_) => break Err(Error::unexpected("the library panicked: please report it")),
        };
        let taken = tokio::task::spawn_blocking({
            let shared = shared.clone();
            move || {
                let more = shared.run(|| sink.item(text));
                (sink, more)
            }
        });
        // It fails when the runtime is shut down; the sink has told the end then.
        let Ok((taken, more)) = taken.await else { return };
        sink = taken;
        if !more {
            break Err(ended());
        }
    };
    drop(items);
    let told = tokio::task::spawn_blocking(move || {
        shared.run(move || {
            sink.end(end);
            drop(sink);
        });
        shared.ended.send_replace(true);
        // The last owner takes the runtime down, which nothing on its workers may wait for.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(host)));
    });
    let _ = told.await;
}

/// Ends items and frees their handle: what has been told is all that is told. Returns when no callback runs any more:
/// `on_end` (with DUNNAGE_CANCELLED, unless they had ended before) and the finalizer have run. Called from one of these
/// items' own callbacks it returns at once, and they run after that callback has returned. Never free under a lock that a
/// callback waits for. NULL is fine. In a child after fork() it only forgets them.
///
/// # Safety
/// `items` is NULL or came from this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_items_free(items: *mut dunnage_items) {
    if items.is_null() {
        return;
    }
    // SAFETY: handles are made by Box::into_raw; by the caller's promise this is one and is freed once.
    let items = unsafe { Box::from_raw(items) };
    // SAFETY: no pointer is passed.
    unsafe {
        guard(null_mut(), "", std::ptr::null(), move |_| {
            let dunnage_items { shared, host } = *items;
            if host.runtime.forked() {
                return Ok(());
            }
            shared.stop.cancel();
            if !shared.is_inside() {
                let mut ended = shared.ended.subscribe();
                host.runtime.wait(async move {
                    // The pump tells the end; without a runtime to run on there is nobody to wait for.
                    let _ = ended.wait_for(|ended| *ended).await;
                    Ok(())
                })?;
            }
            drop(host);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::dunnage_error_free;
    use dunnage::ErrorKind;
    use std::ptr::null;

    /// What a host keeps: items, ends, how often it was let go.
    #[derive(Default)]
    struct Seen {
        items: Mutex<Vec<String>>,
        ends: Mutex<Vec<i32>>,
        finalized: Mutex<u32>,
    }

    unsafe extern "C" fn item(json: *const c_char, seen: *mut c_void) -> i32 {
        // SAFETY: the tests pass a `Seen` that outlives the sink.
        let (json, seen) = unsafe { (std::ffi::CStr::from_ptr(json), &*seen.cast::<Seen>()) };
        let mut items = seen.items.lock().unwrap();
        items.push(json.to_str().unwrap().to_owned());
        i32::from(items.len() >= 2)
    }

    unsafe extern "C" fn end(status: dunnage_status, error: *mut dunnage_error, seen: *mut c_void) {
        // SAFETY: as above; the error is the callback's.
        unsafe {
            (*seen.cast::<Seen>()).ends.lock().unwrap().push(status as i32);
            dunnage_error_free(error);
        }
    }

    unsafe extern "C" fn finalize(seen: *mut c_void) {
        // SAFETY: as above.
        *unsafe { &*seen.cast::<Seen>() }.finalized.lock().unwrap() += 1;
    }

    fn given(seen: &Seen) -> dunnage_item_sink {
        dunnage_item_sink {
            struct_size: SMALLEST,
            on_item: Some(item),
            on_end: Some(end),
            user_data: std::ptr::from_ref(seen).cast_mut().cast(),
            finalizer: Some(finalize),
        }
    }

    #[test]
    fn an_end_is_told_once_and_only_of_what_has_begun() {
        let seen = Seen::default();
        let given = given(&seen);
        // SAFETY: a whole sink.
        let mut sink = unsafe { Sink::read(&raw const given) }.unwrap();
        sink.begun = true;
        assert!(sink.item("1".to_owned()));
        assert!(!sink.item("2".to_owned()), "the host wants no more");
        sink.end(Ok(()));
        sink.end(Ok(()));
        drop(sink);
        // SAFETY: a whole sink.
        let mut lost = unsafe { Sink::read(&raw const given) }.unwrap();
        lost.begun = true;
        drop(lost);
        // SAFETY: a whole sink.
        drop(unsafe { Sink::read(&raw const given) }.unwrap());
        assert_eq!(*seen.ends.lock().unwrap(), [0, ErrorKind::Unavailable.number()]);
        assert_eq!((seen.items.lock().unwrap().len(), *seen.finalized.lock().unwrap()), (2, 3));
    }

    #[test]
    fn sinks_that_cannot_be_are_refused() {
        let seen = Seen::default();
        // SAFETY: NULL, or sizes that are there to be read.
        unsafe {
            assert_eq!(Sink::read(null()).unwrap_err().kind(), ErrorKind::InvalidArgument);
            for struct_size in [0, SMALLEST - 1, LARGEST + 1, usize::MAX] {
                let given = dunnage_item_sink { struct_size, ..given(&seen) };
                assert_eq!(Sink::read(&raw const given).unwrap_err().kind(), ErrorKind::InvalidArgument);
            }
            assert_eq!(*seen.finalized.lock().unwrap(), 0);
            let given = dunnage_item_sink { on_item: None, ..given(&seen) };
            let error = Sink::read(&raw const given).unwrap_err();
            assert!(error.context().any(|(key, value)| key == "argument" && value == "on_item"), "{error}");
        }
        assert_eq!(*seen.finalized.lock().unwrap(), 1);
        assert!(seen.ends.lock().unwrap().is_empty());
    }
}
