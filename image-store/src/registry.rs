//! The registry's side of a pull or push: the distribution specification over a list of endpoints.
//!
//! Knows no disk. A failed endpoint is followed by the next; what may pass is tried again, with growing pauses.

pub mod auth;
pub mod hosts;
mod http;
pub mod push;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result, invalid};
use crate::limits;
use crate::manifest::{ACCEPT, Descriptor};
use crate::reference::Reference;
use crate::store::Stored;
use ::http::header::{ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use ::http::{HeaderValue, Response, StatusCode};
use auth::{Credentials, Tokens};
use bytes::Bytes;
use hosts::{Endpoint, Sources, Use};
use http::{Call, Http, refusal};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How patient one is with a registry.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How often a call is tried at each endpoint; progress of a body starts the count anew.
    pub tries: u32,
    /// The first pause; it doubles.
    pub pause: Duration,
    /// The longest pause that a registry may ask for.
    pub longest: Duration,
    /// A body must bring `least` bytes in each `window`.
    pub window: Duration,
    /// See `window`.
    pub least: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_millis(250),
            longest: Duration::from_secs(60),
            window: Duration::from_secs(20),
            least: 20 << 10,
        }
    }
}

/// A client for any number of registries.
#[derive(Debug)]
pub struct Registry {
    http: Http,
    tokens: Tokens,
    sources: Sources,
    credentials: Vec<PathBuf>,
    explicit: Option<Credentials>,
    /// Whether a host with two schemes answers over TLS.
    secure: Mutex<HashMap<String, bool>>,
    pub(crate) patience: Patience,
}

/// Receives a blob's bytes in order; an error ends the fetch.
pub trait Sink: Send {
    /// Takes the next bytes.
    fn put(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;
}

impl Registry {
    /// A client that reads its configuration from `sources` and credentials from `files`.
    pub fn new(sources: Sources, files: Vec<PathBuf>, patience: Patience) -> Self {
        Self {
            http: Http::default(),
            tokens: Tokens::default(),
            sources,
            credentials: files,
            explicit: None,
            secure: Mutex::default(),
            patience,
        }
    }

    /// Uses these credentials instead of configured ones.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.explicit = credentials;
        self
    }

    async fn endpoints(&self, reference: &Reference, wanted: Use) -> Result<Vec<Endpoint>> {
        let mut endpoints = self.sources.endpoints(reference)?;
        endpoints.retain(|endpoint| endpoint.uses.contains(&wanted));
        if endpoints.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{}: no endpoint for {wanted:?}", reference.host),
            ));
        }
        for pair in endpoints.clone().windows(2) {
            let authority = pair[0].authority();
            if authority == pair[1].authority()
                && pair[0].base.starts_with("https:")
                && pair[1].base.starts_with("http:")
            {
                let dropped = if self.is_secure(&pair[0]).await? {
                    &pair[1].base
                } else {
                    &pair[0].base
                };
                endpoints.retain(|endpoint| endpoint.base != *dropped);
            }
        }
        Ok(endpoints)
    }

    /// Whether a host that may be spoken to in both ways speaks TLS. It is asked once.
    async fn is_secure(&self, endpoint: &Endpoint) -> Result<bool> {
        let authority = endpoint.authority();
        let known = self
            .secure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&authority)
            .copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let url = format!("{}/", endpoint.base);
        let call = Call::get(
            url.parse()
                .map_err(|_| invalid(format!("{url:?} is no address")))?,
        );
        let answered = self.http.send(endpoint, &call).await;
        // A certificate that is not believed is no reason to do without.
        let is_secure = match answered {
            Ok(_) => true,
            Err(error) => error.to_string().contains("certificate"),
        };
        self.secure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(authority, is_secure);
        Ok(is_secure)
    }

    /// Sends a call with whatever authorization the endpoint turns out to want.
    async fn authorized(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        actions: &str,
    ) -> Result<Response<Incoming>> {
        let scope = auth::scope(&endpoint.repository, actions);
        let mut call = call.clone();
        if let Some(header) = self.tokens.known(&endpoint.authority(), &scope) {
            call = call.header(AUTHORIZATION, &header)?;
        }
        let answer = self.http.send(endpoint, &call).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let credentials = match &self.explicit {
            Some(credentials) => Some(credentials.clone()),
            None => self.configured_credentials(endpoint).await?,
        };
        let next = self
            .tokens
            .answer(
                &self.http,
                endpoint,
                answer.headers(),
                (&scope, credentials),
            )
            .await?;
        match next {
            None => Ok(answer),
            Some(header) => {
                self.http
                    .send(endpoint, &call.header(AUTHORIZATION, &header)?)
                    .await
            }
        }
    }

    /// Off the network's thread: a helper may take its time.
    async fn configured_credentials(&self, endpoint: &Endpoint) -> Result<Option<Credentials>> {
        let (files, authority) = (self.credentials.clone(), endpoint.authority());
        let repository = endpoint.repository.clone();
        let asked =
            tokio::task::spawn_blocking(move || auth::credentials(&files, &authority, &repository))
                .await;
        asked.map_err(|e| Error::new(ErrorKind::Unavailable, format!("credentials: {e}")))?
    }

    /// One call at one endpoint until it has one of the expected answers, or an error that will not pass.
    async fn call(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        actions: &str,
        expected: &[u16],
    ) -> Result<Response<Incoming>> {
        let mut pause = self.patience.pause;
        let mut tries = 0;
        loop {
            tries += 1;
            let answered = self.authorized(endpoint, call, actions).await;
            let (error, asked) = match answered {
                Ok(answer) if expected.contains(&answer.status().as_u16()) => return Ok(answer),
                Ok(answer) => {
                    let asked = http::retry_after(answer.headers());
                    (refusal(call, answer).await, asked)
                }
                Err(error) => (error, None),
            };
            let wait = asked.unwrap_or(pause).max(pause);
            // A connection that cannot be made is tried once here: the next endpoint may be better.
            let most = if error.kind() == ErrorKind::Unavailable {
                2
            } else {
                self.patience.tries
            };
            if !error.is_transient() || tries >= most || wait > self.patience.longest {
                return Err(error);
            }
            tokio::time::sleep(jittered(wait)).await;
            pause *= 2;
        }
    }

    /// The same over endpoints in turn. The error of the last one counts, with the others' before it.
    async fn anywhere<T>(
        &self,
        endpoints: &[Endpoint],
        work: impl AsyncFn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut errors: Vec<Error> = Vec::new();
        for endpoint in endpoints {
            match work(endpoint).await {
                Ok(done) => return Ok(done),
                Err(error) => errors.push(error),
            }
        }
        Err(combined(errors))
    }

    /// Fetches a manifest or index by tag or digest, and checks it.
    pub async fn manifest(&self, reference: &Reference) -> Result<Stored> {
        let wanted = if reference.digest.is_some() {
            Use::Pull
        } else {
            Use::Resolve
        };
        let endpoints = self.endpoints(reference, wanted).await?;
        let target = reference.target();
        self.anywhere(&endpoints, async |endpoint| {
            let call = Call::get(endpoint.url(&format!("manifests/{target}"))?)
                .header(ACCEPT_HEADER, ACCEPT)?;
            let answer = self.call(endpoint, &call, "pull", &[200]).await?;
            let promised = text_header(&answer, CONTENT_TYPE.as_str());
            let claimed = text_header(&answer, "docker-content-digest");
            let data = http::read_all(
                answer.into_body(),
                limits::DOCUMENT,
                Duration::from_secs(120),
            )
            .await?;
            let digest = match &reference.digest {
                Some(digest) => *digest,
                None => match claimed.and_then(|text| text.parse::<Digest>().ok()) {
                    Some(digest) => digest,
                    None => Digest::of(&data),
                },
            };
            digest
                .verify(&data)
                .map_err(|e| e.at(format!("GET {}", call.url)))?;
            let media_type = crate::manifest::media_type(&data, promised.as_deref())?;
            Ok(Stored {
                digest,
                media_type,
                data: data.into(),
            })
        })
        .await
    }

    /// Fetches a small blob, such as a config, and checks it.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Stored> {
        let stored = |data: Vec<u8>| Stored {
            digest: descriptor.digest,
            media_type: descriptor.media_type.clone(),
            data,
        };
        if let Some(data) = &descriptor.data {
            return Ok(stored(data.clone()));
        }
        if descriptor.size > limits::DOCUMENT {
            return Err(crate::error::limit(format!(
                "blob {} is too large",
                descriptor.digest
            )));
        }
        let endpoints = self.endpoints(reference, Use::Pull).await?;
        self.anywhere(&endpoints, async |endpoint| {
            let call = Call::get(endpoint.url(&format!("blobs/{}", descriptor.digest))?);
            let answer = self.call(endpoint, &call, "pull", &[200]).await?;
            let data = http::read_all(
                answer.into_body(),
                descriptor.size,
                Duration::from_secs(120),
            )
            .await?;
            descriptor
                .digest
                .verify(&data)
                .map_err(|e| e.at(format!("GET {}", call.url)))?;
            Ok(stored(data.into()))
        })
        .await
    }

    /// Streams a blob from byte `from` on, across broken connections and endpoints, into `sink`. Exactly
    /// `descriptor.size - from` bytes go through. `skip` endpoints are left out: they sent something else before.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        (from, skip): (u64, usize),
        sink: &mut impl Sink,
    ) -> Result<()> {
        let endpoints = self.endpoints(reference, Use::Pull).await?;
        let endpoints = endpoints
            .get(skip..)
            .filter(|rest| !rest.is_empty())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("blob {}: no further endpoint", descriptor.digest),
                )
            })?;
        let mut at = from;
        let mut errors = Vec::new();
        for endpoint in endpoints {
            let mut tries = 0;
            let mut pause = self.patience.pause;
            while at < descriptor.size {
                let begun = at;
                let error = match self.stream(endpoint, descriptor, &mut at, sink).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
                if at - begun >= 1 << 20 {
                    (tries, pause) = (0, self.patience.pause);
                }
                tries += 1;
                let is_over = !error.is_transient() || tries >= self.patience.tries;
                errors.push(error);
                if is_over {
                    break;
                }
                tokio::time::sleep(jittered(pause)).await;
                pause *= 2;
            }
            if at == descriptor.size {
                return Ok(());
            }
            if errors
                .last()
                .is_some_and(|e| matches!(e.kind(), ErrorKind::NoSpace | ErrorKind::Os(_)))
            {
                break;
            }
        }
        if at == descriptor.size {
            Ok(())
        } else {
            Err(combined(errors))
        }
    }

    /// One connection's part of a blob. `at` moves with every byte that `sink` took.
    async fn stream(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        at: &mut u64,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let mut call = Call::get(endpoint.url(&format!("blobs/{}", descriptor.digest))?);
        if *at > 0 {
            call = call.header(RANGE, &format!("bytes={at}-"))?;
        }
        let answer = self.call(endpoint, &call, "pull", &[200, 206]).await?;
        let mut skip = 0;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            let range = text_header(&answer, CONTENT_RANGE.as_str()).unwrap_or_default();
            if !range.starts_with(&format!("bytes {at}-")) {
                return Err(invalid(format!(
                    "GET {}: asked from byte {at}, got {range:?}",
                    call.url
                )));
            }
        } else {
            skip = *at;
        }
        let mut body = answer.into_body();
        let mut watchdog = Watchdog::new(self.patience);
        let broken =
            |why: String| Error::new(ErrorKind::Unavailable, format!("GET {}: {why}", call.url));
        loop {
            let frame = tokio::time::timeout(watchdog.left(), body.frame()).await;
            let Ok(frame) = frame else {
                return Err(broken(watchdog.verdict()));
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| broken(format!("connection broke at byte {at}: {e}")))?;
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            watchdog.feed(data.len() as u64).map_err(broken)?;
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= skipped as u64;
            data = data.split_off(skipped);
            if data.len() as u64 > descriptor.size - *at {
                let most = descriptor.size;
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("GET {}: more than {most} bytes", call.url),
                ));
            }
            if !data.is_empty() {
                let length = data.len() as u64;
                watchdog.pause();
                sink.put(data).await?;
                watchdog.resume();
                *at += length;
            }
        }
        if *at == descriptor.size {
            return Ok(());
        }
        Err(broken(format!(
            "body ended at byte {at} of {}",
            descriptor.size
        )))
    }

    /// Fetches the descriptors of what refers to a manifest; by tag where the registry has no such call.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Vec<serde_json::Value>> {
        let endpoints = self.endpoints(reference, Use::Pull).await?;
        let data = self
            .anywhere(&endpoints, async |endpoint| {
                let call = Call::get(endpoint.url(&format!("referrers/{digest}"))?)
                    .header(ACCEPT_HEADER, ACCEPT)?;
                let mut answer = self.call(endpoint, &call, "pull", &[200, 404, 400]).await?;
                if answer.status() != StatusCode::OK {
                    let tag = format!("manifests/{}-{}", digest.algorithm().name(), digest.hex());
                    let call = Call::get(endpoint.url(&tag)?).header(ACCEPT_HEADER, ACCEPT)?;
                    answer = self.call(endpoint, &call, "pull", &[200, 404]).await?;
                    if answer.status() == StatusCode::NOT_FOUND {
                        return Ok(Bytes::from_static(b"{\"manifests\":[]}"));
                    }
                }
                http::read_all(
                    answer.into_body(),
                    limits::DOCUMENT,
                    Duration::from_secs(120),
                )
                .await
            })
            .await?;
        let value = crate::manifest::json(&data)?;
        let list = value.get("manifests").and_then(serde_json::Value::as_array);
        list.cloned()
            .ok_or_else(|| invalid("referrers: answer has no manifests"))
    }

    /// Whether a registry accepts the credentials; for `login`.
    pub async fn ping(&self, host: &str) -> Result<()> {
        let reference: Reference = format!("{host}/x").parse()?;
        let endpoints = self.endpoints(&reference, Use::Resolve).await?;
        self.anywhere(&endpoints, async |endpoint| {
            let url = format!("{}/", endpoint.base);
            let call = Call::get(
                url.parse()
                    .map_err(|_| invalid(format!("{url:?} is no address")))?,
            );
            self.call(endpoint, &call, "pull", &[200]).await.map(drop)
        })
        .await
    }
}

fn text_header(answer: &Response<Incoming>, name: &str) -> Option<String> {
    answer
        .headers()
        .get(name)
        .map(HeaderValue::as_bytes)
        .and_then(|b| std::str::from_utf8(b).ok())
        .map(str::to_owned)
}

fn combined(mut errors: Vec<Error>) -> Error {
    // Retries of one endpoint say the same.
    errors.dedup_by(|a, b| a.to_string() == b.to_string());
    let Some(last) = errors.pop() else {
        return Error::new(ErrorKind::NotFound, "no endpoint");
    };
    // The most telling kind: what says something about the thing, before what says something about the network.
    let kind = errors
        .iter()
        .map(Error::kind)
        .find(|_| last.kind() == ErrorKind::Unavailable)
        .unwrap_or_else(|| last.kind());
    let texts = errors
        .iter()
        .map(Error::to_string)
        .chain([last.to_string()])
        .collect::<Vec<_>>();
    Error::new(kind, texts.join("; "))
}

/// Up to a quarter longer, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    pause + pause.mul_f64(f64::from(nanos % 1000) / 4000.0)
}

/// Ends a body that comes too slowly. Time in which we do not take bytes does not count against the sender.
struct Watchdog {
    patience: Patience,
    since: Instant,
    bytes: u64,
    paused: Option<Instant>,
}

impl Watchdog {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
            paused: None,
        }
    }

    fn left(&self) -> Duration {
        self.patience.window.saturating_sub(self.since.elapsed())
    }

    fn verdict(&self) -> String {
        format!(
            "slower than {} bytes in {:?}",
            self.patience.least, self.patience.window
        )
    }

    fn feed(&mut self, bytes: u64) -> std::result::Result<(), String> {
        self.bytes += bytes;
        if self.bytes >= self.patience.least {
            (self.since, self.bytes) = (Instant::now(), 0);
        } else if self.left().is_zero() {
            return Err(self.verdict());
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.paused = Some(Instant::now());
    }

    fn resume(&mut self) {
        if let Some(paused) = self.paused.take() {
            self.since += paused.elapsed();
        }
    }
}
