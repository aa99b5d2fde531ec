use crate::call::NativeCall;
use crate::engine::{buffer, json};
use crate::promise::promise;
use bytes::Bytes;
use dunnage::types::{DataExportResult, DataImportResult};
use dunnage::{CallOptions, DataFeed, DataPieces, Error, Operation};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use serde::Serialize;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// An operation that has begun, until its result is asked for.
struct Begun<T>(Mutex<Option<(Operation<T>, CallOptions)>>);

impl<T: Serialize + Send + 'static> Begun<T> {
    fn new(operation: Operation<T>, call: Option<&NativeCall>) -> Self {
        Self(Mutex::new(Some((operation, NativeCall::options(call)))))
    }

    /// Its result as JSON text, once.
    fn result<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        promise(env, async move {
            let (operation, call) =
                begun.ok_or_else(|| Error::failed_precondition("the result was asked for before"))?;
            json(&call.drive(operation).await?)
        })
    }
}

/// An export that has begun.
#[napi]
pub struct NativeDataExport {
    operation: Begun<DataExportResult>,
    pieces: Arc<DataPieces>,
}

impl NativeDataExport {
    pub(crate) fn new(
        (operation, pieces): (Operation<DataExportResult>, DataPieces),
        call: Option<&NativeCall>,
    ) -> Self {
        Self { operation: Begun::new(operation, call), pieces: Arc::new(pieces) }
    }
}

#[napi]
impl NativeDataExport {
    /// The next piece of the archive; settles with null at its end, and when the export has failed.
    #[napi(catch_unwind)]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let pieces = self.pieces.clone();
        promise(env, async move { Ok(pieces.next().await.map(buffer)) })
    }

    /// Settles with the `DataExportResult` as JSON text. Asked for once, and at once: it is what listens to the call.
    #[napi(catch_unwind)]
    pub fn result<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.operation.result(env)
    }
}

/// An import that has begun.
#[napi]
pub struct NativeDataImport {
    operation: Begun<DataImportResult>,
    feed: Arc<DataFeed>,
}

impl NativeDataImport {
    pub(crate) fn new(
        (operation, feed): (Operation<DataImportResult>, DataFeed),
        call: Option<&NativeCall>,
    ) -> Self {
        Self { operation: Begun::new(operation, call), feed: Arc::new(feed) }
    }
}

#[napi]
impl NativeDataImport {
    /// Gives a piece of the archive; settles when there is room for more.
    #[napi(catch_unwind)]
    pub fn write<'env>(&self, env: &'env Env, data: &[u8]) -> napi::Result<Object<'env>> {
        let (feed, data) = (self.feed.clone(), Bytes::copy_from_slice(data));
        promise(env, async move { feed.write(data).await })
    }

    /// Tells that the archive is whole.
    #[napi(catch_unwind)]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let feed = self.feed.clone();
        promise(env, async move { feed.finish().await })
    }

    /// Ends the import: its source has failed, with the system's error of this number if it is one.
    #[napi]
    pub fn fail(&self, message: String, errno: Option<i32>) {
        let kind = errno.map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind());
        self.feed.fail(io::Error::new(kind, message));
    }

    /// As for an export.
    #[napi(catch_unwind)]
    pub fn result<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.operation.result(env)
    }
}
