//! The command line.

use crate::Failure;
use crate::rows::{self, Bench};
use dunnage_harness::Version;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: scripts/bench [NAME…] [--json FILE] [--markdown] [--document FILE] [--rounds N] [--containerd VERSION]

NAME is a bench or the beginning of one; without any, all run:
  create_no_network create_cni pull_cold exec_true exec_together exec_output sessions terminal_echo tools files
  list_100000 grep_25000 archives engines memory list_100 stop_start

--json FILE   write the rows to FILE
--markdown    print Markdown, as docs/performance.md has it
--document F  put that Markdown into F, between the lines <!-- bench --> and <!-- /bench -->
--rounds N    turns of each side (default 20); fewer than 20 are for a quick look
--containerd  which version to measure on: 1.6 (default), 1.7 or 2.1";

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    names: Vec<String>,
    /// Where the rows go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// The file whose table is to be replaced.
    pub(crate) document: Option<PathBuf>,
    /// Whether to print Markdown.
    pub(crate) markdown: bool,
    /// Turns of each side.
    pub(crate) rounds: usize,
    /// The containerd to measure on.
    pub(crate) version: Version,
}

impl Arguments {
    /// Reads the command line; `None` when it asks for help.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut parsed = Self {
            names: Vec::new(),
            json: None,
            document: None,
            markdown: false,
            rounds: 20,
            version: Version::default(),
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--json" => parsed.json = Some(value()?.into()),
                "--document" => parsed.document = Some(value()?.into()),
                "--markdown" => parsed.markdown = true,
                "--rounds" => {
                    parsed.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?;
                }
                "--containerd" => parsed.version = value()?.parse()?,
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}\n{USAGE}").into());
                }
                name if rows::all().iter().any(|bench| bench.name.starts_with(name)) => {
                    parsed.names.push(word);
                }
                name => return Err(format!("no bench is named {name}\n{USAGE}").into()),
            }
        }
        if parsed.rounds == 0 {
            return Err("--rounds needs a number above 0".into());
        }
        Ok(Some(parsed))
    }

    /// Whether a bench is to be run.
    pub(crate) fn wants(&self, bench: &Bench) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| bench.name.starts_with(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>, Failure> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_choose_and_options_are_read() {
        let parsed = parse("create --rounds 3 --json x.json --markdown").unwrap().unwrap();
        let chosen: Vec<_> = rows::all().iter().filter(|b| parsed.wants(b)).map(|b| b.name).collect();
        assert_eq!(chosen, ["create_no_network", "create_cni"]);
        assert!(parsed.markdown && parsed.rounds == 3 && parsed.json == Some("x.json".into()));
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["nothing", "--rounds", "--rounds x", "--rounds 0", "--fast", "--containerd 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
