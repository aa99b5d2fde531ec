use crate::buffer::dunnage_buffer;
use crate::call::dunnage_call;
use crate::door::{Out, bytes, guard, handle, options, text};
use crate::engine::dunnage_engine;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use crate::streams::{ReaderHandle, WriterHandle, dunnage_reader, dunnage_writer};
use bytes::Bytes;
use dunnage::catalog::parse;
use dunnage::types::{OpenReadOptions, ReadOptions, WriteOptions};
use std::ffi::c_char;
use std::ptr::null_mut;

/// `fs.read`: reads a file, or a part of one, into memory.
///
/// `options_json` is a `ReadOptions` as JSON. `*content` becomes the bytes, to be freed by dunnage_buffer_free.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `content` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_fs_read(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    content: *mut dunnage_buffer,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.read", call, |call| {
            let out = Out::required(content, dunnage_buffer::EMPTY, "content")?;
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: ReadOptions = parse(options(options_json)?)?;
            let fs = workspace.fs();
            out.set(host.runtime.wait(call.options().guard(fs.read(given)))?.into());
            Ok(())
        })
    }
}

/// `fs.write`: replaces a file by these bytes, at once or not at all.
///
/// `options_json` is a `WriteOptions` as JSON. `*result` becomes a `WriteResult` as JSON; `result` may be NULL.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `content` points to `content_len` bytes, or is NULL
/// when that is 0; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_fs_write(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    content: *const u8,
    content_len: usize,
    call: *const dunnage_call,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.write", call, |call| {
            let out = Out::optional(result, null_mut());
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: WriteOptions = parse(options(options_json)?)?;
            let content = Bytes::copy_from_slice(bytes(content, content_len, "content")?);
            let fs = workspace.fs();
            out.set_json(&host.runtime.wait(call.options().guard(fs.write(given, content)))?)
        })
    }
}

/// `fs.open_read`: opens a file for reading piece by piece.
///
/// `options_json` is an `OpenReadOptions` as JSON. `*reader` becomes the reader, to be freed by dunnage_reader_free. The cancel of
/// `call` goes on to end what waits on the reader; its time limit is for the opening alone.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `reader` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_fs_open_read(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    reader: *mut *mut dunnage_reader,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_read", call, |call| {
            let out = Out::required(reader, null_mut(), "reader")?;
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: OpenReadOptions = parse(options(options_json)?)?;
            let fs = workspace.fs();
            let made = host.runtime.wait(call.options().guard(fs.open_read(given)))?;
            out.set(ReaderHandle::new(host, made, call.token()).into_raw());
            Ok(())
        })
    }
}

/// `fs.open_write`: opens a file for writing piece by piece; it takes the old one's place when finished.
///
/// `options_json` is a `WriteOptions` as JSON. `*writer` becomes the writer, to be freed by dunnage_writer_free. The cancel of
/// `call` goes on to end what waits on the writer; its time limit is for the opening alone.
///
/// # Safety
/// `engine` is alive; `workspace_id` and `options_json` are NUL-terminated; `writer` is not NULL; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_fs_open_write(
    engine: *const dunnage_engine,
    workspace_id: *const c_char,
    options_json: *const c_char,
    call: *const dunnage_call,
    writer: *mut *mut dunnage_writer,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_write", call, |call| {
            let out = Out::required(writer, null_mut(), "writer")?;
            let host = handle(engine, "engine")?.host.clone();
            let workspace = host.engine().workspace(text(workspace_id, "workspace_id")?)?;
            let given: WriteOptions = parse(options(options_json)?)?;
            let fs = workspace.fs();
            let made = host.runtime.wait(call.options().guard(fs.open_write(given)))?;
            out.set(WriterHandle::new(host, made, call.token()).into_raw());
            Ok(())
        })
    }
}
