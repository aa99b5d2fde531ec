//! Runs the steps of a case.

use crate::case::{Case, Step};
use crate::vars::Vars;
use crate::{Failure, events, matching};
use bytes::Bytes;
use dunnage::types::Event;
use dunnage::{CallOptions, Config, Engine, Error, StreamKind, catalog};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a step came to.
#[derive(Default)]
struct Outcome {
    result: Value,
    output: Vec<u8>,
    stderr: Vec<u8>,
}

pub(crate) async fn run(
    case: &Case,
    config: &Value,
    engine: &Engine,
    vars: &mut Vars,
) -> Result<(), Failure> {
    for (number, step) in case.steps.iter().enumerate() {
        one(step, config, engine, vars)
            .await
            .map_err(|why| format!("step {} ({}): {why}", number + 1, step.op))?;
    }
    Ok(())
}

async fn one(step: &Step, config: &Value, engine: &Engine, vars: &mut Vars) -> Result<(), Failure> {
    let options = match &step.options {
        Value::Null => Value::Object(Default::default()),
        given => vars.fill(given)?,
    };
    let on = step.on.clone().unwrap_or_else(|| "${ws}".to_owned());
    let workspace = vars.fill(&on.into())?.as_str().unwrap_or_default().to_owned();
    vars.name_workspace(&workspace);
    let input = match &step.input {
        Some(text) => {
            vars.fill(&text.as_str().into())?.as_str().unwrap_or_default().repeat(step.repeat.unwrap_or(1))
        }
        None => String::new(),
    };
    let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
    let cancel = CancellationToken::new();
    let mut call = CallOptions::default().cancel_token(cancel.clone()).on_event({
        let (seen, cancel_on) = (seen.clone(), step.cancel_on.clone());
        move |event| {
            if cancel_on.as_deref() == Some(&events::name(event.kind)) {
                cancel.cancel();
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    });
    if let Some(limit) = step.time_limit_ms {
        call = call.time_limit(Duration::from_millis(limit));
    }
    let done = match step.op.as_str() {
        "engine.open" => open(&vars.fill(config)?, &options).await,
        op if catalog::find(op).is_some_and(|spec| spec.bytes != catalog::Bytes::None) => {
            call.guard(bytes(op, engine, &workspace, &options.to_string(), input.into())).await
        }
        op if catalog::find(op).is_some_and(|spec| spec.item.is_some()) => {
            let target = catalog::find(op).map(|spec| spec.target);
            let workspace = (target == Some(catalog::Target::Workspace)).then_some(workspace.as_str());
            items(engine, op, workspace, &options.to_string(), call).await
        }
        op => {
            let target = catalog::find(op).map(|spec| spec.target);
            let workspace = (target == Some(catalog::Target::Workspace)).then_some(workspace.as_str());
            engine.call(op, workspace, &options.to_string(), call).await.map(|result| Outcome {
                result: serde_json::from_str(&result).unwrap_or_default(),
                ..Outcome::default()
            })
        }
    };
    let events = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    events::check(&events, done.as_ref().err())?;
    if let Some(expected) = &step.expect_events {
        events::expect(expected, &events)?;
    }
    judge(step, vars, done)
}

fn judge(step: &Step, vars: &mut Vars, done: Result<Outcome, Error>) -> Result<(), Failure> {
    let outcome = match (done, &step.expect_error) {
        (Err(error), None) => return Err(error.to_string()),
        (Ok(_), Some(code)) => return Err(format!("it succeeded, expected {code}")),
        (Err(error), Some(code)) => {
            if error.kind().as_str() != code {
                return Err(format!("expected {code}, got {error}"));
            }
            if let Some(part) = &step.error_contains {
                let part = vars.fill(&part.as_str().into())?;
                let part = part.as_str().unwrap_or_default();
                let there = error.message_with_cause().contains(part)
                    || error.context().any(|(_, v)| v.contains(part));
                if !there {
                    return Err(format!("nothing says {part:?} in {error}"));
                }
            }
            return Ok(());
        }
        (Ok(outcome), None) => outcome,
    };
    if let Some(expected) = &step.expect {
        matching::matches(&vars.fill(expected)?, &outcome.result, "result")?;
    }
    if let Some(expected) = &step.expect_output {
        matching::bytes_match(&vars.fill(expected)?, &outcome.output, "output")?;
    }
    if let Some(length) = step.expect_output_len
        && outcome.output.len() != length
    {
        return Err(format!("output: expected {length} bytes, got {}", outcome.output.len()));
    }
    if let Some(expected) = &step.expect_stderr {
        matching::bytes_match(&vars.fill(expected)?, &outcome.stderr, "stderr")?;
    }
    if let Some(name) = &step.save {
        vars.save(name, outcome.result);
    }
    Ok(())
}

/// Opens a second engine with the options over the configuration, and closes it.
async fn open(config: &Value, options: &Value) -> Result<Outcome, Error> {
    let mut merged = config.clone();
    merge(&mut merged, options);
    Engine::open(Config::from_json(&merged.to_string())?).await?.close().await;
    Ok(Outcome::default())
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// The operations that yield items, read to their end.
async fn items(
    engine: &Engine,
    op: &str,
    workspace: Option<&str>,
    options: &str,
    call: CallOptions,
) -> Result<Outcome, Error> {
    let mut items = engine.call_items(op, workspace, options, call).await?;
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        all.push(serde_json::from_str::<Value>(&item?).unwrap_or_default());
    }
    Ok(Outcome { result: serde_json::json!({ "items": all }), ..Outcome::default() })
}

/// The operations whose bytes travel beside the JSON.
async fn bytes(op: &str, engine: &Engine, id: &str, options: &str, input: Bytes) -> Result<Outcome, Error> {
    let workspace = engine.workspace(id)?;
    let mut outcome = Outcome::default();
    let encode = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
    match op {
        "exec.run" => {
            let output = workspace.exec().run(catalog::parse(options)?, input).await?;
            outcome.result = encode(serde_json::to_value(&output.result));
            (outcome.output, outcome.stderr) = (output.stdout.to_vec(), output.stderr.to_vec());
        }
        "exec.spawn" | "exec.attach" => {
            let process = if op == "exec.spawn" {
                workspace.exec().spawn(catalog::parse(options)?).await?
            } else {
                workspace.exec().attach(catalog::parse(options)?).await?
            };
            if !input.is_empty() {
                process.write_stdin(input).await?;
            }
            if op == "exec.spawn" {
                process.close_stdin().await;
            }
            while let Some((kind, bytes)) = process.next_output().await? {
                match kind {
                    StreamKind::Stdout => outcome.output.extend_from_slice(&bytes),
                    _ => outcome.stderr.extend_from_slice(&bytes),
                }
            }
            outcome.result = encode(serde_json::to_value(process.wait().await?));
        }
        "fs.read" => outcome.output = workspace.fs().read(catalog::parse(options)?).await?.to_vec(),
        "fs.write" => {
            outcome.result =
                encode(serde_json::to_value(workspace.fs().write(catalog::parse(options)?, input).await?));
        }
        "fs.open_read" => {
            let reader = workspace.fs().open_read(catalog::parse(options)?).await?;
            while let Some(chunk) = reader.next_chunk().await? {
                outcome.output.extend_from_slice(&chunk);
            }
        }
        "fs.open_write" => {
            let writer = workspace.fs().open_write(catalog::parse(options)?).await?;
            let half = input.len() / 2;
            writer.write(input.slice(..half)).await?;
            writer.write(input.slice(half..)).await?;
            outcome.result = encode(serde_json::to_value(writer.finish().await?));
        }
        other => {
            return Err(
                Error::unsupported("the driver does not know this operation").with("operation", other)
            );
        }
    }
    Ok(outcome)
}
