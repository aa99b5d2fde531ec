use crate::buffer::c_string;
use crate::call::{Call, UserData, dunnage_call};
use crate::door::{guard, handle, options, text};
use crate::engine::dunnage_engine;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use dunnage::catalog::{self, Bytes, Target};
use dunnage::{Error, Result};
use futures::FutureExt;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// Takes the end of a submitted call: its status and its result as JSON, or its error. Both belong to the callback,
/// which frees them by dunnage_string_free and dunnage_error_free; the one that does not apply is NULL.
///
/// Called exactly once, on a thread of the library. It may block and call the library. It must not throw or longjmp.
pub type dunnage_done_fn = Option<
    unsafe extern "C" fn(
        status: dunnage_status,
        result: *mut c_char,
        error: *mut dunnage_error,
        user_data: *mut c_void,
    ),
>;

/// Tells the end of a call, at the latest when it is dropped.
struct Done {
    callback: dunnage_done_fn,
    user_data: UserData,
}

impl Done {
    fn tell(mut self, result: Result<String>) {
        self.call(result);
    }

    fn call(&mut self, result: Result<String>) {
        let Some(callback) = self.callback.take() else { return };
        let (status, text, error) = match result {
            Ok(text) => (dunnage_status::DUNNAGE_OK, c_string(text).into_raw(), null_mut()),
            Err(error) => (error.kind().into(), null_mut(), Box::into_raw(dunnage_error::boxed(&error))),
        };
        // SAFETY: the host promises that it may be called with its own pointer; it is taken, so once.
        unsafe { callback(status, text, error, self.user_data.0) };
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.call(Err(Error::unavailable("the library was shut down while the call ran")));
    }
}

/// Begins an operation and returns at once: for hosts with an event loop. `operation` is a name of the catalogue, such
/// as `workspace.create`, of those that are called with JSON; `workspace_id` is NULL for operations on the engine.
///
/// When it returns DUNNAGE_OK, `on_done` is called once, even when the engine is closed or freed meanwhile. When it
/// returns anything else, `on_done` is not called. `call` and its events are as in the blocking functions; its
/// finalizer runs after `on_done`.
///
/// # Safety
/// `engine` is alive; the texts are NUL-terminated, or NULL where they may be; `on_done` is not NULL; `error` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_submit(
    engine: *const dunnage_engine,
    operation: *const c_char,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    on_done: dunnage_done_fn,
    user_data: *mut c_void,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    let mut checked = None;
    // SAFETY: the caller keeps the promises above. The call is read first, so that its finalizer always runs.
    unsafe {
        guard(error, "", std::ptr::null(), |_| {
            let call = checked.insert(Call::read(call)?);
            let host = handle(engine, "engine")?.host.clone();
            let name = text(operation, "operation")?;
            let spec = catalog::find(name).filter(|spec| spec.bytes == Bytes::None && spec.item.is_none());
            let spec = spec.ok_or_else(|| {
                Error::invalid_argument(
                    "no operation that is called with JSON has this name: see the catalogue",
                )
                .with("operation", name)
            })?;
            let workspace = match spec.target {
                Target::Engine => None,
                Target::Workspace => Some(text(workspace_id, "workspace_id")?.to_owned()),
            };
            let given = options(options_json)?.to_owned();
            if on_done.is_none() {
                return Err(Error::invalid_argument("an argument is NULL that must not be")
                    .with("argument", "on_done"));
            }
            let options = call.options();
            let tasks = host.runtime.handle()?.clone();
            // All is well: from here the end is told by on_done.
            let done = Done { callback: on_done, user_data: UserData(user_data) };
            let call = checked.take();
            tasks.spawn(async move {
                let work = host.engine().call(spec.name, workspace.as_deref(), &given, options);
                let result = AssertUnwindSafe(work)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Err(Error::unexpected("the library panicked: please report it")));
                // A thread where the callback may block, and call back.
                let told = tokio::task::spawn_blocking(move || {
                    done.tell(result);
                    drop(call);
                    // The last owner takes the runtime down, which nothing on its workers may wait for.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(host)));
                });
                let _ = told.await;
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::dunnage_string_free;
    use crate::error::dunnage_error_free;
    use std::sync::Mutex;

    unsafe extern "C" fn note(
        status: dunnage_status,
        result: *mut c_char,
        error: *mut dunnage_error,
        seen: *mut c_void,
    ) {
        // SAFETY: the test passes its own list, which outlives the call; result and error are the callback's.
        unsafe {
            let told = (status as i32, result.is_null(), error.is_null());
            (*seen.cast::<Mutex<Vec<_>>>()).lock().unwrap().push(told);
            dunnage_string_free(result);
            dunnage_error_free(error);
        }
    }

    #[test]
    fn the_end_is_told_once_also_when_nobody_tells_it() {
        let seen: Mutex<Vec<(i32, bool, bool)>> = Mutex::default();
        let done = || Done {
            callback: Some(note),
            user_data: UserData(std::ptr::from_ref(&seen).cast_mut().cast()),
        };
        done().tell(Ok("{}".to_owned()));
        done().tell(Err(Error::conflict("no")));
        drop(done());
        let number = |kind: dunnage::ErrorKind| kind.number();
        let wanted = [
            (0, false, true),
            (number(dunnage::ErrorKind::Conflict), true, false),
            (number(dunnage::ErrorKind::Unavailable), true, false),
        ];
        assert_eq!(*seen.lock().unwrap(), wanted);
    }
}
