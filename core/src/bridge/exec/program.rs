use crate::error::{Error, Result};
use bytes::Bytes;
use dunnage_bridge::v1;
use dunnage_bridge::v1::exec_start::Program as Wire;
use std::collections::BTreeMap;

/// The longest single string the kernel passes to a program, less its NUL.
const MAX_STRING: usize = 128 * 1024 - 1;
/// The most bytes of arguments and environment that the kernel passes to a program.
const MAX_TOTAL: usize = 6 << 20;
/// What a terminal runs where the agent cannot look for the user's shell.
const ANY_SHELL: &str =
    "if command -v bash >/dev/null 2>&1; then exec bash -i; else exec \"$(command -v sh)\" -i; fi";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    /// A command line for `/bin/sh -c`.
    Command(String),
    /// A program with its arguments.
    Args(Vec<String>),
    /// The user's shell.
    Shell,
}

impl Program {
    /// What the options name.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless it is exactly one, or none where a shell may stand in; for an empty name, a NUL, and a string
    /// that is too long.
    pub(super) fn checked(command: &str, args: &[String], or_shell: bool) -> Result<Self> {
        match (command.is_empty(), args) {
            (true, []) if or_shell => Ok(Self::Shell),
            (true, []) => {
                Err(Error::invalid_argument("there is no command: give a command line, or a program in args"))
            }
            (true, [program, ..]) => {
                if program.is_empty() {
                    return Err(Error::invalid_argument("the first of args is empty; name a program"));
                }
                args.iter().try_for_each(|arg| check_string("an argument", arg))?;
                Ok(Self::Args(args.to_vec()))
            }
            (false, []) => {
                check_string("the command", command)?;
                Ok(Self::Command(command.to_owned()))
            }
            (false, _) => {
                Err(Error::invalid_argument("both command and args are given; leave one of them out"))
            }
        }
    }

    /// For the new service; `finds_shell` tells whether the agent looks for the user's shell.
    pub(super) fn v1(&self, finds_shell: bool) -> Wire {
        match self {
            Self::Command(command) => Wire::Command(Bytes::copy_from_slice(command.as_bytes())),
            Self::Args(args) => {
                let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
                Wire::Argv(v1::Argv { args })
            }
            Self::Shell if finds_shell => Wire::Shell(v1::UserShell {}),
            Self::Shell => Wire::Command(Bytes::from_static(ANY_SHELL.as_bytes())),
        }
    }

    /// As a program with its arguments.
    pub(super) fn args(&self) -> Vec<String> {
        let shell = |line: &str| ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        match self {
            Self::Command(command) => shell(command),
            Self::Args(args) => args.clone(),
            Self::Shell => shell(ANY_SHELL),
        }
    }

    /// As a command line, for the old service.
    pub(super) fn old(&self) -> String {
        match self {
            Self::Command(command) => command.clone(),
            Self::Args(args) => {
                let quoted = args.iter().map(|arg| format!(" '{}'", arg.replace('\'', r"'\''")));
                std::iter::once("exec".to_owned()).chain(quoted).collect()
            }
            Self::Shell => ANY_SHELL.to_owned(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Command(command) => command.len(),
            Self::Args(args) => args.iter().map(|arg| arg.len() + 1).sum(),
            Self::Shell => 0,
        }
    }
}

/// INVALID_ARGUMENT for variables that no program can be given, and more of all than the kernel passes on.
pub(super) fn check_environment(
    program: &Program,
    env: &BTreeMap<String, String>,
    unset: &[String],
) -> Result<()> {
    for (name, value) in env {
        check_variable(name, value)?;
    }
    unset.iter().try_for_each(|name| check_variable(name, ""))?;
    let variables: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let total = program.len() + variables + unset.iter().map(String::len).sum::<usize>();
    if total > MAX_TOTAL {
        let message = "the arguments and variables are over 6 MiB; pass some of them by a file";
        return Err(Error::invalid_argument(message).with("bytes", total));
    }
    Ok(())
}

fn check_string(what: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::invalid_argument(format!("{what} holds a NUL; leave it out")));
    }
    if text.len() > MAX_STRING {
        let message = format!("{what} is over 128 KiB; pass it by a file");
        return Err(Error::invalid_argument(message).with("bytes", text.len()));
    }
    Ok(())
}

fn check_variable(name: &str, value: &str) -> Result<()> {
    let refuse = |message: &str| Err(Error::invalid_argument(message).with("env", name.escape_default()));
    if name.is_empty() || name.contains(['=', '\0']) {
        return refuse("an environment variable's name is empty or holds = or a NUL; rename it");
    }
    if value.contains('\0') {
        return refuse("an environment variable's value holds a NUL; leave it out");
    }
    if name.len() + value.len() + 1 > MAX_STRING {
        return refuse("an environment variable is over 128 KiB; pass it by a file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_program_is_given() {
        let args = ["ls".to_owned(), "-l".to_owned()];
        assert_eq!(Program::checked("ls", &[], true).unwrap(), Program::Command("ls".into()));
        assert_eq!(Program::checked("", &args, true).unwrap(), Program::Args(args.to_vec()));
        assert_eq!(Program::checked("", &[], true).unwrap(), Program::Shell);
        for (command, args) in [("", &[][..]), ("ls", &args), ("", &[String::new()]), ("", &["a\0".into()])] {
            assert!(Program::checked(command, args, false).is_err(), "{command} {args:?}");
        }
    }

    #[test]
    fn arguments_survive_the_shell_of_old_agents() {
        let args = ["printf", "%s|", "a b", "it's", "$HOME", ""].map(str::to_owned).to_vec();
        let line = Program::Args(args).old();
        let output = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b|it's|$HOME||");
    }

    #[test]
    fn all_of_it_must_fit_the_kernel() {
        let big = "x".repeat(MAX_STRING);
        let args = vec![big; 50];
        let program = Program::checked("", &args, false).unwrap();
        assert!(check_environment(&program, &BTreeMap::new(), &[]).is_err());
        let program = Program::Shell;
        assert!(check_environment(&program, &BTreeMap::new(), &["A=B".into()]).is_err());
        check_environment(&program, &BTreeMap::new(), &["A".into()]).unwrap();
    }
}
