use crate::buffer::c_string;
use crate::generated::dunnage_status;
use dunnage::{Error, ErrorKind};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;

/// What went wrong. Never changes; may be read from several threads.
#[derive(Debug)]
pub struct dunnage_error {
    status: dunnage_status,
    message: CString,
    operation: CString,
    json: CString,
    context: Vec<(CString, CString)>,
}

impl dunnage_error {
    pub(crate) fn boxed(error: &Error) -> Box<Self> {
        Box::new(Self {
            status: error.kind().into(),
            message: c_string(error.message_with_cause()),
            operation: c_string(error.operation()),
            json: c_string(error.to_json().to_string()),
            context: error.context().map(|(key, value)| (c_string(key), c_string(value))).collect(),
        })
    }
}

/// Its status, never DUNNAGE_OK; DUNNAGE_OK for NULL.
///
/// # Safety
/// `error` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_code(error: *const dunnage_error) -> dunnage_status {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { error.as_ref() }.map_or(dunnage_status::DUNNAGE_OK, |e| e.status)
}

/// The stable name of its status, such as `NOT_FOUND`. It lives as long as the program.
///
/// # Safety
/// `error` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_name(error: *const dunnage_error) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    dunnage_status_name(unsafe { dunnage_error_code(error) } as i32)
}

/// What happened and what to do, for people; without operation and context. It lives as long as the error; empty for
/// NULL.
///
/// # Safety
/// `error` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_message(error: *const dunnage_error) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |e| e.message.as_ptr())
}

/// The operation that failed, as `noun.verb`; empty when it failed outside of one. It lives as long as the error.
///
/// # Safety
/// `error` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_operation(error: *const dunnage_error) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |e| e.operation.as_ptr())
}

/// The value of one key of its context, such as `path` or `workspace`; NULL when it has none. It lives as long as the
/// error.
///
/// # Safety
/// `error` is NULL or alive; `key` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_context(
    error: *const dunnage_error,
    key: *const c_char,
) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    let Some(error) = (unsafe { error.as_ref() }) else { return null() };
    if key.is_null() {
        return null();
    }
    // SAFETY: not NULL, so NUL-terminated, by the caller's promise.
    let key = unsafe { CStr::from_ptr(key) };
    error.context.iter().find(|(k, _)| k.as_c_str() == key).map_or(null(), |(_, value)| value.as_ptr())
}

/// All of it as JSON: `{"code","number","operation","message","context":{…}}`. It lives as long as the error; `null` for
/// NULL.
///
/// # Safety
/// `error` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_json(error: *const dunnage_error) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"null".as_ptr(), |e| e.json.as_ptr())
}

/// Frees an error. NULL is fine.
///
/// # Safety
/// `error` is NULL or came from this library, and neither it nor its text is used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_error_free(error: *mut dunnage_error) {
    if !error.is_null() {
        // SAFETY: errors are made by Box::into_raw, by the caller's promise this is one.
        drop(unsafe { Box::from_raw(error) });
    }
}

/// The stable name of a status: `OK`, or that of an error kind; `UNEXPECTED` for a number that is none. It lives as
/// long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn dunnage_status_name(status: i32) -> *const c_char {
    static NAMES: std::sync::LazyLock<Vec<(i32, CString)>> = std::sync::LazyLock::new(|| {
        ErrorKind::ALL.iter().map(|kind| (kind.number(), c_string(kind.as_str()))).collect()
    });
    if status == 0 {
        return c"OK".as_ptr();
    }
    NAMES
        .iter()
        .find(|(number, _)| *number == status)
        .map_or(c"UNEXPECTED".as_ptr(), |(_, name)| name.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text as C reads it.
    ///
    /// # Safety
    /// `text` is NUL-terminated for as long as the result is used.
    unsafe fn read<'a>(text: *const c_char) -> &'a str {
        // SAFETY: the caller's promise.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    }

    #[test]
    fn everything_of_an_error_can_be_read_until_it_is_freed() {
        let error = Error::not_found("no such thing").with("path", "/a").in_operation("fs.read");
        let error = Box::into_raw(dunnage_error::boxed(&error));
        // SAFETY: made above, alive until the free.
        unsafe {
            assert_eq!(dunnage_error_code(error) as i32, ErrorKind::NotFound.number());
            assert_eq!(read(dunnage_error_name(error)), "NOT_FOUND");
            assert_eq!(read(dunnage_error_message(error)), "no such thing");
            assert_eq!(read(dunnage_error_operation(error)), "fs.read");
            assert_eq!(read(dunnage_error_context(error, c"path".as_ptr())), "/a");
            assert!(dunnage_error_context(error, c"other".as_ptr()).is_null());
            assert!(dunnage_error_context(error, null()).is_null());
            assert!(read(dunnage_error_json(error)).contains("\"NOT_FOUND\""));
            dunnage_error_free(error);
        }
    }

    #[test]
    fn null_is_an_error_that_says_nothing() {
        // SAFETY: NULL is fine everywhere.
        unsafe {
            assert_eq!(dunnage_error_code(null()) as i32, 0);
            assert_eq!(read(dunnage_error_name(null())), "OK");
            assert_eq!(
                (read(dunnage_error_message(null())), read(dunnage_error_operation(null()))),
                ("", "")
            );
            assert!(dunnage_error_context(null(), c"path".as_ptr()).is_null());
            assert_eq!(read(dunnage_error_json(null())), "null");
            dunnage_error_free(std::ptr::null_mut());
            assert_eq!(read(dunnage_status_name(-1)), "UNEXPECTED");
        }
    }
}
