//! The faults that a registry or an S3 server can have, and how they are written down. What is said of blobs goes for objects.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One thing that goes wrong. A proxy may have several.
///
/// `times` counts the requests that meet the fault; after that many it is gone, so that retries succeed.
/// 0 means for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// Blobs come at this rate, all connections together. `throttle:BYTES`
    Throttle {
        /// Bytes a second, at least 1.
        bytes_per_second: u64,
    },
    /// The connection is dropped in the middle of a blob. `drop:AFTER[:TIMES]`
    Drop {
        /// Bytes of the blob that still arrive. Shorter blobs are spared.
        after: u64,
        /// How often.
        times: u64,
    },
    /// The connection is dropped in the middle of what a client sends. `drop-upload:AFTER[:TIMES]`
    DropUpload {
        /// Bytes that still arrive. Shorter bodies are spared.
        after: u64,
        /// How often.
        times: u64,
    },
    /// A request is carried out, and the connection is dropped instead of the answer. `lose-answer:NEEDLE[:TIMES]`
    LoseAnswer {
        /// A part of the method, a blank and the path with its query, by which the request is known.
        needle: String,
        /// How often.
        times: u64,
    },
    /// Manifests and blobs are refused with a status. `status:CODE[:TIMES[:RETRY_AFTER]]`
    Status {
        /// The HTTP status, 429 or 503 for instance.
        code: u16,
        /// How often.
        times: u64,
        /// Seconds for the header Retry-After, when there is to be one.
        retry_after: Option<u64>,
    },
    /// The registry wants a bearer token from its own token service. `bearer[:USER:PASSWORD]`
    Bearer {
        /// Who gets tokens that allow anything; everybody when absent.
        user: Option<String>,
        /// That user's password, which is a refresh token as well.
        password: Option<String>,
        /// Seconds until a token expires, 300 unless told otherwise.
        lifetime: u64,
    },
    /// A blob stops arriving, and the connection stays open. `stall[:AFTER[:TIMES]]`
    Stall {
        /// Bytes of the blob that still arrive. Shorter blobs are spared.
        after: u64,
        /// How often.
        times: u64,
    },
    /// One bit of a blob is wrong, somewhere past its first kilobyte if it has that many. `corrupt[:TIMES]`
    Corrupt {
        /// How often. Blobs below 4 KiB are spared, so that layers are hit and configurations are not.
        times: u64,
    },
    /// Manifests come with a blank appended: they parse, and their digest is wrong. `wrong-digest[:TIMES]`
    WrongDigest {
        /// How often.
        times: u64,
    },
    /// Ranges are ignored: every answer is the whole blob. `no-range`
    NoRange,
    /// A request with the condition If-None-Match is answered with 501, as servers do that do not know it. `no-conditions`
    NoConditions,
    /// Every answer comes late. `delay:MILLISECONDS`
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// Blobs are redirected to another port, which refuses requests that carry credentials, as object stores
    /// behind registries do. `redirect`
    Redirect,
}

impl Fault {
    /// Several faults joined by `+`, such as `bearer+throttle:100000`.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        text.split('+').filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let given: Vec<&str> = parts.collect();
        let number = |index: usize, default: Option<u64>| -> Result<u64> {
            match (given.get(index), default) {
                (Some(text), _) => {
                    text.parse().map_err(|_| Error::new(format!("{text} in the fault {name} is no number")))
                }
                (None, Some(default)) => Ok(default),
                (None, None) => Err(Error::new(format!("the fault {name} needs a number: write {name}:N"))),
            }
        };
        let (fault, most) = match name {
            "throttle" => (Self::Throttle { bytes_per_second: number(0, None)?.max(1) }, 1),
            "drop" => (Self::Drop { after: number(0, None)?, times: number(1, Some(1))? }, 2),
            "drop-upload" => (Self::DropUpload { after: number(0, None)?, times: number(1, Some(1))? }, 2),
            "lose-answer" => {
                let needle = given.first().filter(|needle| !needle.is_empty());
                let needle = needle.ok_or_else(|| Error::new("write lose-answer:NEEDLE"))?;
                (Self::LoseAnswer { needle: (*needle).to_owned(), times: number(1, Some(1))? }, 2)
            }
            "status" => {
                let code = u16::try_from(number(0, None)?)
                    .ok()
                    .filter(|code| (400..600).contains(code))
                    .ok_or_else(|| Error::new("a refusal has a status from 400 to 599"))?;
                let retry_after = given.get(2).map(|_| number(2, None)).transpose()?;
                (Self::Status { code, times: number(1, Some(1))?, retry_after }, 3)
            }
            "bearer" => {
                let word = |index: usize| given.get(index).map(|word| (*word).to_owned());
                (Self::Bearer { user: word(0), password: word(1), lifetime: number(2, Some(300))? }, 3)
            }
            "stall" => (Self::Stall { after: number(0, Some(0))?, times: number(1, Some(0))? }, 2),
            "corrupt" => (Self::Corrupt { times: number(0, Some(0))? }, 1),
            "wrong-digest" => (Self::WrongDigest { times: number(0, Some(0))? }, 1),
            "no-range" => (Self::NoRange, 0),
            "no-conditions" => (Self::NoConditions, 0),
            "delay" => (Self::Delay { milliseconds: number(0, None)? }, 1),
            "redirect" => (Self::Redirect, 0),
            other => return Err(Error::new(format!("no fault is named {other}"))),
        };
        if given.len() > most {
            return Err(Error::new(format!("the fault {name} takes at most {most} values")));
        }
        Ok(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn faults_are_read() {
        let faults =
            Fault::parse_all("status:429:2:1+drop:1000+stall+drop-upload:7+lose-answer:PUT /b:2").unwrap();
        assert_eq!(
            faults,
            [
                Fault::Status { code: 429, times: 2, retry_after: Some(1) },
                Fault::Drop { after: 1000, times: 1 },
                Fault::Stall { after: 0, times: 0 },
                Fault::DropUpload { after: 7, times: 1 },
                Fault::LoseAnswer { needle: "PUT /b".into(), times: 2 },
            ]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "throttle",
            "status:200",
            "no-range:1",
            "drop:x",
            "fire",
            "lose-answer",
            "drop-upload",
            "delay:1:2",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
