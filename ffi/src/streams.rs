use crate::door::{Out, bytes, guard, handle};
use crate::engine::Host;
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use crate::runtime::bounded;
use bytes::{Buf, Bytes};
use dunnage::{Error, FileReader, FileWriter, Result};
use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::ptr::{copy_nonoverlapping, null, null_mut};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// A file that is read piece by piece.
#[derive(Debug)]
pub struct dunnage_reader {
    reader: Arc<ReaderHandle>,
}

/// A file that is written piece by piece.
#[derive(Debug)]
pub struct dunnage_writer {
    writer: Arc<WriterHandle>,
}

/// The reader with what it lives on.
#[derive(Debug)]
pub(crate) struct ReaderHandle {
    reader: ManuallyDrop<FileReader>,
    /// What came and was not taken yet. Held over a read, so that two reads never mix.
    rest: Mutex<Bytes>,
    host: Arc<Host>,
    token: CancellationToken,
}

/// The writer with what it lives on.
#[derive(Debug)]
pub(crate) struct WriterHandle {
    writer: ManuallyDrop<FileWriter>,
    host: Arc<Host>,
    token: CancellationToken,
}

impl ReaderHandle {
    pub(crate) fn new(host: Arc<Host>, reader: FileReader, token: CancellationToken) -> Self {
        Self { reader: ManuallyDrop::new(reader), rest: Mutex::default(), host, token: token.child_token() }
    }

    pub(crate) fn into_raw(self) -> *mut dunnage_reader {
        Box::into_raw(Box::new(dunnage_reader { reader: Arc::new(self) }))
    }

    /// The next bytes, at most `most` of them; empty at the end.
    async fn read(&self, most: usize) -> Result<Bytes> {
        let mut rest = self.rest.lock().await;
        while rest.is_empty() {
            match self.reader.next_chunk().await? {
                Some(chunk) => *rest = chunk,
                None => return Ok(Bytes::new()),
            }
        }
        let take = most.min(rest.len());
        Ok(rest.copy_to_bytes(take))
    }
}

impl WriterHandle {
    pub(crate) fn new(host: Arc<Host>, writer: FileWriter, token: CancellationToken) -> Self {
        Self { writer: ManuallyDrop::new(writer), host, token: token.child_token() }
    }

    pub(crate) fn into_raw(self) -> *mut dunnage_writer {
        Box::into_raw(Box::new(dunnage_writer { writer: Arc::new(self) }))
    }
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        // In a forked child the reader is the parent's.
        let Ok(handle) = self.host.runtime.handle() else { return };
        let _entered = handle.enter();
        // SAFETY: dropped here and nowhere else, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.reader) };
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        // In a forked child the writer is the parent's.
        let Ok(handle) = self.host.runtime.handle() else { return };
        let _entered = handle.enter();
        // SAFETY: dropped here and nowhere else, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.writer) };
    }
}

/// Reads the next bytes, at least one and at most `capacity`; waits until some are there. `*count` becomes how many: 0
/// at the end of the file.
///
/// # Safety
/// `reader` is alive; `data` has room for `capacity` bytes; `count` is not NULL; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_reader_read(
    reader: *const dunnage_reader,
    data: *mut u8,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_read", null(), |_| {
            let count = Out::required(count, 0, "count")?;
            let reader = handle(reader, "reader")?.reader.clone();
            if data.is_null() || capacity == 0 {
                return Err(Error::invalid_argument("there is no room to read into").with("argument", "data"));
            }
            let read = reader.host.runtime.wait(bounded(&reader.token, -1, reader.read(capacity)))?;
            // The bytes read are at most `capacity`, and the library's own memory never overlaps the host's.
            copy_nonoverlapping(read.as_ptr(), data, read.len());
            count.set(read.len());
            Ok(())
        })
    }
}

/// The length of the file when it was opened; -1 where the agent does not tell, and for NULL.
///
/// # Safety
/// `reader` is NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_reader_size(reader: *const dunnage_reader) -> i64 {
    // SAFETY: NULL or alive, by the caller's promise.
    let size = unsafe { reader.as_ref() }.and_then(|r| r.reader.reader.size());
    size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1)
}

/// Closes and frees a reader. Reads that other threads have begun end with DUNNAGE_CANCELLED. NULL is fine.
///
/// # Safety
/// `reader` is NULL or came from this library, and no call on it begins any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_reader_free(reader: *mut dunnage_reader) {
    if reader.is_null() {
        return;
    }
    // SAFETY: readers are made by Box::into_raw; by the caller's promise this is one and is freed once.
    let reader = unsafe { Box::from_raw(reader) };
    // SAFETY: no pointer is passed.
    unsafe {
        guard(null_mut(), "fs.open_read", null(), move |_| {
            reader.reader.token.cancel();
            drop(reader);
            Ok(())
        });
    }
}

/// Writes bytes after those written before. Waits while the agent takes none. After an error the file is given up.
///
/// # Safety
/// `writer` is alive; `data` points to `len` bytes, or is NULL when that is 0; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_writer_write(
    writer: *const dunnage_writer,
    data: *const u8,
    len: usize,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_write", null(), |_| {
            let writer = handle(writer, "writer")?.writer.clone();
            let data = Bytes::copy_from_slice(bytes(data, len, "data")?);
            writer.host.runtime.wait(bounded(&writer.token, -1, writer.writer.write(data)))
        })
    }
}

/// Puts the file in its place. `*result` becomes a `WriteResult` as JSON; `result` may be NULL.
///
/// # Safety
/// `writer` is alive; the others may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_writer_finish(
    writer: *const dunnage_writer,
    result: *mut *mut c_char,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_write", null(), |_| {
            let out = Out::optional(result, null_mut());
            let writer = handle(writer, "writer")?.writer.clone();
            out.set_json(&writer.host.runtime.wait(bounded(&writer.token, -1, writer.writer.finish()))?)
        })
    }
}

/// Gives the file up: what was there before stays. After a finish it does nothing.
///
/// # Safety
/// `writer` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_writer_abort(
    writer: *const dunnage_writer,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "fs.open_write", null(), |_| {
            let writer = handle(writer, "writer")?.writer.clone();
            writer.host.runtime.wait(async {
                writer.writer.abort().await;
                Ok(())
            })
        })
    }
}

/// Frees a writer. One that was not finished is given up: what was there before stays. Writes that other threads have
/// begun end with DUNNAGE_CANCELLED. NULL is fine.
///
/// # Safety
/// `writer` is NULL or came from this library, and no call on it begins any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_writer_free(writer: *mut dunnage_writer) {
    if writer.is_null() {
        return;
    }
    // SAFETY: writers are made by Box::into_raw; by the caller's promise this is one and is freed once.
    let writer = unsafe { Box::from_raw(writer) };
    // SAFETY: no pointer is passed.
    unsafe {
        guard(null_mut(), "fs.open_write", null(), move |_| {
            writer.writer.token.cancel();
            drop(writer);
            Ok(())
        });
    }
}
