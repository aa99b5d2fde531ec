//! An agent as there were before sockets: the project's own, reached by a TCP port. The first process of a container.
//!
//! ```text
//! dunnage-tcp-agent PORT AGENT     run AGENT, pass on what comes to PORT, end as AGENT does
//! ```
//! The agent's socket is where `BRIDGE_SOCKET_PATH` says.

#![expect(clippy::print_stderr, reason = "there is nobody else to tell")]

use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let socket = std::env::var_os("BRIDGE_SOCKET_PATH");
    let ([port, agent], Some(socket)) = (&arguments[..], socket) else {
        eprintln!("usage: BRIDGE_SOCKET_PATH=SOCKET dunnage-tcp-agent PORT AGENT");
        return ExitCode::from(2);
    };
    match run(port, agent, Path::new(&socket)).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dunnage-tcp-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(port: &str, agent: &str, socket: &Path) -> io::Result<ExitCode> {
    // The first process of a container takes no signal that it does not ask for.
    let mut stop = signal(SignalKind::terminate())?;
    let port: u16 = port.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let mut agent = Command::new(agent).spawn()?;
    loop {
        tokio::select! {
            ended = agent.wait() => {
                let code = ended?.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            _ = stop.recv() => {
                let pid = agent.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                if let Some(pid) = pid {
                    kill_process(pid, Signal::TERM)?;
                }
            }
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let socket = socket.to_owned();
                // A connection that breaks concerns its two ends alone.
                tokio::spawn(async move { pass_on(stream, &socket).await });
            }
        }
    }
}

/// Copies both ways until both ends have said all.
async fn pass_on(mut stream: TcpStream, socket: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut agent = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut agent).await.map(drop)
}
