use crate::buffer::{c_string, dunnage_buffer};
use crate::door::{Out, bytes, guard, handle, null_argument, text};
use crate::engine::Host;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use crate::runtime::bounded;
use bytes::Bytes;
use dunnage::{Error, Process, Result, StreamKind};
use std::ffi::{CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Which stream a piece of output came from.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum dunnage_stream {
    /// Neither: the process has exited, and all its output was read.
    DUNNAGE_STREAM_END = 0,
    /// Standard output; all output of a process on a terminal.
    DUNNAGE_STREAM_STDOUT = 1,
    /// Standard error.
    DUNNAGE_STREAM_STDERR = 2,
}

/// Takes a piece of output of dunnage_process_follow; the bytes live until it returns. A return other than 0 ends the
/// following, and nothing else. It must not throw or longjmp.
pub type dunnage_output_fn = Option<
    unsafe extern "C" fn(stream: dunnage_stream, data: *const u8, len: usize, user_data: *mut c_void) -> i32,
>;

/// A command under way. Different threads may read, write and signal at the same time.
#[derive(Debug)]
pub struct dunnage_process {
    process: Arc<ProcessHandle>,
}

/// The process with what it lives on.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    process: ManuallyDrop<Process>,
    /// The session's id as C takes it.
    session_id: Option<CString>,
    host: Arc<Host>,
    /// Ends what waits on the process.
    token: CancellationToken,
}

impl ProcessHandle {
    pub(crate) fn new(host: Arc<Host>, process: Process, token: CancellationToken) -> Self {
        let session_id = process.session_id().map(|id| c_string(id.to_owned()));
        Self { process: ManuallyDrop::new(process), session_id, host, token: token.child_token() }
    }

    pub(crate) fn into_raw(self) -> *mut dunnage_process {
        Box::into_raw(Box::new(dunnage_process { process: Arc::new(self) }))
    }

    fn wait<T>(&self, limit_ms: i64, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.host.runtime.wait(bounded(&self.token, limit_ms, work))
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        // In a forked child the process is the parent's.
        let Ok(handle) = self.host.runtime.handle() else { return };
        let _entered = handle.enter();
        // SAFETY: dropped here and nowhere else, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.process) };
    }
}

fn stream_of(kind: StreamKind) -> dunnage_stream {
    match kind {
        StreamKind::Stdout => dunnage_stream::DUNNAGE_STREAM_STDOUT,
        StreamKind::Stderr => dunnage_stream::DUNNAGE_STREAM_STDERR,
    }
}

/// Waits for the next piece of output, of either stream, in the order it was written. `*stream` tells which; on
/// DUNNAGE_STREAM_END there is none left. `*chunk` becomes the bytes, to be freed by dunnage_buffer_free.
///
/// `time_limit_ms` is how long to wait: negative for as long as it takes, 0 not at all. DUNNAGE_TIMEOUT loses nothing.
/// Output that nobody reads makes the process wait when it writes more.
///
/// # Safety
/// `process` is alive; `stream` and `chunk` are not NULL; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_read(
    process: *const dunnage_process,
    time_limit_ms: i64,
    stream: *mut dunnage_stream,
    chunk: *mut dunnage_buffer,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let stream = Out::required(stream, dunnage_stream::DUNNAGE_STREAM_END, "stream")?;
            let chunk = Out::required(chunk, dunnage_buffer::EMPTY, "chunk")?;
            let process = handle(process, "process")?.process.clone();
            if let Some((kind, bytes)) = process.wait(time_limit_ms, process.process.next_output())? {
                stream.set(stream_of(kind));
                chunk.set(bytes.into());
            }
            Ok(())
        })
    }
}

/// Hands over its output to a callback, piece by piece and in order, on the thread that calls this, until it has exited and
/// all was handed over. `*result` becomes an `ExitStatus` as JSON; it may be NULL. A callback that returns another number
/// than 0 ends this with DUNNAGE_CANCELLED; the process goes on, and its output can be read on. The callback may call the
/// library, and everything on this process but dunnage_process_free.
///
/// # Safety
/// `process` is alive; `on_output` is not NULL and may be called with `user_data`; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_follow(
    process: *const dunnage_process,
    on_output: dunnage_output_fn,
    user_data: *mut c_void,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let out = Out::optional(result, null_mut());
            let process = handle(process, "process")?.process.clone();
            let on_output = on_output.ok_or_else(|| null_argument("on_output"))?;
            while let Some((kind, bytes)) = process.wait(-1, process.process.next_output())? {
                if on_output(stream_of(kind), bytes.as_ptr(), bytes.len(), user_data) != 0 {
                    return Err(Error::cancelled("the callback wanted no more output"));
                }
            }
            out.set_json(&process.wait(-1, process.process.wait())?)
        })
    }
}

/// Writes to its standard input. Waits while the process takes none.
///
/// # Safety
/// `process` is alive; `data` points to `len` bytes, or is NULL when that is 0; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_write(
    process: *const dunnage_process,
    data: *const u8,
    len: usize,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            let data = Bytes::copy_from_slice(bytes(data, len, "data")?);
            process.wait(-1, process.process.write_stdin(data))
        })
    }
}

/// Ends its standard input, after what was written. Closing twice is no error.
///
/// # Safety
/// `process` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_close_stdin(
    process: *const dunnage_process,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.wait(-1, async {
                process.process.close_stdin().await;
                Ok(())
            })
        })
    }
}

/// Sets the size of its terminal.
///
/// # Safety
/// `process` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_resize(
    process: *const dunnage_process,
    cols: u32,
    rows: u32,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.wait(-1, async { process.process.resize(cols, rows) })
        })
    }
}

/// Sends a signal to its process group, by its number on Linux. After the exit it does nothing.
///
/// # Safety
/// `process` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_signal(
    process: *const dunnage_process,
    signal: i32,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.wait(-1, process.process.signal(signal))
        })
    }
}

/// Sends a signal to its process group, by a name such as `SIGTERM` or `TERM`, or a number in digits. After the exit it does
/// nothing.
///
/// # Safety
/// `process` is alive; `signal` is NUL-terminated; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_signal_name(
    process: *const dunnage_process,
    signal: *const c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.wait(-1, process.process.signal(text(signal, "signal")?))
        })
    }
}

/// Waits until it has exited; may be called any number of times. `*exit_code` becomes its exit code, `*result` an
/// `ExitStatus` as JSON; each may be NULL. It does not read the output: a process that writes a lot waits for a reader.
///
/// `time_limit_ms` is as for dunnage_process_read.
///
/// # Safety
/// `process` is alive; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_wait(
    process: *const dunnage_process,
    time_limit_ms: i64,
    exit_code: *mut i32,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let code = Out::optional(exit_code, 0);
            let out = Out::optional(result, null_mut());
            let process = handle(process, "process")?.process.clone();
            let status = process.wait(time_limit_ms, process.process.wait())?;
            out.set_json(&status)?;
            code.set(status.exit_code);
            Ok(())
        })
    }
}

/// Kills its process group with SIGKILL and waits for the exit, also when its cancel was triggered. After the exit it
/// does nothing.
///
/// # Safety
/// `process` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_kill(
    process: *const dunnage_process,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.host.runtime.wait(process.process.kill()).map(|_| ())
        })
    }
}

/// Lets go of a session: it goes on, and can be attached to again. What was read ahead can still be read; then reading and
/// waiting end with DUNNAGE_FAILED_PRECONDITION, as does this for a process that is no session. After the exit it does
/// nothing.
///
/// # Safety
/// `process` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_detach(
    process: *const dunnage_process,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", null(), |_| {
            let process = handle(process, "process")?.process.clone();
            process.host.runtime.wait(async { process.process.detach() })
        })
    }
}

/// The id by which it can be attached to, if it is a session; else NULL, as for NULL. It lives as long as the process.
///
/// # Safety
/// `process` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_session_id(process: *const dunnage_process) -> *const c_char {
    // SAFETY: NULL or alive, by the caller's promise.
    let process = unsafe { process.as_ref() };
    process.and_then(|p| p.process.session_id.as_ref()).map_or(null(), |id| id.as_ptr())
}

/// Its process id inside the workspace; 0 for NULL, and where the agent is too old to tell.
///
/// # Safety
/// `process` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_pid(process: *const dunnage_process) -> i32 {
    // SAFETY: NULL or alive, by the caller's promise.
    unsafe { process.as_ref() }.and_then(|p| p.process.process.pid()).unwrap_or(0)
}

/// Kills the process with everything in its group, unless it has exited or is a session, and frees it. Calls on it that other threads
/// have begun end with DUNNAGE_CANCELLED. NULL is fine.
///
/// # Safety
/// `process` is NULL or came from this library, and no call on it begins any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_process_free(process: *mut dunnage_process) {
    if process.is_null() {
        return;
    }
    // SAFETY: processes are made by Box::into_raw; by the caller's promise this is one and is freed once.
    let process = unsafe { Box::from_raw(process) };
    // SAFETY: no pointer is passed.
    unsafe {
        guard(null_mut(), "exec.spawn", null(), move |_| {
            process.process.token.cancel();
            drop(process);
            Ok(())
        });
    }
}
