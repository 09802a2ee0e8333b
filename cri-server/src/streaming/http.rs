//! The HTTP server that clients of Exec, Attach and PortForward come to: it takes a token, agrees on a protocol, and
//! leaves the connection to the session.

use super::forward::{self, Place};
use super::session::{Session, Wanted};
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
const SESSIONS: [(&str, u8); 5] = [
    ("v5.channel.k8s.io", 5),
    ("v4.channel.k8s.io", 4),
    ("v3.channel.k8s.io", 3),
    ("v2.channel.k8s.io", 2),
    ("channel.k8s.io", 1),
];
/// Port forwarding, over SPDY.
const FORWARD: &str = "portforward.k8s.io";
/// The same in WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What RFC 6455 puts behind the key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The two ways of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Spdy,
    WebSocket,
}

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Agreed {
    way: Way,
    protocol: &'static str,
    version: u8,
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
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    agreed.say(request.headers(), answer.headers_mut());
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

fn agree(request: &Request<Incoming>) -> Result<Agreed, Box<Answer>> {
    let headers = request.headers();
    let has = |name: HeaderName, word: &str| {
        words(headers, name.as_str()).any(|one| one.eq_ignore_ascii_case(word))
    };
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Err(Box::new(refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET or POST",
        )));
    }
    let is_forward = request.uri().path().starts_with("/portforward/");
    let way = match has(CONNECTION, "upgrade") {
        true if has(UPGRADE, "SPDY/3.1") => Way::Spdy,
        true if has(UPGRADE, "websocket") => Way::WebSocket,
        _ => {
            return Err(Box::new(refusal(
                StatusCode::BAD_REQUEST,
                "no upgrade to SPDY/3.1 or websocket",
            )));
        }
    };
    let known: Vec<(&'static str, u8)> = match (way, is_forward) {
        (Way::Spdy, true) => vec![(FORWARD, 0)],
        (Way::WebSocket, true) => vec![(TUNNEL, 0)],
        // The last version is of WebSocket alone.
        (Way::Spdy, false) => SESSIONS[1..].into(),
        (Way::WebSocket, false) => SESSIONS.into(),
    };
    let name = match way {
        Way::Spdy => VERSION,
        Way::WebSocket => SEC_WEBSOCKET_PROTOCOL.as_str(),
    };
    if way == Way::WebSocket && !is_websocket(headers) {
        return Err(Box::new(refusal(
            StatusCode::BAD_REQUEST,
            "not version 13 of WebSocket",
        )));
    }
    let mut offered = words(headers, name).peekable();
    let found = if offered.peek().is_none() {
        // One that names none speaks the first.
        known.last().copied()
    } else {
        offered.find_map(|word| known.iter().find(|(known, _)| *known == word).copied())
    };
    let Some((protocol, version)) = found else {
        let mut answer = refusal(StatusCode::FORBIDDEN, "no protocol that both sides know");
        for (name, _) in known {
            let name = HeaderValue::from_static(name);
            answer.headers_mut().append(ACCEPTED, name);
        }
        return Err(Box::new(answer));
    };
    Ok(Agreed {
        way,
        protocol,
        version,
    })
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    version.is_some_and(|version| version == "13") && headers.contains_key(SEC_WEBSOCKET_KEY)
}

impl Agreed {
    fn say(self, asked: &HeaderMap, answer: &mut HeaderMap) {
        let text = HeaderValue::from_static;
        answer.insert(CONNECTION, text("Upgrade"));
        match self.way {
            Way::Spdy => {
                answer.insert(UPGRADE, text("SPDY/3.1"));
                answer.insert(VERSION, text(self.protocol));
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
                    answer.insert(SEC_WEBSOCKET_PROTOCOL, text(self.protocol));
                }
            }
        }
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
    tokio::select! {
        () = forward::serve(read, ends, place) => {}
        () = outside.gone() => {}
    }
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
    match agreed.way {
        Way::WebSocket => Some(websocket::begin(read, ends, wanted, agreed.version).await),
        Way::Spdy => {
            let begun = spdy::begin(read, ends, wanted, agreed.version).await;
            let begun = begun.inspect_err(|error| tracing::debug!("stream: {error}"));
            begun.ok()
        }
    }
}
