//! A client that sees exactly what a server does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body is as long as the header said.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// GETs `path` of `host` with more header lines; a body that stops for a second counts as ended.
pub(crate) fn get(host: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(read) = stream.read(&mut piece) {
        if read == 0 {
            break;
        }
        all.extend_from_slice(&piece[..read]);
    }
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head") + 4;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let body = all.split_off(end);
    let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body, complete: false };
    let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
    answer.complete = answer.body.len() == length;
    answer
}
