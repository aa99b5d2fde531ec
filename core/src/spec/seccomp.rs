use super::broken;
use super::syscalls::{
    AF_VSOCK, ALLOWED, ALLOWED_AARCH64, ALLOWED_X86_64, CLONE_NAMESPACES, ENOSYS, PERSONALITIES,
};
use crate::error::Result;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall, LinuxSyscallBuilder,
};

/// The profile for this machine's architecture: everything that is not listed fails with EPERM, and a call by way of
/// another architecture's table ends the process. `compat_32bit` adds the processor's 32-bit mode, as containerd's own profile does.
pub(super) fn profile(compat_32bit: bool) -> Result<LinuxSeccomp> {
    let (native, compat, own) = match std::env::consts::ARCH {
        "x86_64" => (Arch::ScmpArchX86_64, vec![Arch::ScmpArchX86, Arch::ScmpArchX32], ALLOWED_X86_64),
        "aarch64" => (Arch::ScmpArchAarch64, vec![Arch::ScmpArchArm], ALLOWED_AARCH64),
        _ => (Arch::ScmpArchNative, vec![], ""),
    };
    let mut architectures = vec![native];
    if compat_32bit {
        architectures.extend(compat);
    }
    let mut rules = vec![allow(ALLOWED.split_whitespace().chain(own.split_whitespace()))?];
    for personality in PERSONALITIES {
        rules.push(allow_when("personality", Operator::ScmpCmpEq, personality, None)?);
    }
    rules.push(allow_when("socket", Operator::ScmpCmpNe, AF_VSOCK, None)?);
    // New threads and processes, but no new namespaces.
    rules.push(allow_when("clone", Operator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0))?);
    let clone3 = LinuxSyscallBuilder::default()
        .names(vec!["clone3".to_owned()])
        .action(Action::ScmpActErrno)
        .errno_ret(ENOSYS);
    rules.push(clone3.build().map_err(broken)?);
    LinuxSeccompBuilder::default()
        .default_action(Action::ScmpActErrno)
        .architectures(architectures)
        .syscalls(rules)
        .build()
        .map_err(broken)
}

fn allow(names: impl Iterator<Item = &'static str>) -> Result<LinuxSyscall> {
    LinuxSyscallBuilder::default()
        .names(names.map(str::to_owned).collect::<Vec<_>>())
        .action(Action::ScmpActAllow)
        .build()
        .map_err(broken)
}

/// Allows a call by its first argument.
fn allow_when(name: &str, operator: Operator, value: u64, masked: Option<u64>) -> Result<LinuxSyscall> {
    let mut argument = LinuxSeccompArgBuilder::default().index(0usize).value(value).op(operator);
    if let Some(expected) = masked {
        argument = argument.value_two(expected);
    }
    LinuxSyscallBuilder::default()
        .names(vec![name.to_owned()])
        .action(Action::ScmpActAllow)
        .args(vec![argument.build().map_err(broken)?])
        .build()
        .map_err(broken)
}
