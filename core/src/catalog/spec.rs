use crate::engine::{CallOptions, Engine, Workspace};
use crate::error::{Error, Result};
use crate::json::read_object;
use crate::operation::Operation;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// What an operation is called on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The engine.
    Engine,
    /// A workspace, by its id.
    Workspace,
}

/// Which bytes travel beside an operation's JSON. Such operations are written by hand in each binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// None: the operation is called with JSON alone.
    None,
    /// Bytes go in.
    In,
    /// Bytes come out.
    Out,
    /// Bytes go in and come out.
    Both,
    /// The result is a handle with streams.
    Stream,
}

type Handler = Box<
    dyn for<'a> Fn(&'a Engine, Option<Workspace>, &'a str, CallOptions) -> BoxFuture<'a, Result<String>>
        + Send
        + Sync,
>;
type ItemsHandler = Box<
    dyn for<'a> Fn(
            &'a Engine,
            Option<Workspace>,
            &'a str,
            CallOptions,
        ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>>
        + Send
        + Sync,
>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation: its name, its shapes and its handler.
pub struct OperationSpec {
    /// `noun.verb`.
    pub name: &'static str,
    /// What it is called on.
    pub target: Target,
    /// One sentence or more, for the documents of every language.
    pub summary: &'static str,
    /// The fields of the options that languages with positional arguments take first, in order.
    pub arguments: &'static [&'static str],
    /// Whether it is a multi-step write with events.
    pub events: bool,
    /// Which bytes travel beside its JSON.
    pub bytes: Bytes,
    /// The JSON Schema of its options.
    pub options: SchemaOf,
    /// The JSON Schema of its result; `null` when it has none.
    pub result: SchemaOf,
    /// The JSON Schema of each item, for an operation that yields any number of them instead of one result.
    pub item: Option<SchemaOf>,
    handler: Option<Handler>,
    items: Option<ItemsHandler>,
}

impl std::fmt::Debug for OperationSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperationSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OperationSpec {
    /// A row for a call whose bytes travel beside its JSON.
    pub(super) fn bytes<O: JsonSchema, R: JsonSchema>(
        name: &'static str,
        bytes: Bytes,
        arguments: &'static [&'static str],
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            target: Target::Workspace,
            summary,
            arguments,
            events: false,
            bytes,
            options: SchemaGenerator::subschema_for::<O>,
            result: SchemaGenerator::subschema_for::<R>,
            item: None,
            handler: None,
            items: None,
        }
    }

    /// A row for an operation whose bytes travel beside its JSON.
    pub(super) fn bytes_operation<O: JsonSchema, R: JsonSchema>(
        name: &'static str,
        bytes: Bytes,
        summary: &'static str,
    ) -> Self {
        Self { events: true, ..Self::bytes::<O, R>(name, bytes, &[], summary) }
    }

    /// A row for a call on the engine that yields items.
    pub(super) fn engine_items<O, S, T, F>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Engine, O) -> F + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        S: Stream<Item = Result<T>> + Send + 'static,
        T: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
    {
        let mut row = Self::bytes::<O, ()>(name, Bytes::None, arguments, summary);
        row.target = Target::Engine;
        row.item = Some(SchemaGenerator::subschema_for::<T>);
        row.items = Some(Box::new(move |engine, _, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                let items = call.guard(run(engine.clone(), options)).await?;
                Ok(items.map(|item| encode(&item?)).boxed())
            })
        }));
        row
    }

    /// A row for a call on a workspace that yields items.
    pub(super) fn workspace_items<O, S, T, F>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Workspace, O) -> F + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        S: Stream<Item = Result<T>> + Send + 'static,
        T: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
    {
        let mut row = Self::bytes::<O, ()>(name, Bytes::None, arguments, summary);
        row.item = Some(SchemaGenerator::subschema_for::<T>);
        row.items = Some(Box::new(move |_, workspace, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                let workspace = workspace.ok_or_else(no_workspace)?;
                let items = call.guard(run(workspace, options)).await?;
                Ok(items.map(|item| encode(&item?)).boxed())
            })
        }));
        row
    }

    /// A row for a plain call on the engine.
    pub(super) fn engine<O, R, F>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Engine, O) -> F + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let mut row = Self::bytes::<O, R>(name, Bytes::None, arguments, summary);
        row.target = Target::Engine;
        row.handler = Some(Box::new(move |engine, _, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                encode(&call.guard(run(engine.clone(), options)).await?)
            })
        }));
        row
    }

    /// A row for an operation on the engine.
    pub(super) fn engine_operation<O, R>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Engine, O) -> Operation<R> + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + Send + 'static,
    {
        let mut row = Self::bytes::<O, R>(name, Bytes::None, arguments, summary);
        row.target = Target::Engine;
        row.events = true;
        row.handler = Some(Box::new(move |engine, _, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                encode(&call.drive(run(engine.clone(), options)).await?)
            })
        }));
        row
    }

    /// A row for a plain call on a workspace.
    pub(super) fn workspace<O, R, F>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Workspace, O) -> F + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let mut row = Self::bytes::<O, R>(name, Bytes::None, arguments, summary);
        row.handler = Some(Box::new(move |_, workspace, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                let workspace = workspace.ok_or_else(no_workspace)?;
                encode(&call.guard(run(workspace, options)).await?)
            })
        }));
        row
    }

    /// A row for an operation on a workspace.
    pub(super) fn workspace_operation<O, R>(
        name: &'static str,
        arguments: &'static [&'static str],
        summary: &'static str,
        run: impl Fn(Workspace, O) -> Operation<R> + Send + Sync + Copy + 'static,
    ) -> Self
    where
        O: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + Send + 'static,
    {
        let mut row = Self::bytes::<O, R>(name, Bytes::None, arguments, summary);
        row.events = true;
        row.handler = Some(Box::new(move |_, workspace, options, call| {
            Box::pin(async move {
                let options = parse::<O>(options)?;
                let workspace = workspace.ok_or_else(no_workspace)?;
                encode(&call.drive(run(workspace, options)).await?)
            })
        }));
        row
    }

    pub(super) async fn call(
        &self,
        engine: &Engine,
        workspace: Option<&str>,
        options: &str,
        call: CallOptions,
    ) -> Result<String> {
        let handler = self.handler.as_ref().ok_or_else(|| {
            Error::invalid_argument("this operation moves bytes or yields items: call its own function")
                .with("operation", self.name)
        })?;
        let workspace = workspace.map(|id| engine.workspace(id)).transpose()?;
        handler(engine, workspace, options, call).await
    }
}

impl OperationSpec {
    pub(super) async fn call_items(
        &self,
        engine: &Engine,
        workspace: Option<&str>,
        options: &str,
        call: CallOptions,
    ) -> Result<BoxStream<'static, Result<String>>> {
        let handler = self.items.as_ref().ok_or_else(|| {
            Error::invalid_argument("this operation yields no items: call its own function")
                .with("operation", self.name)
        })?;
        let workspace = workspace.map(|id| engine.workspace(id)).transpose()?;
        handler(engine, workspace, options, call).await
    }
}

/// Reads options from JSON text; empty text stands for `{}`.
///
/// # Errors
/// INVALID_ARGUMENT with line, column and field.
pub fn parse<T: DeserializeOwned>(options: &str) -> Result<T> {
    let text = if options.trim().is_empty() { "{}" } else { options };
    read_object(text, "options")
}

fn encode(result: &impl Serialize) -> Result<String> {
    serde_json::to_string(result).map_err(|e| Error::unexpected("cannot write the result").caused_by(e))
}

fn no_workspace() -> Error {
    Error::invalid_argument("this operation needs a workspace id")
}
