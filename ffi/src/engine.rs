use crate::call::{Call, dunnage_call};
use crate::door::{Out, guard, handle, text};
use crate::error::dunnage_error;
use crate::generated::dunnage_status;
use crate::runtime::EngineRuntime;
use dunnage::{Config, Engine, Result};
use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::Arc;

/// An engine: keeps workspaces. May be used from any number of threads at once.
#[derive(Debug)]
pub struct dunnage_engine {
    pub(crate) host: Arc<Host>,
}

/// The engine with the runtime it lives on. Handles made from the engine share it, so they outlive the engine's handle.
#[derive(Debug)]
pub(crate) struct Host {
    engine: ManuallyDrop<Engine>,
    pub(crate) runtime: EngineRuntime,
}

impl Host {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.runtime.forked() {
            // Its connections belong to the parent.
            return;
        }
        let Ok(handle) = self.runtime.handle().cloned() else { return };
        let _entered = handle.enter();
        // SAFETY: dropped here and nowhere else, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.engine) };
    }
}

/// Opens an engine. `config` is a `Config` as JSON; NULL takes the file that `$DUNNAGE_CONFIG` names, or the defaults,
/// and the other `DUNNAGE_…` variables over it. `*engine` becomes the engine, to be freed by dunnage_engine_free.
///
/// It starts two threads. What an earlier process left unfinished is finished or undone first.
///
/// # Safety
/// `config` is NULL or NUL-terminated; `engine` is not NULL; `call` and `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_engine_open(
    config: *const c_char,
    call: *const dunnage_call,
    engine: *mut *mut dunnage_engine,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "engine.open", call, |call| {
            let out = Out::required(engine, null_mut(), "engine")?;
            let config = if config.is_null() {
                Config::from_env()?
            } else {
                Config::from_json(text(config, "config")?)?
            };
            out.set(open(config, call)?);
            Ok(())
        })
    }
}

/// Opens an engine as a configuration file says: JSON when its name ends in `.json`, else TOML.
///
/// # Safety
/// `path` is NUL-terminated; `engine` is not NULL; `call` and `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_engine_open_file(
    path: *const c_char,
    call: *const dunnage_call,
    engine: *mut *mut dunnage_engine,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "engine.open", call, |call| {
            let out = Out::required(engine, null_mut(), "engine")?;
            out.set(open(Config::from_file(text(path, "path")?)?, call)?);
            Ok(())
        })
    }
}

fn open(config: Config, call: &Call) -> Result<*mut dunnage_engine> {
    let runtime = EngineRuntime::new()?;
    let engine = runtime.wait(call.options().guard(Engine::open(config)))?;
    let host = Host { engine: ManuallyDrop::new(engine), runtime };
    Ok(Box::into_raw(Box::new(dunnage_engine { host: Arc::new(host) })))
}

/// Closes an engine: operations that run are cancelled and undone, or, past their point of no return, completed; then
/// connections and files are let go. Workspaces go on running. Calls after it fail with DUNNAGE_FAILED_PRECONDITION.
/// May be called again, and from a callback.
///
/// # Safety
/// `engine` is alive; `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_engine_close(
    engine: *const dunnage_engine,
    error: *mut *mut dunnage_error,
) -> dunnage_status {
    // SAFETY: the caller keeps the promises above.
    unsafe {
        guard(error, "engine.close", std::ptr::null(), |_| {
            let host = handle(engine, "engine")?.host.clone();
            host.runtime.wait(async {
                host.engine().close().await;
                Ok(())
            })
        })
    }
}

/// Closes an engine that is open, and frees it. Calls that other threads have begun before end by themselves;
/// processes, readers and writers made from it stay valid, and fail. NULL is fine. In a child after fork() it only
/// forgets the engine.
///
/// # Safety
/// `engine` is NULL or came from this library, and no call on it begins any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_engine_free(engine: *mut dunnage_engine) {
    if engine.is_null() {
        return;
    }
    // SAFETY: engines are made by Box::into_raw; by the caller's promise this is one and is freed once.
    let engine = unsafe { Box::from_raw(engine) };
    // SAFETY: no pointer is passed.
    unsafe {
        guard(null_mut(), "engine.close", std::ptr::null(), |_| {
            engine.host.runtime.wait(async {
                engine.host.engine().close().await;
                Ok(())
            })
        });
        guard(null_mut(), "engine.close", std::ptr::null(), move |_| {
            drop(engine);
            Ok(())
        });
    }
}
