//! Limits as the runtime specification has them: whole, for a container's next task, and in part, for a running one.

use super::broken;
use crate::error::{Error, Result};
use crate::limits::{BlockDevice, DEFAULT_WEIGHT, LimitChange, shares};
use crate::types::{LimitName, Limits};
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
};
use std::collections::HashMap;

/// The period that quotas of CPU time are counted in, in microseconds; the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// What lifts a quota or limit.
const UNLIMITED: i64 = -1;

/// The file of a weight in cgroup version 2. The specification has shares alone, which runtimes turn into weights in more
/// than one way; a file that is named is written as it is.
const WEIGHT_FILE: &str = "cpu.weight";

/// All limits of a container, without its devices. Bandwidth is limited of `device`.
///
/// # Errors
/// INVALID_ARGUMENT for limits that are no numbers or make no sense.
pub(super) fn resources(
    limits: &Limits,
    device: Option<BlockDevice>,
    cgroup_v2: bool,
) -> Result<LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default();
    let mut cpu = LinuxCpuBuilder::default().shares(shares(DEFAULT_WEIGHT));
    if let Some(weight) = limits.cpu_weight {
        if weight <= 0 {
            return Err(bad_limit("cpu_weight", "more than 0", weight));
        }
        if cgroup_v2 {
            resources = resources.unified(HashMap::from([(WEIGHT_FILE.to_owned(), weight.to_string())]));
        } else {
            cpu = cpu.shares(shares(weight));
        }
    }
    if let Some(cpus) = limits.cpus {
        if !(0.01..=1024.0).contains(&cpus) {
            return Err(bad_limit("cpus", "0.01 to 1024", cpus));
        }
        cpu = cpu.quota(quota(cpus)).period(CPU_PERIOD);
    }
    resources = resources.cpu(cpu.build().map_err(broken)?);
    if let Some(bytes) = limits.memory_bytes {
        if bytes <= 0 {
            return Err(bad_limit("memory_bytes", "more than 0", bytes));
        }
        resources = resources.memory(LinuxMemoryBuilder::default().limit(bytes).build().map_err(broken)?);
    }
    if let Some(pids) = limits.pids {
        if pids <= 0 {
            return Err(bad_limit("pids", "more than 0", pids));
        }
        resources = resources.pids(LinuxPidsBuilder::default().limit(pids).build().map_err(broken)?);
    }
    if let Some(block) = block_io(limits, device)? {
        resources = resources.block_io(block);
    }
    resources.build().map_err(broken)
}

fn block_io(limits: &Limits, device: Option<BlockDevice>) -> Result<Option<oci_spec::runtime::LinuxBlockIo>> {
    let mut block = LinuxBlockIoBuilder::default();
    let mut any = false;
    if let Some(weight) = limits.io_weight {
        let weight = u16::try_from(weight).map_err(|_| bad_limit("io_weight", "10 to 1000", weight))?;
        (block, any) = (block.weight(weight), true);
    }
    let Some(device) = device else {
        return if any { block.build().map(Some).map_err(broken) } else { Ok(None) };
    };
    let rate = |field: &'static str, rate: i64| -> Result<Vec<LinuxThrottleDevice>> {
        let rate = u64::try_from(rate).map_err(|_| bad_limit(field, "more than 0", rate))?;
        let throttle =
            LinuxThrottleDeviceBuilder::default().major(device.major).minor(device.minor).rate(rate);
        Ok(vec![throttle.build().map_err(broken)?])
    };
    if let Some(limit) = limits.io_read_bytes_per_second {
        (block, any) = (block.throttle_read_bps_device(rate("io_read_bytes_per_second", limit)?), true);
    }
    if let Some(limit) = limits.io_write_bytes_per_second {
        (block, any) = (block.throttle_write_bps_device(rate("io_write_bytes_per_second", limit)?), true);
    }
    if let Some(limit) = limits.io_read_ops_per_second {
        (block, any) = (block.throttle_read_iops_device(rate("io_read_ops_per_second", limit)?), true);
    }
    if let Some(limit) = limits.io_write_ops_per_second {
        (block, any) = (block.throttle_write_iops_device(rate("io_write_ops_per_second", limit)?), true);
    }
    if any { block.build().map(Some).map_err(broken) } else { Ok(None) }
}

/// What tells a runtime to change these of a running task, and to leave all else; none where no change is a runtime's: its
/// update leaves bandwidth out.
pub(crate) fn live(changes: &[LimitChange], cgroup_v2: bool) -> Result<Option<LinuxResources>> {
    let mut resources = LinuxResourcesBuilder::default();
    let mut cpu = None;
    let mut any = false;
    for LimitChange { name, to } in changes.iter().copied() {
        let whole = to.map(|to| to as i64);
        match name {
            LimitName::Cpus => {
                let builder: LinuxCpuBuilder = cpu.take().unwrap_or_default();
                cpu = Some(builder.quota(to.map_or(UNLIMITED, quota)).period(CPU_PERIOD));
            }
            LimitName::CpuWeight if cgroup_v2 => {
                let weight = whole.unwrap_or(DEFAULT_WEIGHT).to_string();
                resources = resources.unified(HashMap::from([(WEIGHT_FILE.to_owned(), weight)]));
            }
            LimitName::CpuWeight => {
                let builder: LinuxCpuBuilder = cpu.take().unwrap_or_default();
                cpu = Some(builder.shares(shares(whole.unwrap_or(DEFAULT_WEIGHT))));
            }
            LimitName::MemoryBytes => {
                let memory = LinuxMemoryBuilder::default().limit(whole.unwrap_or(UNLIMITED));
                resources = resources.memory(memory.build().map_err(broken)?);
            }
            LimitName::Pids => {
                let pids = LinuxPidsBuilder::default().limit(whole.unwrap_or(UNLIMITED));
                resources = resources.pids(pids.build().map_err(broken)?);
            }
            LimitName::IoWeight => {
                let weight = u16::try_from(whole.unwrap_or(DEFAULT_WEIGHT)).unwrap_or(u16::MAX);
                let block = LinuxBlockIoBuilder::default().weight(weight);
                resources = resources.block_io(block.build().map_err(broken)?);
            }
            _ => continue,
        }
        any = true;
    }
    if let Some(cpu) = cpu {
        resources = resources.cpu(cpu.build().map_err(broken)?);
    }
    if any { resources.build().map(Some).map_err(broken) } else { Ok(None) }
}

/// What of a specification holds limits: the fields of each part that are this library's.
const FIELDS: [(&str, &[&str]); 5] = [
    ("cpu", &["shares", "quota", "period"]),
    ("memory", &["limit"]),
    ("pids", &["limit"]),
    (
        "blockIO",
        &[
            "weight",
            "throttleReadBpsDevice",
            "throttleWriteBpsDevice",
            "throttleReadIOPSDevice",
            "throttleWriteIOPSDevice",
        ],
    ),
    ("unified", &[WEIGHT_FILE]),
];

/// Puts other limits into a specification in JSON, whoever wrote it; all else in it stays.
///
/// # Errors
/// FAILED_PRECONDITION for one that is no specification of a Linux container.
pub(crate) fn relimit(
    json: &[u8],
    limits: &Limits,
    device: Option<BlockDevice>,
    cgroup_v2: bool,
) -> Result<Vec<u8>> {
    use serde_json::{Map, Value};
    let unread = || Error::failed_precondition("the container's specification cannot be read");
    let mut spec: Value = serde_json::from_slice(json).map_err(|e| unread().caused_by(e))?;
    let wanted = serde_json::to_value(resources(limits, device, cgroup_v2)?)
        .map_err(|e| Error::unexpected("cannot write the limits").caused_by(e))?;
    let linux = spec.get_mut("linux").and_then(Value::as_object_mut).ok_or_else(unread)?;
    let there = linux.entry("resources").or_insert_with(|| Value::Object(Map::new()));
    let there = there.as_object_mut().ok_or_else(unread)?;
    for (part, fields) in FIELDS {
        let mut merged = there.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
        merged.retain(|field, _| !fields.contains(&field.as_str()));
        let new = wanted.get(part).and_then(Value::as_object);
        let new = new.into_iter().flatten().filter(|(field, _)| fields.contains(&field.as_str()));
        merged.extend(new.map(|(field, value)| (field.clone(), value.clone())));
        if merged.is_empty() {
            there.remove(part);
        } else {
            there.insert(part.to_owned(), Value::Object(merged));
        }
    }
    serde_json::to_vec(&spec).map_err(|e| Error::unexpected("cannot write the specification").caused_by(e))
}

fn quota(cpus: f64) -> i64 {
    (cpus * CPU_PERIOD as f64).round() as i64
}

fn bad_limit(field: &'static str, may_be: &str, value: impl std::fmt::Display) -> Error {
    Error::invalid_argument(format!("malformed limit {field}: it may be {may_be}"))
        .with("field", field)
        .with("value", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DISK: BlockDevice = BlockDevice { major: 254, minor: 16 };

    fn value(resources: &LinuxResources) -> Value {
        serde_json::to_value(resources).unwrap()
    }

    #[test]
    fn every_limit_has_its_place() {
        let limits: Limits = serde_json::from_value(json!({
            "cpus": 0.25, "cpu_weight": 200, "memory_bytes": 67_108_864, "pids": 9, "io_weight": 500,
            "io_read_bytes_per_second": 1, "io_write_bytes_per_second": 2, "io_read_ops_per_second": 3,
            "io_write_ops_per_second": 4,
        }))
        .unwrap();
        let throttle = |rate: u64| json!([{"major": 254, "minor": 16, "rate": rate}]);
        let mut wanted = json!({
            "cpu": {"shares": 2048, "quota": 25_000, "period": 100_000},
            "memory": {"limit": 67_108_864},
            "pids": {"limit": 9},
            "blockIO": {
                "weight": 500,
                "throttleReadBpsDevice": throttle(1), "throttleWriteBpsDevice": throttle(2),
                "throttleReadIOPSDevice": throttle(3), "throttleWriteIOPSDevice": throttle(4),
            },
        });
        assert_eq!(value(&resources(&limits, Some(DISK), false).unwrap()), wanted);
        wanted["cpu"]["shares"] = 1024.into();
        wanted["unified"] = json!({"cpu.weight": "200"});
        assert_eq!(value(&resources(&limits, Some(DISK), true).unwrap()), wanted);
        let none = value(&resources(&Limits::default(), None, true).unwrap());
        assert_eq!(none, json!({"cpu": {"shares": 1024}}));
    }

    #[test]
    fn a_running_task_is_told_of_changes_alone() {
        let change = |name, to| LimitChange { name, to };
        let live = |changes: &[LimitChange], v2| live(changes, v2).unwrap().as_ref().map(value);
        let lifted = [
            change(LimitName::Cpus, None),
            change(LimitName::CpuWeight, None),
            change(LimitName::MemoryBytes, None),
            change(LimitName::Pids, None),
        ];
        let all = json!({"cpu": {"quota": -1, "period": 100_000, "shares": 1024}, "memory": {"limit": -1}, "pids": {"limit": -1}});
        assert_eq!(live(&lifted, false), Some(all));
        assert_eq!(live(&[change(LimitName::Pids, Some(7.0))], false), Some(json!({"pids": {"limit": 7}})));
        let weight = live(&[change(LimitName::CpuWeight, Some(50.0))], true);
        assert_eq!(weight, Some(json!({"unified": {"cpu.weight": "50"}})));
        assert_eq!(live(&[change(LimitName::IoReadBytesPerSecond, Some(1.0))], false), None);
    }

    #[test]
    fn what_others_wrote_into_a_specification_stays() {
        let spec = json!({"odd": 1, "linux": {"odd": 2, "resources": {
            "devices": [{"allow": false}],
            "cpu": {"shares": 5, "quota": 7, "period": 9, "cpus": "0-1"},
            "memory": {"limit": 4},
            "unified": {"cpu.weight": "9"},
        }}});
        let limits = Limits::default().pids(8);
        let json = relimit(spec.to_string().as_bytes(), &limits, None, true).unwrap();
        let wanted = json!({"odd": 1, "linux": {"odd": 2, "resources": {
            "devices": [{"allow": false}], "cpu": {"shares": 1024, "cpus": "0-1"}, "pids": {"limit": 8},
        }}});
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), wanted);
        for broken in ["", "{}", r#"{"linux":7}"#] {
            assert!(relimit(broken.as_bytes(), &limits, None, true).is_err(), "{broken}");
        }
    }
}
