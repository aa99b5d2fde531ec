//! `dunnage-mcp`: a workspace's tools for any MCP client.

#![expect(clippy::print_stderr, reason = "stdout belongs to the protocol")]

use clap::Parser;
use dunnage::types::StartOptions;
use dunnage::{Config, Engine};
use dunnage_mcp::Token;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Offers the tools of a workspace (read, write, list, edit, exec) to MCP clients.
///
/// Without --http it serves the client that started it, on stdin and stdout. The library is configured by the environment
/// (DUNNAGE_CONFIG, DUNNAGE_DATA_ROOT, DUNNAGE_CONTAINERD_ADDRESS, DUNNAGE_NAMESPACE and others) or by --config.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The workspace's id
    #[arg(long, value_name = "ID")]
    workspace: String,
    /// A configuration file: JSON when its name ends in .json, else TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start the workspace when it does not run
    #[arg(long)]
    start: bool,
    /// Serve streamable HTTP at /mcp of this loopback address; port 0 takes any that is free. The URL goes to stderr
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// The file with the token that HTTP clients have to show. Without it $DUNNAGE_MCP_TOKEN is taken, else one is made and told on stderr
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let served = tokio::runtime::Runtime::new().map_err(Failure::from).and_then(|runtime| {
        let served = runtime.block_on(run(arguments));
        // A thread may wait on stdin, which nobody may ever close.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("dunnage-mcp: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = match &arguments.config {
        Some(file) => Config::from_file(file)?,
        None => Config::from_env()?,
    };
    let stop = stop_on_signals()?;
    let engine = Engine::open(config).await?;
    let served = serve(&arguments, &engine, stop).await;
    engine.close().await;
    served
}

async fn serve(arguments: &Arguments, engine: &Engine, stop: CancellationToken) -> Result<(), Failure> {
    let workspace = engine.workspace(&arguments.workspace)?;
    if arguments.start {
        workspace.ensure_running(StartOptions::default()).await?;
    } else {
        // A workspace that is not there will not come to be by waiting.
        workspace.info().await?;
    }
    let Some(address) = arguments.http else {
        dunnage_mcp::stdio(workspace, stop).await?;
        return Ok(());
    };
    let listener = TcpListener::bind(address).await?;
    let (token, made) = token(arguments)?;
    eprintln!("dunnage-mcp: http://{}/mcp", listener.local_addr()?);
    if made {
        eprintln!("dunnage-mcp: token {}", token.secret());
    }
    dunnage_mcp::http(workspace, listener, token, stop).await?;
    Ok(())
}

/// The token, and whether it was made here.
fn token(arguments: &Arguments) -> Result<(Token, bool), Failure> {
    if let Some(file) = &arguments.token_file {
        let secret = std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
        return Ok((Token::new(secret.trim())?, false));
    }
    match std::env::var("DUNNAGE_MCP_TOKEN") {
        Ok(secret) => Ok((Token::new(&secret)?, false)),
        Err(_) => Ok((Token::random()?, true)),
    }
}

fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
