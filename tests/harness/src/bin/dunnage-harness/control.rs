//! The commands that `serve` answers.

use dunnage_harness::{Containerd, Context, Error, Fault, FaultProxy, Result, fixtures};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::serve::Served;

/// One line of standard input.
#[derive(Debug, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case", deny_unknown_fields)]
enum Command {
    Leaks,
    Counts { name: String },
    ResetCounts { name: String },
    Namespace,
    KillContainerd,
    RestartContainerd,
    FreezeContainerd,
    ThawContainerd,
    Log,
    AddFault { name: String, faults: String },
    AddImage { image: String, repository: Option<String>, tag: Option<String>, marker: Option<String> },
    Stop,
}

/// The answer to one line, and whether it was the last.
pub(crate) fn answer(served: &mut Served, line: &str) -> (Value, bool) {
    let command = match serde_json::from_str::<Command>(line) {
        Ok(command) => command,
        Err(error) => {
            return (
                json!({ "ok": false, "error": format!("cannot understand the command: {error}") }),
                false,
            );
        }
    };
    let last = matches!(command, Command::Stop);
    match obey(served, command) {
        Ok(mut value) => {
            value["ok"] = json!(true);
            (value, last)
        }
        Err(error) => (json!({ "ok": false, "error": error.to_string() }), last),
    }
}

fn obey(served: &mut Served, command: Command) -> Result<Value> {
    match command {
        Command::Leaks => {
            serde_json::to_value(containerd(served)?.leaks()?).context("cannot encode the counts")
        }
        Command::Counts { name } => {
            serde_json::to_value(proxy(served, &name)?.counts()).context("cannot encode the counts")
        }
        Command::ResetCounts { name } => {
            proxy(served, &name)?.reset_counts();
            Ok(json!({}))
        }
        Command::Namespace => Ok(json!({ "namespace": containerd(served)?.namespace() })),
        Command::KillContainerd => containerd(served)?.kill9().map(|()| json!({})),
        Command::RestartContainerd => {
            let containerd = containerd(served)?;
            containerd.restart()?;
            Ok(json!({ "containerd_pid": containerd.pid() }))
        }
        Command::FreezeContainerd => containerd(served)?.freeze().map(|()| json!({})),
        Command::ThawContainerd => containerd(served)?.thaw().map(|()| json!({})),
        Command::Log => Ok(json!({ "log": containerd(served)?.log() })),
        Command::AddFault { name, faults } => {
            Ok(json!({ "host": served.add_fault(&name, Fault::parse_all(&faults)?)? }))
        }
        Command::AddImage { image, repository, tag, marker } => {
            add_image(served, &image, repository, tag, marker.as_deref())
        }
        Command::Stop => Ok(json!({})),
    }
}

fn add_image(
    served: &Served,
    name: &str,
    repository: Option<String>,
    tag: Option<String>,
    marker: Option<&str>,
) -> Result<Value> {
    let image = fixtures::image(name)?;
    let repository = repository.unwrap_or_else(|| format!("fixtures/{name}"));
    let tag = tag.unwrap_or_else(|| "latest".to_owned());
    let mut answer = json!({});
    for (key, registry) in [("image", &served.registry), ("private_image", &served.auth_registry)] {
        if let Some(registry) = registry {
            answer[key] = json!(match marker {
                Some(marker) => registry.add_marked(&image, &repository, &tag, marker)?,
                None => registry.add_as(&image, &repository, &tag)?,
            });
        }
    }
    Ok(answer)
}

fn containerd(served: &mut Served) -> Result<&mut Containerd> {
    served.containerd.as_mut().ok_or_else(|| Error::new("no containerd was started"))
}

fn proxy<'a>(served: &'a Served, name: &str) -> Result<&'a FaultProxy> {
    served.faults.get(name).ok_or_else(|| Error::new(format!("no fault proxy is named {name}")))
}
