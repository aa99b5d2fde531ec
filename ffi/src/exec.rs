use crate::buffer::dunnage_buffer;
use crate::call::dunnage_call;
use crate::door::{Out, bytes, guard, handle, options, text};
use crate::engine::dunnage_engine;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use crate::process::{ProcessHandle, dunnage_process};
use bytes::Bytes;
use dunnage::catalog::parse;
use dunnage::types::{AttachOptions, ExecOptions, RunOptions};
use std::ffi::c_char;
use std::ptr::null_mut;

/// `exec.run`: runs a command to its end with `input` as its stdin, and collects its output.
///
/// `options_json` is a `RunOptions` as JSON. `*result` becomes an `ExecResult` as JSON, `*stdout_bytes` and `*stderr_bytes`
/// the output, to be freed by dunnage_buffer_free. Each of the three may be NULL. A command that fails is no error: look
/// at `exit_code`. Cancelling the call, or its time limit, kills the command.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `input` points to `input_len` bytes or is NULL; the
/// others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_exec_run(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    input: *const u8,
    input_len: usize,
    call: *const dunnage_call,
    result: *mut *mut c_char,
    stdout_bytes: *mut dunnage_buffer,
    stderr_bytes: *mut dunnage_buffer,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.run", call, |call| {
            let out = Out::optional(result, null_mut());
            let stdout = Out::optional(stdout_bytes, dunnage_buffer::EMPTY);
            let stderr = Out::optional(stderr_bytes, dunnage_buffer::EMPTY);
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: RunOptions = parse(options(options_json)?)?;
            let input = Bytes::copy_from_slice(bytes(input, input_len, "input")?);
            let exec = workspace.exec();
            let done = host.runtime.wait(call.options().guard(exec.run(given, input)))?;
            out.set_json(&done.result)?;
            if stdout.is_wanted() {
                stdout.set(done.stdout.into());
            }
            if stderr.is_wanted() {
                stderr.set(done.stderr.into());
            }
            Ok(())
        })
    }
}

/// `exec.spawn`: starts a command with its streams open.
///
/// `options_json` is an `ExecOptions` as JSON; with `detach` it becomes a session, which goes on when the process is freed.
/// `*process` becomes the process, to be freed by dunnage_process_free. The cancel of `call` goes on to end what waits on
/// the process; its time limit is for the start alone.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `process` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_exec_spawn(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    process: *mut *mut dunnage_process,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.spawn", call, |call| {
            let out = Out::required(process, null_mut(), "process")?;
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: ExecOptions = parse(options(options_json)?)?;
            let exec = workspace.exec();
            let made = host.runtime.wait(call.options().guard(exec.spawn(given)))?;
            out.set(ProcessHandle::new(host, made, call.token()).into_raw());
            Ok(())
        })
    }
}

/// `exec.attach`: attaches to a session: the output it has kept, then what is new.
///
/// `options_json` is an `AttachOptions` as JSON. `*process` becomes one of those attached to it, to be freed by
/// dunnage_process_free, which leaves the session as it is. `call` is as for dunnage_exec_spawn.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `process` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_exec_attach(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    process: *mut *mut dunnage_process,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "exec.attach", call, |call| {
            let out = Out::required(process, null_mut(), "process")?;
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: AttachOptions = parse(options(options_json)?)?;
            let exec = workspace.exec();
            let made = host.runtime.wait(call.options().guard(exec.attach(given)))?;
            out.set(ProcessHandle::new(host, made, call.token()).into_raw());
            Ok(())
        })
    }
}
