//! Futures of the library as promises of JavaScript.

use crate::failure::to_js;
use dunnage::{Error, Result};
use futures::FutureExt;
use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use tokio::runtime::{Builder, EnterGuard, Runtime};

type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<T> + Send>;

/// The one runtime of the process. It belongs to no JavaScript environment: an operation that a worker thread began
/// goes on to its end when the worker is gone, and other threads' engines are not disturbed.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().enable_all().thread_name("dunnage").build())
        .as_ref()
        .map_err(|e| {
            Error::new(dunnage::ErrorKind::of_io(e), "cannot start the runtime's threads")
                .caused_by(e.to_string())
        })
}

/// Makes the runtime known to what is begun here.
pub(crate) fn enter() -> napi::Result<EnterGuard<'static>> {
    Ok(runtime().map_err(|e| to_js(&e))?.enter())
}

/// Runs `work` beside the event loop, which it does not keep alive.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> napi::Result<()> {
    runtime().map_err(|e| to_js(&e))?.spawn(work);
    Ok(())
}

/// Runs `work` and settles a promise with its result. The promise keeps the event loop alive until then.
///
/// When the environment is gone before `work` ends, nothing is settled and the result is dropped.
pub(crate) fn promise<'env, T, F>(env: &'env Env, work: F) -> napi::Result<Object<'env>>
where
    T: ToNapiValue + Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = runtime().map_err(|e| to_js(&e))?;
    let (deferred, promise): (JsDeferred<T, Resolver<T>>, _) = env.create_deferred()?;
    runtime.spawn(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(value)) => deferred.resolve(Box::new(move |_| Ok(value))),
            Ok(Err(error)) => deferred.reject(to_js(&error)),
            Err(_) => deferred.reject(to_js(&Error::unexpected("the call panicked: please report it"))),
        }
    });
    Ok(promise)
}
