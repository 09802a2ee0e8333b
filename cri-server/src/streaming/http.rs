//! The HTTP server that clients of Exec, Attach and PortForward come to: it takes a token, agrees on a protocol, and
//! leaves the connection to the session.

use super::forward::{self, Place};
use super::session::{Coding, Session, Wanted};
use super::{Asked, Streaming, spdy, websocket, wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;

type Answer = Response<Full<Bytes>>;

/// What SPDY clients say and hear which version of a protocol they speak by.
const VERSION: &str = "x-stream-protocol-version";
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
/// The versions of sessions, the first of which has no number in its name.
const SESSIONS: [Protocol; 5] = [
    Protocol::of("v5.channel.k8s.io", 5),
    Protocol::of("v4.channel.k8s.io", 4),
    Protocol::of("v3.channel.k8s.io", 3),
    Protocol::of("v2.channel.k8s.io", 2),
    Protocol::of("channel.k8s.io", 1),
];
/// Those of browsers.
const ENCODED: [Protocol; 2] = [
    Protocol::of("v4.base64.channel.k8s.io", 4).in_base64(),
    Protocol::of("base64.channel.k8s.io", 1).in_base64(),
];
/// Port forwarding, over SPDY.
const FORWARD: Protocol = Protocol::of("portforward.k8s.io", 0);
/// The same in WebSocket.
const TUNNEL: Protocol = Protocol::of("SPDY/3.1+portforward.k8s.io", 0);
/// What RFC 6455 puts behind the key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The two ways of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Spdy,
    WebSocket,
}

/// What is spoken behind the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Protocol {
    name: &'static str,
    version: u8,
    coding: Coding,
}

impl Protocol {
    const fn of(name: &'static str, version: u8) -> Self {
        let coding = Coding::Bytes;
        Self {
            name,
            version,
            coding,
        }
    }

    const fn in_base64(self) -> Self {
        let coding = Coding::Base64;
        Self { coding, ..self }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Agreed {
    way: Way,
    protocol: Protocol,
}

/// Answers one request; the connection is that of `socket`.
pub async fn answer(
    streaming: Arc<Streaming>,
    socket: Arc<OwnedFd>,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let agreed = match agree(&request) {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(*refusal),
    };
    let path = request.uri().path().to_owned();
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let verb = words.next().unwrap_or_default();
    let asked = words.next().and_then(|token| streaming.tokens.take(token));
    let Some(asked) = asked.filter(|asked| asked.verb() == verb) else {
        return Ok(refusal(
            StatusCode::NOT_FOUND,
            "no such stream, or it was begun already",
        ));
    };
    let answer = agreed.answer(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => {
                streaming
                    .serve(TokioIo::new(io), socket, agreed, asked)
                    .await;
            }
            Err(error) => tracing::debug!("stream: {error}"),
        }
    });
    Ok(answer)
}

/// The answer to a request whose token is good.
#[cfg(any(test, fuzzing))]
pub async fn agreed(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let agreed = agree(&request);
    Ok(agreed.map_or_else(
        |refusal| *refusal,
        |agreed| agreed.answer(request.headers()),
    ))
}

fn refusal(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}

/// Words of a header that may come several times, each with several.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn agree<B>(request: &Request<B>) -> Result<Agreed, Box<Answer>> {
    let headers = request.headers();
    let refused = |status, text| Err(Box::new(refusal(status, text)));
    if ![Method::GET, Method::POST].contains(request.method()) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "GET or POST");
    }
    let has = |name: HeaderName, word: &str| {
        words(headers, name.as_str()).any(|one| one.eq_ignore_ascii_case(word))
    };
    let way = match has(CONNECTION, "upgrade") {
        true if has(UPGRADE, "SPDY/3.1") => Way::Spdy,
        true if has(UPGRADE, "websocket") => Way::WebSocket,
        _ => {
            return refused(
                StatusCode::BAD_REQUEST,
                "no upgrade to SPDY/3.1 or websocket",
            );
        }
    };
    if way == Way::WebSocket && !is_websocket(headers) {
        return refused(StatusCode::BAD_REQUEST, "not version 13 of WebSocket");
    }
    let known = known(way, request.uri().path());
    let name = match way {
        Way::Spdy => VERSION,
        Way::WebSocket => SEC_WEBSOCKET_PROTOCOL.as_str(),
    };
    let mut offered = words(headers, name).peekable();
    let found = if offered.peek().is_none() {
        // One that names none speaks the first.
        known.last()
    } else {
        offered.find_map(|word| known.iter().find(|known| known.name == word))
    };
    let Some(protocol) = found.copied() else {
        let mut answer = refusal(StatusCode::FORBIDDEN, "no protocol that both sides know");
        for Protocol { name, .. } in known {
            let name = HeaderValue::from_static(name);
            answer.headers_mut().append(ACCEPTED, name);
        }
        return Err(Box::new(answer));
    };
    Ok(Agreed { way, protocol })
}

/// What can be spoken at an address, the oldest last.
fn known(way: Way, path: &str) -> Vec<Protocol> {
    match (way, path.starts_with("/portforward/")) {
        (Way::Spdy, true) => vec![FORWARD],
        (Way::WebSocket, true) => vec![TUNNEL],
        // The last version is of WebSocket alone.
        (Way::Spdy, false) => SESSIONS[1..].into(),
        (Way::WebSocket, false) => [&ENCODED[..], &SESSIONS].concat(),
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    version.is_some_and(|version| version == "13") && headers.contains_key(SEC_WEBSOCKET_KEY)
}

impl Agreed {
    /// Says so to who asked with these headers.
    fn answer(self, asked: &HeaderMap) -> Answer {
        let mut whole = Response::new(Full::default());
        *whole.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answer = whole.headers_mut();
        let text = HeaderValue::from_static;
        answer.insert(CONNECTION, text("Upgrade"));
        match self.way {
            Way::Spdy => {
                answer.insert(UPGRADE, text("SPDY/3.1"));
                answer.insert(VERSION, text(self.protocol.name));
            }
            Way::WebSocket => {
                answer.insert(UPGRADE, text("websocket"));
                let key = asked
                    .get(SEC_WEBSOCKET_KEY)
                    .map_or(&[][..], HeaderValue::as_bytes);
                let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
                if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(digest)) {
                    answer.insert(SEC_WEBSOCKET_ACCEPT, value);
                }
                if asked.contains_key(SEC_WEBSOCKET_PROTOCOL) {
                    answer.insert(SEC_WEBSOCKET_PROTOCOL, text(self.protocol.name));
                }
            }
        }
        whole
    }
}

impl Streaming {
    /// Serves a connection that is no HTTP any more.
    async fn serve<I>(&self, io: I, socket: Arc<OwnedFd>, agreed: Agreed, asked: Asked)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let idle = self.idle();
        let (queue, guard) = wire::start(write, socket.clone(), idle);
        let place = match asked {
            Asked::PortForward(place) => place,
            Asked::Exec {
                container,
                process,
                wanted,
            } => {
                if let Some(session) = begin(read, (queue, guard), agreed, wanted).await {
                    self.pods
                        .exec_for(&container, process, wanted, session)
                        .await;
                }
                return;
            }
            Asked::Attach { container, wanted } => {
                if let Some(session) = begin(read, (queue, guard), agreed, wanted).await {
                    self.pods.attach_for(&container, wanted, session).await;
                }
                return;
            }
        };
        match agreed.way {
            Way::Spdy => forward::serve(read, (queue, guard), place).await,
            Way::WebSocket => {
                let inside = websocket::tunnel(read, queue, guard.clone());
                let (read, write) = tokio::io::split(inside);
                let ends = wire::start(write, socket, idle);
                forward_inside(read, ends, place, &guard).await;
            }
        }
    }
}

async fn forward_inside<R>(
    read: R,
    ends: (wire::Queue, wire::Guard),
    place: Place,
    outside: &wire::Guard,
) where
    R: tokio::io::AsyncRead + Unpin,
{
    let inside = ends.1.clone();
    tokio::select! {
        () = forward::serve(read, ends, place) => {}
        () = outside.gone() => {}
    }
    // Its writer, and the socket that it looks at, stay until somebody says so.
    inside.leave();
}

async fn begin<R>(
    read: R,
    ends: (wire::Queue, wire::Guard),
    agreed: Agreed,
    wanted: Wanted,
) -> Option<Session>
where
    R: tokio::io::AsyncRead + Unpin + Send + 'static,
{
    let Protocol {
        version, coding, ..
    } = agreed.protocol;
    match agreed.way {
        Way::WebSocket => Some(websocket::begin(read, ends, wanted, (version, coding)).await),
        Way::Spdy => {
            let begun = spdy::begin(read, ends, wanted, version).await;
            let begun = begun.inspect_err(|error| tracing::debug!("stream: {error}"));
            begun.ok()
        }
    }
}
