//! Checks of the options of a creation, before anything is touched.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::names::{ImageRef, WorkspaceId, check_identifier};
use crate::types::{
    CreateOptions, LimitName, Limits, NetworkMode, RestartOptions, RestartPolicy, SetLimitsOptions,
};

/// The least memory a container can start with: below it runc's own start is killed.
const MIN_MEMORY: f64 = (6 << 20) as f64;
/// The least processes and threads: the agent's own.
const MIN_PIDS: f64 = 4.0;
/// The least storage that a limit makes sense for.
const MIN_STORAGE: f64 = (1 << 20) as f64;
/// The most bytes: an EiB. A number of 64 bits keeps each of them.
const MOST_BYTES: f64 = (1_u64 << 60) as f64;
/// The most operations a second that the kernel takes: 32 bits.
const MOST_OPS: f64 = 4_294_967_295.0;
/// The longest host name: `HOST_NAME_MAX` of include/uapi/linux/limits.h is 64, a DNS label has at most 63 bytes.
const MAX_HOSTNAME: usize = 63;
/// The longest pause before a restart: a day.
const MAX_BACKOFF_MS: u64 = 24 * 60 * 60 * 1000;
/// The longest environment entry the kernel takes: `MAX_ARG_STRLEN`, 32 pages.
const MAX_ENV: usize = 128 << 10;

fn bad(field: &'static str, what: impl Into<String>) -> Error {
    Error::invalid_argument(format!("malformed option {field}: {}", what.into())).with("field", field)
}

/// Checks every option.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub(super) fn check(options: &CreateOptions, config: &Config) -> Result<()> {
    if let Some(image) = &options.image {
        ImageRef::parse(image).map_err(|e| e.with("field", "image"))?;
    }
    if let Some(snapshotter) = &options.snapshotter {
        check_identifier("snapshotter", snapshotter)?;
    }
    for (name, value) in &options.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(bad("env", "a name is not empty and has no equals sign or NUL")
                .with("name", format!("{name:?}")));
        }
        if name.len() + value.len() + 2 > MAX_ENV {
            return Err(bad("env", "a variable has at most 128 KiB").with("name", name));
        }
    }
    for (key, value) in &options.labels {
        // containerd's labels.Validate: key and value together have at most 4096 bytes.
        if key.is_empty() || key.len() + value.len() > 4096 {
            return Err(bad("labels", "key and value together have 1 to 4096 bytes").with("label", key));
        }
        if *key == config.names.id_label || config.names.labels.contains_key(key) {
            return Err(bad("labels", "this label is set by the library").with("label", key));
        }
    }
    if let Some(name) = &options.hostname {
        let ok = !name.is_empty()
            && name.len() <= MAX_HOSTNAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !ok {
            return Err(bad("hostname", "use 1 to 63 letters, digits and inner dashes")
                .with("hostname", format!("{name:?}")));
        }
    }
    if !options.ports.is_empty() && options.network.unwrap_or(config.network.mode) != NetworkMode::Cni {
        return Err(bad("ports", "ports can be published only with the network mode cni"));
    }
    for argument in options.entrypoint.iter().flatten() {
        if argument.contains('\0') {
            return Err(bad("entrypoint", "an argument has no NUL"));
        }
    }
    if options.entrypoint.as_ref().and_then(|given| given.first()).is_some_and(String::is_empty) {
        return Err(bad("entrypoint", "its first argument names a program"));
    }
    check_restart(&options.restart)?;
    check_limits(&options.limits)
}

fn check_restart(options: &RestartOptions) -> Result<()> {
    if options.max_retries.is_some() && options.policy != RestartPolicy::OnFailure {
        return Err(bad("restart.max_retries", "it needs the policy on_failure"));
    }
    if !(1..=MAX_BACKOFF_MS).contains(&options.backoff_ms) {
        return Err(bad("restart.backoff_ms", "it may be 1 to 86400000").with("value", options.backoff_ms));
    }
    if !(options.backoff_ms..=MAX_BACKOFF_MS).contains(&options.max_backoff_ms) {
        return Err(bad("restart.max_backoff_ms", "it may be backoff_ms to 86400000")
            .with("value", options.max_backoff_ms));
    }
    Ok(())
}

/// Checks a change of limits.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub(super) fn check_change(options: &SetLimitsOptions) -> Result<()> {
    check_limits(&options.limits)?;
    match options.clear.iter().find(|name| options.limits.get(**name).is_some()) {
        Some(both) => Err(bad("clear", "a limit is either set or cleared").with("limit", both.as_str())),
        None => Ok(()),
    }
}

/// What each limit may be.
const RANGES: [(LimitName, &str, f64, f64); 10] = [
    (LimitName::Cpus, "limits.cpus", 0.01, 1024.0),
    (LimitName::CpuWeight, "limits.cpu_weight", 1.0, 10_000.0),
    (LimitName::MemoryBytes, "limits.memory_bytes", MIN_MEMORY, MOST_BYTES),
    (LimitName::Pids, "limits.pids", MIN_PIDS, 4_194_304.0),
    (LimitName::IoWeight, "limits.io_weight", 10.0, 1000.0),
    (LimitName::IoReadBytesPerSecond, "limits.io_read_bytes_per_second", 4096.0, MOST_BYTES),
    (LimitName::IoWriteBytesPerSecond, "limits.io_write_bytes_per_second", 4096.0, MOST_BYTES),
    (LimitName::IoReadOpsPerSecond, "limits.io_read_ops_per_second", 1.0, MOST_OPS),
    (LimitName::IoWriteOpsPerSecond, "limits.io_write_ops_per_second", 1.0, MOST_OPS),
    (LimitName::StorageBytes, "limits.storage_bytes", MIN_STORAGE, MOST_BYTES),
];

fn check_limits(limits: &Limits) -> Result<()> {
    for (name, field, least, most) in RANGES {
        if let Some(value) = limits.get(name)
            && !(least..=most).contains(&value)
        {
            return Err(bad(field, format!("it may be {least} to {most}")).with("value", value));
        }
    }
    Ok(())
}

/// The host name of a workspace that names none: its id, as far as a host name may hold it.
pub(super) fn default_hostname(id: &WorkspaceId) -> String {
    let name: String = id.as_str().replace('_', "-").chars().take(MAX_HOSTNAME).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "workspace".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::types::PortMapping;

    #[test]
    fn absurd_options_are_refused_by_name() {
        let parse = |json: &str| serde_json::from_str::<CreateOptions>(json).unwrap();
        for (json, field) in [
            (r#"{"limits":{"cpus":-1}}"#, "limits.cpus"),
            (r#"{"limits":{"memory_bytes":1024}}"#, "limits.memory_bytes"),
            (r#"{"limits":{"pids":0}}"#, "limits.pids"),
            (r#"{"limits":{"cpu_weight":10001}}"#, "limits.cpu_weight"),
            (r#"{"limits":{"io_weight":9}}"#, "limits.io_weight"),
            (r#"{"limits":{"io_read_bytes_per_second":0}}"#, "limits.io_read_bytes_per_second"),
            (r#"{"limits":{"io_write_ops_per_second":-1}}"#, "limits.io_write_ops_per_second"),
            (r#"{"limits":{"storage_bytes":1}}"#, "limits.storage_bytes"),
            (r#"{"env":{"A=B":"x"}}"#, "env"),
            (r#"{"env":{"":"x"}}"#, "env"),
            (r#"{"labels":{"memoh.bot_id":"other"}}"#, "labels"),
            (r#"{"restart":{"max_retries":3}}"#, "restart.max_retries"),
            (r#"{"restart":{"backoff_ms":0}}"#, "restart.backoff_ms"),
            (r#"{"restart":{"max_backoff_ms":999}}"#, "restart.max_backoff_ms"),
            (r#"{"hostname":"-x"}"#, "hostname"),
            (r#"{"image":"A B"}"#, "image"),
        ] {
            let error = check(&parse(json), &Config::default()).expect_err(json);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.context().any(|(key, value)| key == "field" && value == field), "{error}");
        }
        let ports = CreateOptions::default().network(NetworkMode::None).ports(vec![PortMapping::tcp(80, 80)]);
        assert!(check(&ports, &Config::default()).is_err());
        assert!(check(&CreateOptions::default(), &Config::default()).is_ok());
    }

    #[test]
    fn a_limit_is_either_set_or_cleared() {
        let parse = |json: &str| check_change(&serde_json::from_str(json).unwrap());
        let error = parse(r#"{"limits":{"pids":9},"clear":["cpus","pids"]}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.context().any(|(key, value)| key == "limit" && value == "pids"), "{error}");
        assert!(parse(r#"{"limits":{"pids":1}}"#).is_err());
        assert!(parse(r#"{"limits":{"pids":9},"clear":["cpus"]}"#).is_ok());
        assert!(parse("{}").is_ok());
    }

    #[test]
    fn host_names_come_from_ids() {
        for (id, name) in [("a_b", "a-b"), ("__", "workspace"), (&"x".repeat(64), &"x".repeat(63))] {
            assert_eq!(default_hostname(&WorkspaceId::new(id).unwrap()), name);
        }
    }
}
