use crate::engine::{buffer, json};
use crate::promise::promise;
use bytes::Bytes;
use dunnage::{Error, FileReader, FileWriter, Result};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A handle that is used by one call at a time, until it is taken for good.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// A file that is open for reading.
#[napi]
pub struct NativeFileReader {
    reader: Slot<FileReader>,
}

impl NativeFileReader {
    pub(crate) fn new(reader: FileReader) -> Self {
        Self { reader: Arc::new(Mutex::new(Some(reader))) }
    }
}

#[napi]
impl NativeFileReader {
    /// The next piece; settles with null at the end.
    #[napi(catch_unwind)]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let slot = self.reader.clone();
        promise(env, async move {
            let mut slot = slot.lock().await;
            let reader = slot.as_mut().ok_or_else(closed)?;
            Ok(reader.next().await?.map(buffer))
        })
    }

    /// Lets the file go. May be called again.
    #[napi(catch_unwind)]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let slot = self.reader.clone();
        promise(env, async move {
            drop(slot.lock().await.take());
            Ok(())
        })
    }
}

/// A file that is open for writing.
#[napi]
pub struct NativeFileWriter {
    writer: Slot<FileWriter>,
}

impl NativeFileWriter {
    pub(crate) fn new(writer: FileWriter) -> Self {
        Self { writer: Arc::new(Mutex::new(Some(writer))) }
    }
}

#[napi]
impl NativeFileWriter {
    /// Writes a piece; settles when there is room for more.
    #[napi(catch_unwind)]
    pub fn write<'env>(&self, env: &'env Env, data: &[u8]) -> napi::Result<Object<'env>> {
        let (slot, data) = (self.writer.clone(), Bytes::copy_from_slice(data));
        promise(env, async move {
            let mut slot = slot.lock().await;
            slot.as_mut().ok_or_else(closed)?.write(data).await
        })
    }

    /// Puts the file in its place; settles with its `WriteResult` as JSON text.
    #[napi(catch_unwind)]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let slot = self.writer.clone();
        promise(env, async move {
            let writer = take(&slot).await?;
            json(&writer.finish().await?)
        })
    }

    /// Leaves the old file as it was. May be called again.
    #[napi(catch_unwind)]
    pub fn abort<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let slot = self.writer.clone();
        promise(env, async move {
            match slot.lock().await.take() {
                Some(writer) => writer.abort().await,
                None => Ok(()),
            }
        })
    }
}

async fn take<T>(slot: &Slot<T>) -> Result<T> {
    slot.lock().await.take().ok_or_else(closed)
}

fn closed() -> Error {
    Error::failed_precondition("the file is closed: open it again")
}
