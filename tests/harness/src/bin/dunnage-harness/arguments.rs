//! The command line.

use dunnage_harness::{Error, Fault, Result, Version, fixtures};

/// What `help` prints.
pub(crate) const USAGE: &str = "\
usage: dunnage-harness serve [--containerd 1.6|1.7|2.1|none] [--registry] [--auth-registry]
                             [--images NAME,NAME…|all] [--fault NAME=FAULT[+FAULT…]]…
         starts what is asked for (containerd always, unless it is none), prints one line of JSON
         that tells where it all is, answers commands on standard input, and takes everything down
         when standard input ends or a signal arrives
       dunnage-harness fetch-containerd 1.7|2.1
         fetches a newer containerd out of Debian's packages and prints its directory
       dunnage-harness fixtures NAME…|all
         makes fixture images and prints their OCI layout directories

faults:  throttle:BYTES_A_SECOND  drop:AFTER[:TIMES]  stall[:AFTER[:TIMES]]  corrupt[:TIMES]
         status:CODE[:TIMES[:RETRY_AFTER]]  bearer[:USER:PASSWORD[:LIFETIME]]  wrong-digest[:TIMES]
         no-range  delay:MILLISECONDS  redirect  drop-upload:AFTER[:TIMES]
         lose-answer:NEEDLE[:TIMES]  no-conditions     (TIMES 0 is for ever)

commands of serve, one JSON object a line, each answered by one line {\"ok\":true,…} or {\"ok\":false,\"error\":…}:
         {\"cmd\":\"leaks\"}  {\"cmd\":\"counts\",\"name\":NAME}  {\"cmd\":\"reset-counts\",\"name\":NAME}
         {\"cmd\":\"namespace\"}  {\"cmd\":\"kill-containerd\"}  {\"cmd\":\"restart-containerd\"}
         {\"cmd\":\"freeze-containerd\"}  {\"cmd\":\"thaw-containerd\"}  {\"cmd\":\"log\"}
         {\"cmd\":\"add-fault\",\"name\":NAME,\"faults\":\"drop:1000+redirect\"}
         {\"cmd\":\"add-image\",\"image\":FIXTURE[,\"repository\":NAME][,\"tag\":TAG][,\"marker\":TEXT]}
         {\"cmd\":\"stop\"}";

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(ServeOptions),
    Fetch(Version),
    Fixtures(Vec<String>),
    Warden,
}

/// What `serve` starts.
#[derive(Debug)]
pub(crate) struct ServeOptions {
    pub(crate) containerd: Option<Version>,
    pub(crate) registry: bool,
    pub(crate) auth_registry: bool,
    pub(crate) images: Vec<String>,
    pub(crate) faults: Vec<(String, Vec<Fault>)>,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command> {
    match arguments.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("warden") => Ok(Command::Warden),
        Some("serve") => serve_options(arguments).map(Command::Serve),
        Some("fetch-containerd") => match arguments.next() {
            Some(version) => Ok(Command::Fetch(version.parse()?)),
            None => Err(Error::new("say which containerd: 1.7 or 2.1")),
        },
        Some("fixtures") => Ok(Command::Fixtures(arguments.flat_map(|names| image_names(&names)).collect())),
        Some(other) => Err(Error::new(format!("no command is named {other}: see dunnage-harness help"))),
    }
}

fn serve_options(mut arguments: impl Iterator<Item = String>) -> Result<ServeOptions> {
    let mut options = ServeOptions {
        containerd: Some(Version::from_env()?),
        registry: false,
        auth_registry: false,
        images: Vec::new(),
        faults: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let (name, mut inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || {
            inline
                .take()
                .or_else(|| arguments.next())
                .ok_or_else(|| Error::new(format!("{name} needs a value")))
        };
        match name.as_str() {
            "--containerd" => {
                let version = value()?;
                options.containerd = if version == "none" { None } else { Some(version.parse()?) };
            }
            "--registry" => options.registry = true,
            "--auth-registry" => options.auth_registry = true,
            "--images" => options.images.extend(image_names(&value()?)),
            "--fault" => {
                let text = value()?;
                let (fault, list) = text
                    .split_once('=')
                    .ok_or_else(|| Error::new("--fault wants NAME=FAULT, such as slow=throttle:100000"))?;
                options.faults.push((fault.to_owned(), Fault::parse_all(list)?));
            }
            other => {
                return Err(Error::new(format!("serve has no option {other}: see dunnage-harness help")));
            }
        }
    }
    // Images and faults are of no use without a registry.
    options.registry |= !options.images.is_empty() && !options.auth_registry || !options.faults.is_empty();
    Ok(options)
}

fn image_names(list: &str) -> Vec<String> {
    if list == "all" {
        return fixtures::names().map(str::to_owned).collect();
    }
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
