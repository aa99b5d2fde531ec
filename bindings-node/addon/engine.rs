use crate::call::NativeCall;
use crate::data::{NativeDataExport, NativeDataImport};
use crate::failure::to_js;
use crate::files::{NativeFileReader, NativeFileWriter};
use crate::items::{NativeItems, OnItem};
use crate::process::{NativeOutput, NativeProcess};
use crate::promise::{enter, promise};
use bytes::Bytes;
use dunnage::{Config, Data, Engine, Workspace};
use napi::Env;
use napi::bindgen_prelude::{Buffer, Object};
use napi_derive::napi;
use serde::de::DeserializeOwned;

/// An engine. Every method that moves no bytes goes through `call`.
#[napi]
pub struct NativeEngine {
    engine: Engine,
}

/// Opens an engine: from JSON text, else from a configuration file, else from the environment.
///
/// Settles with a `NativeEngine`.
#[napi(catch_unwind)]
pub fn open_engine(env: &Env, config: Option<String>, file: Option<String>) -> napi::Result<Object<'_>> {
    promise(env, async move {
        let config = match (config, file) {
            (Some(text), _) => Config::from_json(&text),
            (None, Some(path)) => Config::from_file(path),
            (None, None) => Config::from_env(),
        };
        let engine = Engine::open(config.map_err(|e| e.in_operation("engine.open"))?).await?;
        Ok(NativeEngine { engine })
    })
}

/// The library's version.
#[napi]
pub fn library_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[napi]
impl NativeEngine {
    /// Throws when the id is malformed.
    #[napi(catch_unwind)]
    pub fn check_workspace_id(&self, id: String) -> napi::Result<()> {
        self.engine.workspace(id).map(drop).map_err(|e| to_js(&e.in_operation("engine.workspace")))
    }

    /// Calls an operation with options as JSON text; settles with its result as JSON text.
    #[napi(catch_unwind)]
    pub fn call<'env>(
        &self,
        env: &'env Env,
        operation: String,
        workspace: Option<String>,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        let (engine, call) = (self.engine.clone(), NativeCall::options(call));
        promise(env, async move { engine.call(&operation, workspace.as_deref(), &options, call).await })
    }

    /// Calls an operation that yields items, with options as JSON text; settles with a `NativeItems`.
    #[napi(catch_unwind)]
    pub fn items<'env>(
        &self,
        env: &'env Env,
        operation: String,
        workspace: Option<String>,
        options: String,
        call: Option<&NativeCall>,
        on_item: OnItem,
    ) -> napi::Result<Object<'env>> {
        let (engine, call) = (self.engine.clone(), NativeCall::options(call));
        promise(env, async move {
            let items = engine.call_items(&operation, workspace.as_deref(), &options, call).await?;
            Ok(NativeItems::new(items, on_item))
        })
    }

    /// Closes the engine; settles when nothing runs any more.
    #[napi(catch_unwind)]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let engine = self.engine.clone();
        promise(env, async move {
            engine.close().await;
            Ok(())
        })
    }

    /// Begins an export whose archive JavaScript takes.
    #[napi(catch_unwind)]
    pub fn data_export_stream(
        &self,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<NativeDataExport> {
        let begun = self.begin("data.export_stream", workspace, &options, |data, o| data.export_stream(o))?;
        Ok(NativeDataExport::new(begun, call))
    }

    /// Begins an import whose archive JavaScript gives.
    #[napi(catch_unwind)]
    pub fn data_import_stream(
        &self,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<NativeDataImport> {
        let begun = self.begin("data.import_stream", workspace, &options, |data, o| data.import_stream(o))?;
        Ok(NativeDataImport::new(begun, call))
    }

    /// Runs a command; settles with a `NativeOutput`.
    #[napi(catch_unwind)]
    pub fn exec_run<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        input: &[u8],
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        let input = Bytes::copy_from_slice(input);
        self.with(env, "exec.run", workspace, options, call, async move |workspace, options| {
            NativeOutput::new(workspace.exec().run(options, input).await?)
        })
    }

    /// Starts a command; settles with a `NativeProcess`.
    #[napi(catch_unwind)]
    pub fn exec_spawn<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        self.with(env, "exec.spawn", workspace, options, call, async move |workspace, options| {
            Ok(NativeProcess::new(workspace.exec().spawn(options).await?))
        })
    }

    /// Attaches to a session; settles with a `NativeProcess`.
    #[napi(catch_unwind)]
    pub fn exec_attach<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        self.with(env, "exec.attach", workspace, options, call, async move |workspace, options| {
            Ok(NativeProcess::new(workspace.exec().attach(options).await?))
        })
    }

    /// Reads a file; settles with a buffer.
    #[napi(catch_unwind)]
    pub fn fs_read<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        self.with(env, "fs.read", workspace, options, call, async move |workspace, options| {
            Ok(buffer(workspace.fs().read(options).await?))
        })
    }

    /// Replaces a file; settles with the result as JSON text.
    #[napi(catch_unwind)]
    pub fn fs_write<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        content: &[u8],
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        let content = Bytes::copy_from_slice(content);
        self.with(env, "fs.write", workspace, options, call, async move |workspace, options| {
            json(&workspace.fs().write(options, content).await?)
        })
    }

    /// Opens a file for reading; settles with a `NativeFileReader`.
    #[napi(catch_unwind)]
    pub fn fs_open_read<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        self.with(env, "fs.open_read", workspace, options, call, async move |workspace, options| {
            Ok(NativeFileReader::new(workspace.fs().open_read(options).await?))
        })
    }

    /// Opens a file for writing; settles with a `NativeFileWriter`.
    #[napi(catch_unwind)]
    pub fn fs_open_write<'env>(
        &self,
        env: &'env Env,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
    ) -> napi::Result<Object<'env>> {
        self.with(env, "fs.open_write", workspace, options, call, async move |workspace, options| {
            Ok(NativeFileWriter::new(workspace.fs().open_write(options).await?))
        })
    }
}

impl NativeEngine {
    /// Reads the options and begins an operation on the workspace's data.
    fn begin<O: DeserializeOwned, T>(
        &self,
        operation: &'static str,
        workspace: String,
        options: &str,
        work: impl FnOnce(Data, O) -> T,
    ) -> napi::Result<T> {
        let _runtime = enter()?;
        let begun = || {
            let options = dunnage::catalog::parse::<O>(options)?;
            Ok(work(self.engine.workspace(workspace)?.data(), options))
        };
        begun().map_err(|e: dunnage::Error| to_js(&e.in_operation(operation)))
    }

    /// Reads the options and runs `work` on the workspace under the call's token and time limit.
    fn with<'env, O, T, W, F>(
        &self,
        env: &'env Env,
        operation: &'static str,
        workspace: String,
        options: String,
        call: Option<&NativeCall>,
        work: W,
    ) -> napi::Result<Object<'env>>
    where
        O: DeserializeOwned + Send + 'static,
        T: napi::bindgen_prelude::ToNapiValue + Send + 'static,
        W: FnOnce(Workspace, O) -> F + Send + 'static,
        F: Future<Output = dunnage::Result<T>> + Send + 'static,
    {
        let (engine, call) = (self.engine.clone(), NativeCall::options(call));
        promise(env, async move {
            let run = async {
                let options = dunnage::catalog::parse::<O>(&options)?;
                call.guard(work(engine.workspace(workspace)?, options)).await
            };
            run.await.map_err(|e| e.in_operation(operation))
        })
    }
}

/// Bytes as a buffer, without copying them where nobody else holds them.
pub(crate) fn buffer(bytes: Bytes) -> Buffer {
    Vec::from(bytes).into()
}

/// A result as JSON text.
pub(crate) fn json(value: &impl serde::Serialize) -> dunnage::Result<String> {
    serde_json::to_string(value)
        .map_err(|e| dunnage::Error::unexpected("cannot write the result").caused_by(e))
}
