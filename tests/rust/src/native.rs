//! The cases that the steps cannot say: written by hand, under the same ids in every language.

mod data;
mod sessions;

use crate::Failure;
use crate::vars::Vars;
use dunnage::types::{
    CreateOptions, DeleteOptions, Event, EventsOptions, ExecOptions, LifecycleKind, PullOptions, ReadOptions,
    RunOptions, StopOptions, WriteOptions,
};
use dunnage::{CallOptions, Engine, Error, ErrorKind, StreamKind, Workspace};
use futures::future::join_all;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(id: &str, engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    match id {
        "native.bad_arguments" => bad_arguments(engine).await,
        "native.callback_fails" => callback_fails(engine, vars).await,
        "native.callback_sleeps" => callback_sleeps(engine, vars).await,
        "native.callback_calls_back" => callback_calls_back(engine, vars).await,
        "native.cancel" => cancel(engine, vars).await,
        "native.items" => items(engine, vars).await,
        "native.items_cancelled" => items_cancelled(engine, vars).await,
        "native.many_calls_one_engine" => many_calls_one_engine(engine).await,
        "native.many_calls_one_workspace" => many_calls_one_workspace(engine, vars).await,
        "native.twenty_workspaces" => twenty_workspaces(engine, vars).await,
        "native.close_while_running" => close_while_running(engine, vars).await,
        "native.process" => process(engine, vars).await,
        "native.process_dropped" => process_dropped(engine, vars).await,
        "native.session" => sessions::session(engine, vars).await,
        "native.writer_aborted" => writer_aborted(engine, vars).await,
        "data.export_stream" => data::export_stream(engine, vars).await,
        "data.import_stream" => data::import_stream(engine, vars).await,
        "native.no_leaks" => no_leaks(engine, vars).await,
        _ => Err("the driver has no such case".to_owned()),
    }
}

fn text(error: impl Display) -> Failure {
    error.to_string()
}

fn expect(condition: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(what()) }
}

fn fails<T>(result: Result<T, Error>, kind: ErrorKind) -> Result<Error, Failure> {
    match result {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(format!("expected {}, got {error}", kind.as_str())),
        Ok(_) => Err(format!("it succeeded, expected {}", kind.as_str())),
    }
}

/// A running workspace of the small image.
async fn running(engine: &Engine, vars: &Vars) -> Result<Workspace, Failure> {
    let workspace = engine.workspace(vars.text("ws")?).map_err(text)?;
    workspace.create(options(vars)?).await.map_err(text)?;
    Ok(workspace)
}

fn options(vars: &Vars) -> Result<CreateOptions, Failure> {
    Ok(CreateOptions::default().image(vars.text("images.busybox")?))
}

async fn bad_arguments(engine: &Engine) -> Result<(), Failure> {
    for json in ["{", "[]", "null", "{\"limit\": \"many\"}", "{\"limit\": -1}", "{\"limit\": 1} x"] {
        fails(
            engine.call("engine.list", None, json, CallOptions::default()).await,
            ErrorKind::InvalidArgument,
        )
        .map_err(|why| format!("{json}: {why}"))?;
    }
    for (operation, workspace) in [("no.such", None), ("workspace.info", None), ("exec.run", Some("a"))] {
        let result = engine.call(operation, workspace, "{}", CallOptions::default()).await;
        fails(result, ErrorKind::InvalidArgument).map_err(|why| format!("{operation}: {why}"))?;
    }
    for id in ["", "a/b", "..", "a b", "\0", "ü"] {
        fails(engine.workspace(id), ErrorKind::InvalidArgument).map_err(|why| format!("{id:?}: {why}"))?;
    }
    Ok(())
}

#[expect(clippy::panic, reason = "a callback that panics is what it is about")]
async fn callback_fails(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let options = serde_json::to_string(&options(vars)?).map_err(text)?;
    let call = CallOptions::default().on_event(|_| std::panic::panic_any("a callback's own fault"));
    let result = engine.call("workspace.create", Some(&vars.text("ws")?), &options, call).await;
    std::panic::set_hook(hook);
    result.map(drop).map_err(text)
}

async fn callback_sleeps(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
    let call = CallOptions::default().on_event({
        let seen = seen.clone();
        move |event| {
            std::thread::sleep(Duration::from_millis(150));
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    });
    let options = serde_json::to_string(&options(vars)?).map_err(text)?;
    engine.call("workspace.create", Some(&vars.text("ws")?), &options, call).await.map_err(text)?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    crate::events::check(&seen, None)?;
    expect(!seen.is_empty(), || "no event came".to_owned())
}

async fn callback_calls_back(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let calls = Arc::new(AtomicUsize::new(0));
    let call = CallOptions::default().on_event({
        let (engine, calls, runtime) = (engine.clone(), calls.clone(), tokio::runtime::Handle::current());
        move |_| {
            let health = runtime.block_on(engine.health());
            calls.fetch_add(usize::from(health.is_ok()), Ordering::Relaxed);
        }
    });
    let options = serde_json::to_string(&options(vars)?).map_err(text)?;
    engine.call("workspace.create", Some(&vars.text("ws")?), &options, call).await.map_err(text)?;
    expect(calls.load(Ordering::Relaxed) >= 2, || "the callback could not call".to_owned())
}

async fn cancel(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    let token = CancellationToken::new();
    let call = CallOptions::default().cancel_token(token.clone());
    let exec = workspace.exec();
    let sleep = exec.run(RunOptions::default().command("echo $$ > pid; exec sleep 60"), "");
    let canceller = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel();
        token.cancel();
    };
    let (result, ()) = tokio::join!(call.guard(sleep), canceller);
    fails(result, ErrorKind::Cancelled)?;
    gone(&workspace, "kill -0 $(cat pid)").await
}

/// Waits until a command in the workspace fails: until what it looks for is gone.
async fn gone(workspace: &Workspace, command: &str) -> Result<(), Failure> {
    for _ in 0..100 {
        let look = RunOptions::default().command(format!("{command} 2>/dev/null"));
        if workspace.exec().run(look, "").await.map_err(text)?.result.exit_code != 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("still there: {command}"))
}

/// Makes a workspace that does not run, and removes it.
async fn brief(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = engine.workspace(vars.text("ws")?).map_err(text)?;
    workspace.create(options(vars)?.start(false)).await.map_err(text)?;
    workspace.delete(DeleteOptions::default()).await.map(drop).map_err(text)
}

async fn items(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let second = Engine::open(engine.config().clone()).await.map_err(text)?;
    // A pull is told too.
    let image = PullOptions::default().image(vars.text("images.busybox")?);
    second.image().pull(image).await.map_err(text)?;
    let own = EventsOptions::default().workspace(vars.text("ws")?);
    let mut events = second.events(own.clone()).await.map_err(text)?;
    brief(engine, vars).await?;
    let mut last = 0;
    for kind in [LifecycleKind::Create, LifecycleKind::Delete] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let event = events.next().await.ok_or("the events ended")?.map_err(text)?;
        expect(event.kind == kind && event.sequence > last, || format!("{event:?}"))?;
        last = event.sequence;
    }
    drop(events);
    let mut events = second.events(own).await.map_err(text)?;
    let (event, ()) = tokio::join!(events.next(), second.close());
    expect(event.is_none(), || format!("after the close: {event:?}"))
}

async fn items_cancelled(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let token = CancellationToken::new();
    let call = CallOptions::default().cancel_token(token.clone());
    let options = format!("{{\"workspace\":\"{}\"}}", vars.text("ws")?);
    let mut items = engine.call_items("engine.events", None, &options, call).await.map_err(text)?;
    let waiting = tokio::spawn(async move {
        let first = items.next().await;
        (first, items.next().await)
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    token.cancel();
    let (first, second) = waiting.await.map_err(text)?;
    fails(first.ok_or("the items ended")?, ErrorKind::Cancelled)?;
    expect(second.is_none(), || "an item came after the end".to_owned())?;
    // The next reader is another one.
    let mut events = engine.events(EventsOptions::default()).await.map_err(text)?;
    brief(engine, vars).await?;
    events.next().await.ok_or("the events ended")?.map(drop).map_err(text)
}

async fn many_calls_one_engine(engine: &Engine) -> Result<(), Failure> {
    let calls = (0..200).map(|n| {
        let engine = engine.clone();
        tokio::spawn(async move {
            match n % 3 {
                0 => engine.health().await.map(drop),
                1 => engine.list(Default::default()).await.map(drop),
                _ => engine.image().list().await.map(drop),
            }
        })
    });
    for call in join_all(calls).await {
        call.map_err(text)?.map_err(text)?;
    }
    Ok(())
}

async fn many_calls_one_workspace(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    let calls = (0..200).map(|n| {
        let workspace = workspace.clone();
        tokio::spawn(async move {
            let run = RunOptions::default().command(format!("echo {n}; cat"));
            workspace.exec().run(run, format!("in {n}")).await
        })
    });
    for (n, call) in join_all(calls).await.into_iter().enumerate() {
        let output = call.map_err(text)?.map_err(text)?;
        let wanted = format!("{n}\nin {n}");
        expect(output.stdout == wanted.as_bytes(), || format!("call {n} got {:?}", output.stdout))?;
    }
    Ok(())
}

async fn twenty_workspaces(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let base = vars.text("ws")?;
    let workspaces: Vec<Workspace> =
        (0..20).map(|n| engine.workspace(format!("{base}-{n}"))).collect::<Result<_, _>>().map_err(text)?;
    let options = options(vars)?;
    let made = join_all(workspaces.iter().map(|workspace| workspace.create(options.clone()).wait())).await;
    let mut ids = std::collections::HashSet::new();
    let mut outcome = Ok(());
    for result in made {
        match result {
            Ok(created) => drop(ids.insert(created.container_id)),
            Err(error) => outcome = Err(text(error)),
        }
    }
    let kill = DeleteOptions::default().grace_ms(0u64);
    for result in join_all(workspaces.iter().map(|workspace| workspace.delete(kill.clone()).wait())).await {
        result.map_err(text)?;
    }
    outcome?;
    expect(ids.len() == 20, || format!("{} containers", ids.len()))
}

async fn close_while_running(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let second = Engine::open(engine.config().clone()).await.map_err(text)?;
    let workspace = second.workspace(vars.text("ws")?).map_err(text)?;
    let mut create = workspace.create(options(vars)?);
    let mut events = create.events().ok_or("no events")?;
    events.next().await;
    second.close().await;
    match create.await {
        // It was past its point of no return.
        Ok(_) => {}
        Err(error) => drop(fails::<()>(Err(error), ErrorKind::Cancelled)?),
    }
    fails(second.health().await, ErrorKind::FailedPrecondition)?;
    fails(workspace.info().await, ErrorKind::FailedPrecondition)?;
    second.close().await;
    engine.health().await.map(drop).map_err(text)
}

async fn process(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    let command = "while read l; do echo got $l; done; exit 7";
    let echo = workspace.exec().spawn(ExecOptions::default().command(command)).await.map_err(text)?;
    for word in ["one", "two"] {
        echo.write_stdin(format!("{word}\n")).await.map_err(text)?;
        let output = echo.next_output().await.map_err(text)?;
        let wanted = format!("got {word}\n");
        expect(
            output
                .as_ref()
                .is_some_and(|(kind, bytes)| *kind == StreamKind::Stdout && *bytes == wanted.as_bytes()),
            || format!("expected {wanted:?}, got {output:?}"),
        )?;
    }
    echo.close_stdin().await;
    let exit = echo.wait().await.map_err(text)?;
    expect(exit.exit_code == 7, || format!("exit {exit:?}"))?;

    let sleep =
        workspace.exec().spawn(ExecOptions::default().command("exec sleep 60")).await.map_err(text)?;
    sleep.signal(15).await.map_err(text)?;
    let exit = sleep.wait().await.map_err(text)?;
    expect(exit.exit_code == 143 && exit.signal == Some(15), || format!("exit {exit:?}"))?;

    let command = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done";
    let terminal =
        workspace.exec().spawn(ExecOptions::default().command(command).pty(true)).await.map_err(text)?;
    let mut shown = String::new();
    while let Some((_, bytes)) = terminal.next_output().await.map_err(text)? {
        let ready_before = shown.contains("ready");
        shown.push_str(&String::from_utf8_lossy(&bytes));
        if shown.contains("ready") && !ready_before {
            terminal.resize(132, 43).map_err(text)?;
        }
    }
    expect(shown.contains("43 132"), || format!("after the resize: {shown:?}"))
}

async fn process_dropped(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    let command = "echo $$ > pid; echo started; sleep 61 & wait";
    let process = workspace.exec().spawn(ExecOptions::default().command(command)).await.map_err(text)?;
    process.next_output().await.map_err(text)?;
    drop(process);
    gone(&workspace, "kill -0 $(cat pid)").await?;
    gone(&workspace, "ps | grep -q '[s]leep 61'").await
}

async fn writer_aborted(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    let write = WriteOptions::default().path("kept.txt");
    workspace.fs().write(write.clone(), "before").await.map_err(text)?;
    for abort in [true, false] {
        let writer = workspace.fs().open_write(write.clone()).await.map_err(text)?;
        writer.write(vec![b'x'; 1 << 20]).await.map_err(text)?;
        if abort {
            writer.abort().await;
        }
        drop(writer);
    }
    let read = workspace.fs().read(ReadOptions::default().path("kept.txt")).await.map_err(text)?;
    expect(read == "before", || format!("the file has {} bytes", read.len()))?;
    gone(&workspace, "ls -A | grep -qv kept.txt").await
}

async fn no_leaks(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = engine.workspace(vars.text("ws")?).map_err(text)?;
    let mut first = None;
    for round in 0..6 {
        workspace.create(options(vars)?).await.map_err(text)?;
        workspace.exec().run(RunOptions::default().command("true"), "").await.map_err(text)?;
        workspace.stop(StopOptions::default()).await.map_err(text)?;
        workspace.delete(DeleteOptions::default()).await.map_err(text)?;
        let now = counts()?;
        let before = *first.get_or_insert(now);
        if round == 5 {
            // Threads of the blocking pool come and go; descriptors do not.
            expect(now.0 <= before.0 + 2 && now.1 <= before.1 + 16, || {
                format!("before {before:?}, after {now:?}")
            })?;
        }
    }
    Ok(())
}

/// How many descriptors and threads this process has.
fn counts() -> Result<(usize, usize), Failure> {
    let count = |dir| std::fs::read_dir(dir).map(Iterator::count).map_err(text);
    Ok((count("/proc/self/fd")?, count("/proc/self/task")?))
}
