//! A terminal as a person uses it: types, and reads until what was waited for is shown.

use std::time::Duration;

use dunnage::types::{ExecOptions, ExitStatus};
use dunnage::{Process, Workspace};

/// After so long, what is waited for does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process on a terminal, and what it has shown that nobody has looked at yet.
pub(crate) struct Terminal {
    pub(crate) process: Process,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts one.
    pub(crate) async fn start(workspace: &Workspace, options: ExecOptions) -> Self {
        let process = workspace.exec().spawn(options.pty(true)).await.unwrap();
        Self { process, shown: Vec::new() }
    }

    /// Starts a shell of the user's kind that asks with `> `.
    pub(crate) async fn bash(workspace: &Workspace) -> Self {
        let args = ["bash", "--norc", "--noprofile", "-i"].map(str::to_owned);
        let env = [("PS1", "> "), ("LC_ALL", "C.UTF-8")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let options = ExecOptions::default().args(args.to_vec()).env(env);
        let mut terminal = Self::start(workspace, options).await;
        terminal.until("> ").await;
        terminal
    }

    /// Types.
    pub(crate) async fn types(&self, keys: impl Into<Vec<u8>>) {
        self.process.write_stdin(keys.into()).await.unwrap();
    }

    /// Reads until this is shown, past it and no further; returns all that came before.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let wanted = wanted.as_bytes();
        let reading = async {
            let mut looked = 0;
            loop {
                let unread = &self.shown[looked..];
                if let Some(at) = unread.windows(wanted.len()).position(|part| part == wanted) {
                    let rest = self.shown.split_off(looked + at + wanted.len());
                    let mut before = std::mem::replace(&mut self.shown, rest);
                    before.truncate(looked + at);
                    return before;
                }
                looked = self.shown.len().saturating_sub(wanted.len());
                match self.process.next_output().await.unwrap() {
                    Some((_, bytes)) => self.shown.extend_from_slice(&bytes),
                    None => panic!("it ended, and showed {:?}", String::from_utf8_lossy(&self.shown)),
                }
            }
        };
        let before = tokio::time::timeout(PATIENCE, reading).await;
        let wanted = String::from_utf8_lossy(wanted);
        let before = before.unwrap_or_else(|_| {
            panic!("{wanted:?} does not come after {:?}", String::from_utf8_lossy(&self.shown))
        });
        String::from_utf8_lossy(&before).into_owned()
    }

    /// Reads so many bytes.
    pub(crate) async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.shown.len() < length {
            let next = tokio::time::timeout(PATIENCE, self.process.next_output()).await;
            match next.unwrap_or_else(|_| panic!("only {} of {length} bytes come", self.shown.len())).unwrap()
            {
                Some((_, bytes)) => self.shown.extend_from_slice(&bytes),
                None => panic!("it ended after {} of {length} bytes", self.shown.len()),
            }
        }
        let rest = self.shown.split_off(length);
        std::mem::replace(&mut self.shown, rest)
    }

    /// Reads to the end and returns the last of what it showed, and how it ended.
    pub(crate) async fn end(mut self) -> (String, ExitStatus) {
        let reading = async {
            while let Some((_, bytes)) = self.process.next_output().await.unwrap() {
                self.shown.extend_from_slice(&bytes);
            }
            self.process.wait().await.unwrap()
        };
        let exit = tokio::time::timeout(PATIENCE, reading).await;
        let shown = String::from_utf8_lossy(&self.shown).into_owned();
        (shown.clone(), exit.unwrap_or_else(|_| panic!("it does not end after {shown:?}")))
    }
}
