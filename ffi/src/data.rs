use crate::call::{UserData, dunnage_call};
use crate::door::{Out, guard, handle, null_argument, options, text};
use crate::engine::dunnage_engine;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use dunnage::catalog::parse;
use dunnage::types::{DataExportOptions, DataImportOptions};
use std::ffi::{c_char, c_int, c_void};
use std::io::{self, Read, Write};
use std::ptr::null_mut;
use tokio::sync::oneshot;

/// Takes the next `length` bytes of an archive, at least one; they live until it returns. 0 goes on; anything else ends the
/// export, which undoes what it did and fails.
///
/// Called on a thread of the library, one call at a time and in order. It may block, which makes the export wait; a
/// cancellation is heard when it returns. It may call the library, but for what would wait for the export itself: an
/// operation on the same workspace, and the closing of the engine. It must not throw or longjmp.
pub type dunnage_write_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, bytes: *const u8, length: usize) -> c_int>;

/// Puts the next bytes of an archive at `bytes`, at most `capacity`, which is at least one, and returns how many; 0 at the
/// archive's end. A negative return ends the import, which undoes what it did and fails.
///
/// Called on a thread of the library, one call at a time and in order, and not again after the end. It may block, which
/// makes the import wait; a cancellation is heard when it returns. It may call the library, but for what would wait for
/// the import itself: an operation on the same workspace, and the closing of the engine. It must not throw or longjmp.
pub type dunnage_read_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, bytes: *mut u8, capacity: usize) -> isize>;

/// A host's callback in the place of a file. What it holds is dropped with it, which tells that it is not called any more.
struct Callback<F> {
    call: F,
    user_data: UserData,
    ended: bool,
    _last: oneshot::Sender<()>,
}

impl<F> Callback<F> {
    fn new(call: F, user_data: *mut c_void) -> (Self, oneshot::Receiver<()>) {
        let (last, gone) = oneshot::channel();
        (Self { call, user_data: UserData(user_data), ended: false, _last: last }, gone)
    }
}

type WriteFn = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_int;
type ReadFn = unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> isize;

impl Write for Callback<WriteFn> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // SAFETY: the host promises that it may be called with bytes and its own pointer, until the export returns.
        match unsafe { (self.call)(self.user_data.0, bytes.as_ptr(), bytes.len()) } {
            0 => Ok(bytes.len()),
            told => Err(io::Error::other(format!("the write callback ended the export: it returned {told}"))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Callback<ReadFn> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.ended {
            return Ok(0);
        }
        // SAFETY: the host promises that it may be called with room for bytes and its own pointer, until the import
        // returns.
        let told = unsafe { (self.call)(self.user_data.0, into.as_mut_ptr(), into.len()) };
        self.ended = told <= 0;
        match usize::try_from(told) {
            Ok(count) if count <= into.len() => Ok(count),
            Ok(count) => Err(io::Error::other(format!(
                "the read callback told of {count} bytes where there was room for {}",
                into.len()
            ))),
            Err(_) => {
                Err(io::Error::other(format!("the read callback ended the import: it returned {told}")))
            }
        }
    }
}

/// `data.export_stream`: writes the data directory to an archive that `write` takes as it comes.
///
/// `options_json` is a `DataExportOptions` as JSON, without a destination, or NULL for its defaults. `user_data` is passed
/// to `write`. `*result` becomes a `DataExportResult` as JSON; `result` may be NULL. `call->on_event` gets events. It
/// returns after the last call of `write`, also when it fails: what `user_data` points to is then the caller's alone.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `write` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_data_export_stream(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    write: dunnage_write_fn,
    user_data: *mut c_void,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "data.export_stream", call, |call| {
            let out = Out::optional(result, null_mut());
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: DataExportOptions = parse(options(options_json)?)?;
            let write: WriteFn = write.ok_or_else(|| null_argument("write"))?;
            let (writer, gone) = Callback::new(write, user_data);
            out.set_json(&host.runtime.wait(async {
                let done = call.options().drive(workspace.data().export_to(given, writer)).await;
                // It ends when the writer is dropped, and is told nothing.
                let _ = gone.await;
                done
            })?)
        })
    }
}

/// `data.import_stream`: puts an archive that `read` gives into the data directory: all of it, at once, or nothing.
///
/// `options_json` is a `DataImportOptions` as JSON, without a source, or NULL for its defaults. `user_data` is passed to
/// `read`. `*result` becomes a `DataImportResult` as JSON; `result` may be NULL. `call->on_event` gets events. It returns
/// after the last call of `read`, also when it fails: what `user_data` points to is then the caller's alone.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `read` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_data_import_stream(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    read: dunnage_read_fn,
    user_data: *mut c_void,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "data.import_stream", call, |call| {
            let out = Out::optional(result, null_mut());
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: DataImportOptions = parse(options(options_json)?)?;
            let read: ReadFn = read.ok_or_else(|| null_argument("read"))?;
            let (reader, gone) = Callback::new(read, user_data);
            out.set_json(&host.runtime.wait(async {
                let done = call.options().drive(workspace.data().import_from(given, reader)).await;
                // As above.
                let _ = gone.await;
                done
            })?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host's callback answers, and what it got.
    struct Seen {
        answer: isize,
        calls: usize,
    }

    unsafe extern "C" fn write(seen: *mut c_void, _: *const u8, length: usize) -> c_int {
        // SAFETY: the test passes its own `Seen`, which outlives the call.
        let seen = unsafe { &mut *seen.cast::<Seen>() };
        seen.calls += length;
        c_int::try_from(seen.answer).unwrap()
    }

    unsafe extern "C" fn read(seen: *mut c_void, bytes: *mut u8, _: usize) -> isize {
        // SAFETY: as above; there is room for a byte.
        unsafe {
            bytes.write(7);
            (*seen.cast::<Seen>()).calls += 1;
            (*seen.cast::<Seen>()).answer
        }
    }

    #[test]
    fn answers_of_callbacks_are_bytes_or_errors() {
        let mut seen = Seen { answer: 0, calls: 0 };
        let pointer: *mut c_void = (&raw mut seen).cast();
        let (mut writer, mut gone) = Callback::new(write as WriteFn, pointer);
        assert_eq!(writer.write(b"").unwrap(), 0);
        writer.write_all(b"four").unwrap();
        // SAFETY: nobody else uses it between the calls.
        unsafe { (*pointer.cast::<Seen>()).answer = 5 };
        let error = writer.write(b"x").unwrap_err();
        assert!(error.to_string().contains("returned 5"), "{error}");
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(writer);
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Closed));

        for (answer, told) in [(1, Some(1)), (0, Some(0)), (-3, None), (3, None)] {
            // SAFETY: as above.
            unsafe { *pointer.cast::<Seen>() = Seen { answer, calls: 0 } };
            let (mut reader, _gone) = Callback::new(read as ReadFn, pointer);
            let mut room = [0; 2];
            assert_eq!(reader.read(&mut room).ok(), told, "{answer}");
            if answer <= 0 {
                assert_eq!(reader.read(&mut room).unwrap(), 0, "it is not called again");
                // SAFETY: as above.
                assert_eq!(unsafe { (*pointer.cast::<Seen>()).calls }, 1);
            }
        }
    }
}
