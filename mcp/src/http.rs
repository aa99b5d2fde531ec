use crate::server::Server;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use dunnage::Workspace;
use rand::TryRngCore;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::fmt;
use std::io;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The shortest secret that is taken for one, in bytes.
const SHORTEST: usize = 16;

/// The secret that a client shows as `Authorization: Bearer …` (RFC 6750).
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// Takes a secret.
    ///
    /// # Errors
    /// When it is shorter than 16 bytes or has other than visible ASCII characters.
    pub fn new(secret: &str) -> io::Result<Self> {
        if secret.len() < SHORTEST || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "a token has at least 16 visible ASCII characters";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self(secret.into()))
    }

    /// Makes one of 256 random bits, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(digits.into()))
    }

    /// The secret itself.
    pub fn secret(&self) -> &str {
        &self.0
    }

    fn fits(&self, header: Option<&HeaderValue>) -> bool {
        let Some((scheme, shown)) = header.and_then(|value| value.to_str().ok()?.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && bool::from(shown.trim().as_bytes().ct_eq(self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Serves any number of clients over streamable HTTP at `/mcp` of a listener, until `stop` is cancelled. Every request has to bear the
/// token; a `Host` or `Origin` that is not this machine is refused, so that no web page can reach it by a name of its own.
///
/// # Errors
/// `InvalidInput` when the listener is not on a loopback address; whatever accepting a connection fails with.
///
/// # Cancel safety
/// When dropped, connections are closed and calls under way ended as their tools document it.
pub async fn serve(
    workspace: Workspace,
    listener: TcpListener,
    token: Token,
    stop: CancellationToken,
) -> io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        let message = "the address is not of this machine alone: use 127.0.0.1 or [::1]";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut config = StreamableHttpServerConfig::default().enforce_origin_validation();
    config.cancellation_token = stop.child_token();
    let make = move || Ok(Server::new(workspace.clone()));
    let service = StreamableHttpService::new(make, Arc::new(LocalSessionManager::default()), config);
    let router = axum::Router::new()
        .nest_service("/mcp", service)
        .layer(middleware::from_fn_with_state(token, authorized));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

async fn authorized(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.fits(request.headers().get(header::AUTHORIZATION)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "show the token as a bearer\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_fits() {
        let token = Token::new("0123456789abcdef").unwrap();
        let shown = |text: &str| token.fits(Some(&HeaderValue::from_str(text).unwrap()));
        assert!(shown("Bearer 0123456789abcdef") && shown("bearer 0123456789abcdef"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Basic 0123456789abcdef",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.fits(None));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn weak_tokens_are_refused_and_made_ones_are_not_alike() {
        for weak in ["", "short", "0123456789abcde ", "0123456789abcde\n"] {
            assert!(Token::new(weak).is_err(), "{weak:?}");
        }
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.secret().len(), 64);
        assert_ne!(one.secret(), two.secret());
        Token::new(one.secret()).unwrap();
    }
}
