//! The one way in: what every function does before and after its own work.

use crate::buffer::c_string;
use crate::call::{Call, dunnage_call};
use crate::engine::dunnage_engine;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use dunnage::{Error, Result};
use serde::Serialize;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// Runs the body of an entry: reads the call, catches panics, stores the error. The call's finalizer runs before it
/// returns.
///
/// # Safety
/// `error` is NULL or can be written; `call` as for [`Call::read`].
pub(crate) unsafe fn guard(
    error: *mut *mut dunnage_error,
    operation: &'static str,
    call: *const dunnage_call,
    body: impl FnOnce(&Call) -> Result<()>,
) -> dunnage_status {
    let done = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promise.
        let call = unsafe { Call::read(call) }?;
        body(&call)
    }));
    let done = done.unwrap_or_else(|_| Err(Error::unexpected("the library panicked: please report it")));
    let done = done.map_err(|e| e.in_operation(operation));
    // SAFETY: the caller's promise.
    unsafe { report(error, &done) }
}

/// Stores the error, or NULL, and tells the status.
///
/// # Safety
/// `error` is NULL or can be written.
unsafe fn report(error: *mut *mut dunnage_error, done: &Result<()>) -> dunnage_status {
    let status = done.as_ref().map_or_else(|e| e.kind().into(), |()| dunnage_status::DUNNAGE_OK);
    if !error.is_null() {
        let made = done.as_ref().map_or_else(|e| Box::into_raw(dunnage_error::boxed(e)), |()| null_mut());
        // SAFETY: not NULL, so it can be written, by the caller's promise.
        unsafe { error.write(made) };
    }
    status
}

/// An out parameter: emptied at once, filled on success. Does nothing when it is NULL.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// One that may be NULL.
    ///
    /// # Safety
    /// `place` is NULL or can be written until the function returns.
    pub(crate) unsafe fn optional(place: *mut T, empty: T) -> Self {
        let out = Self(place);
        if !place.is_null() {
            // SAFETY: not NULL, so it can be written, by the caller's promise.
            unsafe { place.write(empty) };
        }
        out
    }

    /// One that must not be NULL.
    ///
    /// # Safety
    /// As [`Out::optional`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT when it is NULL.
    pub(crate) unsafe fn required(place: *mut T, empty: T, name: &'static str) -> Result<Self> {
        if place.is_null() {
            return Err(null_argument(name));
        }
        // SAFETY: the caller's promise.
        Ok(unsafe { Self::optional(place, empty) })
    }

    /// Whether there is a place for a value.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.0.is_null()
    }

    /// Stores the value.
    pub(crate) fn set(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not NULL, so it can be written, by the promise made when this was made.
            unsafe { self.0.write(value) };
        }
    }
}

impl Out<*mut c_char> {
    /// Stores text that the host will free.
    pub(crate) fn set_text(self, text: String) {
        if self.is_wanted() {
            self.set(c_string(text).into_raw());
        }
    }

    /// Stores a value as JSON.
    ///
    /// # Errors
    /// UNEXPECTED when it cannot be written as JSON.
    pub(crate) fn set_json(self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::unexpected("cannot write the result").caused_by(e))?;
        self.set_text(text);
        Ok(())
    }
}

pub(crate) fn null_argument(name: &'static str) -> Error {
    Error::invalid_argument("an argument is NULL that must not be").with("argument", name)
}

/// A handle that must not be NULL.
///
/// # Safety
/// `pointer` is NULL or alive for as long as the result is used.
///
/// # Errors
/// INVALID_ARGUMENT when it is NULL.
pub(crate) unsafe fn handle<'a, T>(pointer: *const T, name: &'static str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null_argument(name))
}

/// Text that must not be NULL.
///
/// # Safety
/// `pointer` is NULL, or NUL-terminated for as long as the result is used.
///
/// # Errors
/// INVALID_ARGUMENT when it is NULL or no UTF-8.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &'static str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null_argument(name));
    }
    // SAFETY: not NULL, so NUL-terminated, by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes.to_str().map_err(|e| {
        Error::invalid_argument("an argument is no UTF-8")
            .with("argument", name)
            .with("valid_up_to", e.valid_up_to())
    })
}

/// Options as JSON text; NULL stands for none.
///
/// # Safety
/// As [`text`].
///
/// # Errors
/// INVALID_ARGUMENT when it is no UTF-8.
pub(crate) unsafe fn options<'a>(pointer: *const c_char) -> Result<&'a str> {
    if pointer.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise.
    unsafe { text(pointer, "options") }
}

/// Bytes of the host.
///
/// # Safety
/// `data` is NULL or points to `len` bytes for as long as the result is used.
///
/// # Errors
/// INVALID_ARGUMENT when it is NULL and `len` is not 0, or when `len` is beyond what memory can hold.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: usize, name: &'static str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null_argument(name));
    }
    if isize::try_from(len).is_err() {
        return Err(Error::invalid_argument("a length is beyond what memory can hold").with("argument", name));
    }
    // SAFETY: not NULL, so `len` bytes are there, by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// An operation that is called with JSON.
///
/// # Safety
/// The promises of the generated functions.
pub(crate) unsafe fn json(
    operation: &'static str,
    engine: *const dunnage_engine,
    workspace_id: Option<*const c_char>,
    given: *const c_char,
    call: *const dunnage_call,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller's promises, each passed on to what needs it.
    unsafe {
        guard(error, operation, call, |call| {
            let out = Out::optional(result, null_mut());
            let host = handle(engine, "engine")?.host.clone();
            let workspace = workspace_id.map(|id| text(id, "workspace_id")).transpose()?;
            let given = options(given)?;
            let done = host.engine().call(operation, workspace, given, call.options());
            out.set_text(host.runtime.wait(done)?);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{dunnage_error_free, dunnage_error_operation};
    use dunnage::ErrorKind;
    use std::ptr::null;

    #[test]
    fn errors_and_panics_come_out_as_a_status() {
        let mut error = std::ptr::dangling_mut();
        // SAFETY: the error can be written, is freed where it was made, and no call is given.
        unsafe {
            let done = guard(&raw mut error, "x.y", null(), |_| Ok(()));
            assert_eq!((done as i32, error.is_null()), (0, true));
            let done = guard(&raw mut error, "x.y", null(), |_| Err(Error::conflict("no")));
            assert_eq!(done as i32, ErrorKind::Conflict.number());
            assert_eq!(CStr::from_ptr(dunnage_error_operation(error)), c"x.y");
            dunnage_error_free(error);
            let done = guard(&raw mut error, "x.y", null(), |_| panic!("a test's own"));
            assert_eq!(done as i32, ErrorKind::Unexpected.number());
            dunnage_error_free(error);
            let done = guard(null_mut(), "x.y", null(), |_| Err(Error::conflict("nobody asks why")));
            assert_eq!(done as i32, ErrorKind::Conflict.number());
        }
    }

    #[test]
    fn places_are_emptied_at_once_and_filled_at_the_end() {
        let mut place: *mut c_char = std::ptr::dangling_mut();
        // SAFETY: the place can be written, and what is put there is freed.
        unsafe {
            let out = Out::required(&raw mut place, null_mut(), "result").unwrap();
            assert!(place.is_null());
            out.set_json(&["a"]).unwrap();
            assert_eq!(CStr::from_ptr(place), c"[\"a\"]");
            crate::buffer::dunnage_string_free(place);
            let nowhere = Out::optional(null_mut(), null_mut());
            assert!(!nowhere.is_wanted());
            nowhere.set_text("nobody takes it".to_owned());
            let error = Out::<u8>::required(null_mut(), 0, "count").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn arguments_are_checked_before_they_are_used() {
        let refused = |error: Option<Error>| error.map(|e| e.kind()) == Some(ErrorKind::InvalidArgument);
        let bulk = [1u8, 2, 3];
        // SAFETY: NULL, NUL-terminated, or as long as told.
        unsafe {
            assert!(refused(handle(null::<u8>(), "engine").err()));
            assert_eq!(handle(&raw const bulk[1], "engine").unwrap(), &2);
            assert!(refused(text(null(), "path").err()));
            assert!(refused(text(c"\xff".as_ptr(), "path").err()));
            assert_eq!(text(c"ä".as_ptr(), "path").unwrap(), "ä");
            assert_eq!((options(null()).unwrap(), options(c"{}".as_ptr()).unwrap()), ("", "{}"));
            assert!(refused(bytes(null(), 1, "data").err()));
            assert!(refused(bytes(bulk.as_ptr(), usize::MAX, "data").err()));
            assert_eq!(bytes(null(), 0, "data").unwrap(), b"");
            assert_eq!(bytes(bulk.as_ptr(), bulk.len(), "data").unwrap(), bulk);
        }
    }
}
