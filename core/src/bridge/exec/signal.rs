use crate::error::{Error, Result};

/// The highest signal number on Linux.
const MAX: i32 = 64;

/// Names and numbers, the same on all architectures that the agent is built for.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// A signal for a process: made of a number, or of a name such as `SIGTERM` or `TERM`; numbers may also be text. It is
/// checked where it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signal(Said);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Said {
    Number(i32),
    Name(String),
}

impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self(Said::Number(number))
    }
}

impl From<&str> for Signal {
    fn from(name: &str) -> Self {
        Self(Said::Name(name.to_owned()))
    }
}

impl From<String> for Signal {
    fn from(name: String) -> Self {
        Self(Said::Name(name))
    }
}

impl Signal {
    /// Its number on Linux.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a name that no signal has, and a number that is not 1 to 64.
    pub fn number(&self) -> Result<i32> {
        let (number, said) = match &self.0 {
            Said::Number(number) => (Some(*number), number.to_string()),
            Said::Name(name) => (number_of(name), name.escape_debug().to_string()),
        };
        number.filter(|number| (1..=MAX).contains(number)).ok_or_else(|| {
            Error::invalid_argument("unknown signal: use a name such as SIGTERM, or a number from 1 to 64")
                .with("signal", said)
        })
    }
}

fn number_of(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_and_numbers_are_signals() {
        for (text, number) in [("SIGTERM", 15), ("TERM", 15), ("sigkill", 9), ("64", 64), ("POLL", 29)] {
            assert_eq!(Signal::from(text).number().unwrap(), number, "{text}");
        }
        assert_eq!(Signal::from(1).number().unwrap(), 1);
        for text in ["", "SIG", "NOPE", "0", "65", "-1", "1.0", "TERM\0"] {
            assert_eq!(Signal::from(text).number().unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
        assert!(Signal::from(0).number().is_err());
    }
}
