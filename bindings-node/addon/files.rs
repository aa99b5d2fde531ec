use crate::engine::{buffer, json};
use crate::promise::promise;
use bytes::Bytes;
use dunnage::{Error, FileReader, FileWriter, Result};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};

/// A handle that is there until it is closed, whatever the garbage collector does.
struct Slot<T>(Mutex<Option<Arc<T>>>);

impl<T> Slot<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(Some(Arc::new(value))))
    }

    /// The handle, for one call.
    fn get(&self) -> Result<Arc<T>> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        value.ok_or_else(|| Error::failed_precondition("the file is closed: open it again"))
    }

    /// The handle, for good.
    fn take(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A file that is open for reading.
#[napi]
pub struct NativeFileReader {
    reader: Slot<FileReader>,
}

impl NativeFileReader {
    pub(crate) fn new(reader: FileReader) -> Self {
        Self { reader: Slot::new(reader) }
    }
}

#[napi]
impl NativeFileReader {
    /// The next piece; settles with null at the end.
    #[napi(catch_unwind)]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let reader = self.reader.get();
        promise(env, async move { Ok(reader?.next_chunk().await?.map(buffer)) })
    }

    /// Lets the file go, once a read under way has ended. May be called again.
    #[napi]
    pub fn close(&self) {
        drop(self.reader.take());
    }
}

/// A file that is open for writing.
#[napi]
pub struct NativeFileWriter {
    writer: Slot<FileWriter>,
}

impl NativeFileWriter {
    pub(crate) fn new(writer: FileWriter) -> Self {
        Self { writer: Slot::new(writer) }
    }
}

#[napi]
impl NativeFileWriter {
    /// Writes a piece; settles when there is room for more.
    #[napi(catch_unwind)]
    pub fn write<'env>(&self, env: &'env Env, data: &[u8]) -> napi::Result<Object<'env>> {
        let (writer, data) = (self.writer.get(), Bytes::copy_from_slice(data));
        promise(env, async move { writer?.write(data).await })
    }

    /// Puts the file in its place; settles with its `WriteResult` as JSON text.
    #[napi(catch_unwind)]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let writer = self.writer.get();
        promise(env, async move { json(&writer?.finish().await?) })
    }

    /// Leaves the old file as it was, unless it was finished. May be called again.
    #[napi(catch_unwind)]
    pub fn abort<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let writer = self.writer.take();
        promise(env, async move {
            if let Some(writer) = writer {
                writer.abort().await;
            }
            Ok(())
        })
    }
}
