//! One request through the proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_MATCH, IF_NONE_MATCH, LOCATION,
    RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::body::{self, Cut, Pace, Plan};
use super::counts::{Counters, Seen, bump};
use super::fault::Fault;
use super::token::{Grant, Tokens};

/// An answer of the proxy.
type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// Blobs from this size on are layers, as far as the fault `corrupt` is concerned.
const LAYER: u64 = 4096;

/// The faults of the moment, with how often each may still strike.
#[derive(Debug)]
pub(super) struct Behaviour {
    faults: Vec<(Fault, AtomicU64)>,
    pace: Option<Arc<Pace>>,
    tokens: Option<Tokens>,
}

impl Behaviour {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        let mut pace = None;
        let mut tokens = None;
        for fault in &faults {
            match fault {
                Fault::Throttle { bytes_per_second } => pace = Some(Arc::new(Pace::new(*bytes_per_second))),
                Fault::Bearer { user, password, lifetime } => {
                    tokens = Some(Tokens::new(user.clone(), password.clone(), *lifetime));
                }
                _ => {}
            }
        }
        let faults = faults
            .into_iter()
            .map(|fault| {
                let left = match &fault {
                    Fault::Drop { times, .. }
                    | Fault::DropUpload { times, .. }
                    | Fault::LoseAnswer { times, .. }
                    | Fault::Status { times, .. }
                    | Fault::Stall { times, .. }
                    | Fault::Corrupt { times }
                    | Fault::WrongDigest { times } => *times,
                    _ => 0,
                };
                (fault, AtomicU64::new(if left == 0 { u64::MAX } else { left }))
            })
            .collect();
        Self { faults, pace, tokens }
    }

    /// Uses up one strike of the first fault that `pick` has something to say about.
    fn strike<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(|(fault, left)| {
            let picked = pick(fault)?;
            let used = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                0 => None,
                u64::MAX => Some(u64::MAX),
                some => Some(some - 1),
            });
            used.is_ok().then_some(picked)
        })
    }

    fn has(&self, wanted: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|(fault, _)| wanted(fault))
    }
}

/// What stands behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Registry,
    S3,
}

/// What a path asks for.
enum Target<'a> {
    Ping,
    Token,
    Manifest(&'a str),
    Blob(&'a str),
    Other,
}

fn target(service: Service, path: &str) -> Target<'_> {
    if service == Service::S3 {
        // Below a bucket everything is an object.
        return match path.trim_start_matches('/').split_once('/') {
            Some((_, key)) if !key.is_empty() => Target::Blob(key),
            _ => Target::Other,
        };
    }
    match path {
        "/v2/" | "/v2" => return Target::Ping,
        "/token" => return Target::Token,
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return Target::Other };
    if let Some((name, _)) = rest.rsplit_once("/manifests/") {
        return Target::Manifest(name);
    }
    match rest.rsplit_once("/blobs/") {
        Some((name, digest)) if digest.starts_with("sha256:") => Target::Blob(name),
        _ => Target::Other,
    }
}

/// Everything that requests share.
#[derive(Debug)]
pub(super) struct Handler {
    service: Service,
    upstream: SocketAddr,
    front: SocketAddr,
    store: SocketAddr,
    client: Client<HttpConnector, Cut>,
    behaviour: Arc<RwLock<Arc<Behaviour>>>,
    counters: Arc<Counters>,
}

impl Handler {
    /// `fronts` are its own two addresses: the one that is asked, and the one that blobs are redirected to.
    pub(super) fn new(
        service: Service,
        upstream: SocketAddr,
        fronts: [SocketAddr; 2],
        behaviour: Arc<RwLock<Arc<Behaviour>>>,
        counters: Arc<Counters>,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let [front, store] = fronts;
        Self { service, upstream, front, store, client, behaviour, counters }
    }

    /// A request at the service's own address. An error drops the connection.
    pub(super) async fn front(&self, mut request: Request<Incoming>) -> io::Result<Answer> {
        let behaviour = Arc::clone(&self.behaviour.read().unwrap_or_else(PoisonError::into_inner));
        bump(&self.counters.requests);
        let path = request.uri().path().to_owned();
        let target = target(self.service, &path);
        self.count(&request, &target);
        self.note(&request);
        for (fault, _) in &behaviour.faults {
            if let Fault::Delay { milliseconds } = fault {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            }
        }
        if let Some(tokens) = &behaviour.tokens {
            if let Target::Token = target {
                return Ok(self.token(tokens, request).await);
            }
            let repository = match target {
                Target::Manifest(name) | Target::Blob(name) => name,
                _ => "",
            };
            if !tokens.allows(header(&request, &AUTHORIZATION), repository) {
                bump(&self.counters.unauthorized);
                return Ok(self.challenge(repository));
            }
            // What opened this door would puzzle the registry behind it.
            request.headers_mut().remove(AUTHORIZATION);
        }
        let wanted = matches!(target, Target::Manifest(_) | Target::Blob(_));
        let refusal = behaviour.strike(|fault| match fault {
            Fault::Status { code, retry_after, .. } if wanted => Some((*code, *retry_after)),
            _ => None,
        });
        if let Some((code, retry_after)) = refusal {
            bump(&self.counters.faults);
            return Ok(refuse(self.service, code, retry_after));
        }
        let condition = request.headers().contains_key(IF_NONE_MATCH);
        if condition && behaviour.has(|fault| *fault == Fault::NoConditions) {
            bump(&self.counters.faults);
            return Ok(refuse(self.service, 501, None));
        }
        let get_blob = matches!(target, Target::Blob(_)) && request.method() == Method::GET;
        if get_blob && behaviour.has(|fault| *fault == Fault::Redirect) {
            let place = format!("http://{}{path}", self.store);
            return Ok(answer(StatusCode::TEMPORARY_REDIRECT, &[(LOCATION, &place)], ""));
        }
        self.forward(request, &behaviour, &target).await
    }

    /// A request at the place that blobs are redirected to.
    pub(super) async fn store(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let behaviour = Arc::clone(&self.behaviour.read().unwrap_or_else(PoisonError::into_inner));
        bump(&self.counters.redirected);
        if request.headers().contains_key(AUTHORIZATION) {
            bump(&self.counters.leaked_credentials);
            return Ok(answer(StatusCode::BAD_REQUEST, &[], "only one way to authenticate is allowed"));
        }
        let path = request.uri().path().to_owned();
        match target(self.service, &path) {
            target @ Target::Blob(_) => self.forward(request, &behaviour, &target).await,
            _ => Ok(answer(StatusCode::NOT_FOUND, &[], "there is nothing but blobs here")),
        }
    }

    fn note(&self, request: &Request<Incoming>) {
        let text = |name| header(request, name).map(str::to_owned);
        let seen = Seen {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            range: text(&RANGE),
            condition: text(&IF_MATCH).or_else(|| text(&IF_NONE_MATCH)),
        };
        self.counters.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn count(&self, request: &Request<Incoming>, target: &Target<'_>) {
        let head = request.method() == Method::HEAD;
        match target {
            Target::Ping => bump(&self.counters.pings),
            Target::Token => bump(&self.counters.tokens),
            Target::Manifest(_) | Target::Blob(_) if head => bump(&self.counters.heads),
            Target::Manifest(_) => bump(&self.counters.manifests),
            Target::Blob(_) => {
                bump(&self.counters.blobs);
                if request.headers().contains_key(RANGE) {
                    bump(&self.counters.ranges);
                }
            }
            Target::Other => {}
        }
    }

    async fn token(&self, tokens: &Tokens, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let grant = if head.method == Method::POST {
            let Ok(form) = body.collect().await else {
                return answer(StatusCode::BAD_REQUEST, &[], "the form broke off");
            };
            tokens.exchange(&String::from_utf8_lossy(&form.to_bytes()))
        } else {
            let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            tokens.grant(head.uri.query().unwrap_or_default(), authorization)
        };
        match grant {
            Ok(Grant::Token(name, lifetime)) => {
                let mut text = json!({ "access_token": name, "expires_in": lifetime });
                // Only the older of the two ways has this name for it.
                if head.method != Method::POST {
                    text["token"] = json!(name);
                }
                answer(StatusCode::OK, &[(CONTENT_TYPE, "application/json")], &text.to_string())
            }
            Ok(Grant::Refused) => {
                answer(StatusCode::UNAUTHORIZED, &[], r#"{"details":"wrong user or password"}"#)
            }
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, &[], &error.to_string()),
        }
    }

    fn challenge(&self, repository: &str) -> Answer {
        let mut way = format!("Bearer realm=\"http://{}/token\",service=\"dunnage\"", self.front);
        if !repository.is_empty() {
            way.push_str(&format!(",scope=\"repository:{repository}:pull\""));
        }
        let text = error_body("UNAUTHORIZED", "authentication required");
        answer(
            StatusCode::UNAUTHORIZED,
            &[(WWW_AUTHENTICATE, &way), (CONTENT_TYPE, "application/json")],
            &text,
        )
    }

    /// Sends the request on and the answer back, with the faults that concern bodies.
    async fn forward(
        &self,
        mut request: Request<Incoming>,
        behaviour: &Behaviour,
        target: &Target<'_>,
    ) -> io::Result<Answer> {
        if behaviour.has(|fault| *fault == Fault::NoRange) {
            request.headers_mut().remove(RANGE);
        }
        let get = request.method() == Method::GET;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let Ok(uri) = format!("http://{}{path}", self.upstream).parse::<Uri>() else {
            return Ok(answer(StatusCode::BAD_REQUEST, &[], "the path is malformed"));
        };
        let named = format!("{} {path}", request.method());
        *request.uri_mut() = uri;
        // The client names the registry it sees; the one behind builds its own addresses from that.
        let host = HeaderValue::from_str(&self.front.to_string());
        if let Ok(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        let length: u64 = header(&request, &CONTENT_LENGTH).and_then(|text| text.parse().ok()).unwrap_or(0);
        let left = behaviour.strike(|fault| match fault {
            Fault::DropUpload { after, .. } if *after < length => Some(*after),
            _ => None,
        });
        let response = match self.client.request(request.map(|from| Cut { from, left })).await {
            _ if left.is_some() => {
                bump(&self.counters.faults);
                return Err(io::Error::other("dropped on purpose"));
            }
            Ok(response) => response,
            Err(error) => return Ok(answer(StatusCode::BAD_GATEWAY, &[], &error.to_string())),
        };
        let lost = behaviour.strike(|fault| match fault {
            Fault::LoseAnswer { needle, .. } => named.contains(needle).then_some(()),
            _ => None,
        });
        if lost.is_some() {
            bump(&self.counters.faults);
            return Err(io::Error::other("dropped on purpose"));
        }
        if !get || !response.status().is_success() {
            return Ok(response.map(|body| body.map_err(std::io::Error::other).boxed()));
        }
        Ok(match target {
            Target::Blob(_) => self.pass_blob(response, behaviour),
            Target::Manifest(_) => self.pass_manifest(response, behaviour).await,
            _ => response.map(|body| body.map_err(std::io::Error::other).boxed()),
        })
    }

    fn pass_blob(&self, mut response: Response<Incoming>, behaviour: &Behaviour) -> Answer {
        if behaviour.has(|fault| *fault == Fault::NoRange) {
            response.headers_mut().remove(ACCEPT_RANGES);
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length: u64 = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let plan = Plan {
            cut_at: behaviour.strike(|fault| match fault {
                Fault::Drop { after, .. } if *after < length => Some(*after),
                _ => None,
            }),
            stall_at: behaviour.strike(|fault| match fault {
                Fault::Stall { after, .. } if *after < length => Some(*after),
                _ => None,
            }),
            flip_at: behaviour.strike(|fault| match fault {
                Fault::Corrupt { .. } if length >= LAYER => Some(length / 2),
                _ => None,
            }),
            pace: behaviour.pace.clone(),
        };
        response.map(|upstream| body::pipe(upstream, plan, Arc::clone(&self.counters)).boxed())
    }

    async fn pass_manifest(&self, response: Response<Incoming>, behaviour: &Behaviour) -> Answer {
        let spoil = behaviour.strike(|fault| matches!(fault, Fault::WrongDigest { .. }).then_some(()));
        if spoil.is_none() {
            return response.map(|body| body.map_err(std::io::Error::other).boxed());
        }
        bump(&self.counters.faults);
        let (mut parts, upstream) = response.into_parts();
        let Ok(bytes) = upstream.collect().await else {
            return answer(StatusCode::BAD_GATEWAY, &[], "the registry broke off");
        };
        let mut bytes = bytes.to_bytes().to_vec();
        bytes.push(b' ');
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Response::from_parts(parts, full(bytes))
    }
}

fn header<'a>(request: &'a Request<Incoming>, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

fn refuse(service: Service, code: u16, retry_after: Option<u64>) -> Answer {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let (kind, text) = match service {
        Service::Registry => {
            let name = if code == 429 { "TOOMANYREQUESTS" } else { "UNAVAILABLE" };
            ("application/json", error_body(name, "refused on purpose"))
        }
        Service::S3 => {
            let text = "<Error><Code>SlowDown</Code><Message>refused on purpose</Message></Error>";
            ("application/xml", text.to_owned())
        }
    };
    let seconds = retry_after.map(|seconds| seconds.to_string());
    let mut headers = vec![(CONTENT_TYPE, kind)];
    headers.extend(seconds.as_deref().map(|seconds| (RETRY_AFTER, seconds)));
    answer(status, &headers, &text)
}

/// The shape in which registries tell errors.
fn error_body(code: &str, message: &str) -> String {
    json!({ "errors": [{ "code": code, "message": message }] }).to_string()
}

fn answer(status: StatusCode, headers: &[(HeaderName, &str)], text: &str) -> Answer {
    let mut response = Response::new(full(text.as_bytes().to_vec()));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn full(bytes: Vec<u8>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}
