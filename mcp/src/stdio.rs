use crate::server::Server;
use dunnage::Workspace;
use rmcp::ServiceExt;
use std::io;
use tokio_util::sync::CancellationToken;

/// Serves one client on this process's stdin and stdout, a JSON message a line, until it closes stdin or `stop` is cancelled.
///
/// Nothing else of the process may write to stdout meanwhile.
///
/// # Errors
/// When the client does not begin as the protocol wants it.
///
/// # Cancel safety
/// When dropped, calls under way are ended as their tools document it.
pub async fn serve(workspace: Workspace, stop: CancellationToken) -> io::Result<()> {
    let begun = Server::new(workspace).serve_with_ct(rmcp::transport::stdio(), stop.clone()).await;
    let running = match begun {
        Ok(running) => running,
        // A client that goes away before it has begun is no fault.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(_) if stop.is_cancelled() => return Ok(()),
        Err(error) => return Err(io::Error::other(error)),
    };
    running.waiting().await.map(drop).map_err(io::Error::other)
}
