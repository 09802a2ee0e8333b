//! Uploads: a mount from another repository where possible, else pieces that are taken up again where a connection broke.

use super::hosts::{Endpoint, Use};
use super::http::{Call, join};
use super::{Registry, jittered, text_header};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result, invalid};
use crate::reference::Reference;
use crate::store::Stored;
use ::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use ::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use std::future::Future;

/// How much one request carries.
const CHUNK: usize = 4 << 20;

/// Where the bytes of an upload come from.
pub trait Source: Send + Sync {
    /// Reads up to `length` bytes at `offset`.
    fn read(&self, offset: u64, length: usize) -> impl Future<Output = Result<Bytes>> + Send;

    /// The address of an upload of it to `target` (a repository's address) that was begun earlier.
    fn begun(&self, target: &str) -> Option<String> {
        let _ = target;
        None
    }

    /// Is told the address of the upload as it goes, and nothing when it is over.
    fn note(&self, target: &str, session: Option<&str>) {
        let _ = (target, session);
    }
}

/// One blob on its way to one endpoint.
struct Upload<'a, S> {
    endpoint: &'a Endpoint,
    target: String,
    digest: &'a Digest,
    size: u64,
    source: &'a S,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The registry had it.
    Present,
    /// It was taken from another repository.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

impl Registry {
    async fn push_endpoint(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let mut endpoints = self.endpoints(reference, Use::Push).await?;
        // The registry itself; its two schemes on loopback.
        let mirrors = endpoints
            .iter()
            .filter(|endpoint| endpoint.namespace.is_some())
            .count();
        if mirrors < endpoints.len() {
            endpoints.retain(|endpoint| endpoint.namespace.is_none());
        }
        Ok(endpoints)
    }

    /// Uploads a blob of `size` bytes. `from` are repositories of the same registry that have it.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        (digest, size): (&Digest, u64),
        from: &[String],
        source: &impl Source,
    ) -> Result<Pushed> {
        let endpoints = self.push_endpoint(reference).await?;
        self.anywhere(&endpoints, async |endpoint| {
            let call = Call::new(Method::HEAD, endpoint.url(&format!("blobs/{digest}"))?);
            if self
                .call(endpoint, &call, "pull,push", &[200, 404])
                .await?
                .status()
                == StatusCode::OK
            {
                return Ok(Pushed::Present);
            }
            let upload = Upload {
                endpoint,
                target: endpoint.url("")?.to_string(),
                digest,
                size,
                source,
            };
            if self.take_up(&upload).await {
                return Ok(Pushed::Sent);
            }
            let mount = from
                .iter()
                .map(|from| format!("?mount={digest}&from={from}"))
                .chain([String::new()]);
            for query in mount {
                let call = empty_post(endpoint.url(&format!("blobs/uploads/{query}"))?)?;
                let answer = self.call(endpoint, &call, "pull,push", &[201, 202]).await?;
                if answer.status() == StatusCode::CREATED {
                    return Ok(Pushed::Mounted);
                }
                let session = location(&call.url, &answer)?;
                if query.is_empty() {
                    self.upload(&upload, session, 0).await?;
                    return Ok(Pushed::Sent);
                }
                // A refused mount begins an upload, which is ours to take back.
                let cancel = Call::new(Method::DELETE, session);
                drop(self.authorized(endpoint, &cancel, "pull,push").await);
            }
            Err(invalid("upload was not begun"))
        })
        .await
    }

    /// Goes on with an upload that an earlier push began. Whatever hinders that is no reason not to begin anew.
    async fn take_up(&self, upload: &Upload<'_, impl Source>) -> bool {
        let begun = upload.source.begun(&upload.target);
        let Some(session) = begun.and_then(|text| text.parse::<Uri>().ok()) else {
            return false;
        };
        let is_there = upload
            .endpoint
            .url("")
            .is_ok_and(|url| url.authority() == session.authority());
        if is_there && let Ok((session, at)) = self.position(upload.endpoint, &session).await {
            let done = at <= upload.size && self.upload(upload, session, at).await.is_ok();
            if done {
                return true;
            }
        }
        upload.source.note(&upload.target, None);
        false
    }

    async fn upload(
        &self,
        upload: &Upload<'_, impl Source>,
        mut session: Uri,
        mut at: u64,
    ) -> Result<()> {
        let mut tries = 0;
        let mut pause = self.patience.pause;
        while at < upload.size {
            let length = usize::try_from(upload.size - at)
                .unwrap_or(usize::MAX)
                .min(CHUNK);
            let data = upload.source.read(at, length).await?;
            let sent = data.len() as u64;
            match self.chunk(upload.endpoint, &session, at, data).await {
                Ok(next) => {
                    session = next;
                    at += sent;
                    (tries, pause) = (0, self.patience.pause);
                    let address = session.to_string();
                    upload.source.note(&upload.target, Some(&address));
                }
                Err(error) => {
                    tries += 1;
                    let is_out_of_step = error.kind() == ErrorKind::Registry(416);
                    if (!error.is_transient() && !is_out_of_step) || tries >= self.patience.tries {
                        return Err(error);
                    }
                    tokio::time::sleep(jittered(pause)).await;
                    pause *= 2;
                    (session, at) = self.position(upload.endpoint, &session).await?;
                }
            }
        }
        let mut text = session.to_string();
        text.push(if text.contains('?') { '&' } else { '?' });
        let url = format!("{text}digest={}", upload.digest)
            .parse()
            .map_err(|_| invalid("upload location"))?;
        let call = Call::new(Method::PUT, url).header(CONTENT_LENGTH, "0")?;
        self.call(upload.endpoint, &call, "pull,push", &[201, 204])
            .await?;
        upload.source.note(&upload.target, None);
        Ok(())
    }

    async fn chunk(&self, endpoint: &Endpoint, session: &Uri, at: u64, data: Bytes) -> Result<Uri> {
        let last = at + data.len() as u64 - 1;
        let mut call = Call::new(Method::PATCH, session.clone())
            .header(CONTENT_TYPE, "application/octet-stream")?
            .header(CONTENT_RANGE, &format!("{at}-{last}"))?;
        call.body = data;
        // Not `call`: after a failure the registry's position is asked first.
        let answer = self.authorized(endpoint, &call, "pull,push").await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(super::refusal(&call, answer).await);
        }
        location(session, &answer)
    }

    /// How far the registry has got: the next session address and the offset after its last byte.
    async fn position(&self, endpoint: &Endpoint, session: &Uri) -> Result<(Uri, u64)> {
        let call = Call::get(session.clone());
        let answer = self.call(endpoint, &call, "pull,push", &[204]).await?;
        let range = text_header(&answer, RANGE.as_str()).unwrap_or_default();
        let last = range
            .rsplit('-')
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        let next = location(session, &answer).unwrap_or_else(|_| session.clone());
        // Nothing received is also written as 0-0; sending the first byte again would be refused, so ask for 416 then.
        Ok((
            next,
            last.map_or(0, |last| if last == 0 { 0 } else { last + 1 }),
        ))
    }

    /// Uploads a manifest under a tag or its digest.
    pub async fn push_manifest(&self, reference: &Reference, manifest: &Stored) -> Result<()> {
        let target = reference
            .tag
            .clone()
            .unwrap_or_else(|| manifest.digest.to_string());
        let endpoints = self.push_endpoint(reference).await?;
        self.anywhere(&endpoints, async |endpoint| {
            let mut call = Call::new(Method::PUT, endpoint.url(&format!("manifests/{target}"))?)
                .header(CONTENT_TYPE, &manifest.media_type)?;
            call.body = manifest.data.clone().into();
            let answer = self.call(endpoint, &call, "pull,push", &[201]).await?;
            match text_header(&answer, "docker-content-digest") {
                Some(stored) if stored != manifest.digest.to_string() => Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "PUT {}: registry stored {stored}, sent {}",
                        call.url, manifest.digest
                    ),
                )),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn empty_post(url: Uri) -> Result<Call> {
    Call::new(Method::POST, url).header(CONTENT_LENGTH, "0")
}

/// The address of the next request. Only the same host gets our credentials with it.
fn location(base: &Uri, answer: &::http::Response<hyper::body::Incoming>) -> Result<Uri> {
    let text = text_header(answer, LOCATION.as_str())
        .ok_or_else(|| invalid(format!("{base}: no upload location")))?;
    let next = join(base, &text)?;
    if next.host() != base.host()
        || (base.scheme_str() == Some("https") && next.scheme_str() != Some("https"))
    {
        return Err(invalid(format!(
            "{base}: upload location {next} is elsewhere"
        )));
    }
    Ok(next)
}
