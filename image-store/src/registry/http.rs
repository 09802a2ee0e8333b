//! HTTP to one endpoint: TLS as configured, names resolved in Rust, redirects that carry no credentials elsewhere.

use super::hosts::{Endpoint, Tls};
use crate::error::{Context, Error, ErrorKind, Result, invalid, limit};
use crate::limits;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

/// How many redirects one request follows.
const REDIRECTS: usize = 8;
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(60);

type Connector = HttpsConnector<HttpConnector<Dns>>;
type Pool = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// Connections, kept by what TLS configuration they were made with.
#[derive(Debug, Default)]
pub(super) struct Http {
    pools: Mutex<HashMap<Tls, Pool>>,
}

/// A request before it is sent; it may be sent several times.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, url: Uri) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn get(url: Uri) -> Self {
        Self::new(Method::GET, url)
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| invalid(format!("{value:?} cannot be a header")))?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl Http {
    /// Sends a call and follows redirects. Credentials and configured headers go to the first host only.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call,
    ) -> Result<Response<Incoming>> {
        let pool = self.pool(&endpoint.tls)?;
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.once(&pool, endpoint, call, &url).await?;
            let is_moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_moved || !matches!(call.method, Method::GET | Method::HEAD) {
                return Ok(answer);
            }
            url = redirected(&url, &answer)?;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("{}: more than {REDIRECTS} redirects", call.url),
        ))
    }

    async fn once(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        call: &Call,
        url: &Uri,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = url.clone();
        *request.headers_mut() = call.headers.clone();
        if url.authority() == call.url.authority() && url.scheme() == call.url.scheme() {
            for (name, value) in &endpoint.headers {
                request.headers_mut().append(name.clone(), value.clone());
            }
        } else {
            request.headers_mut().remove(AUTHORIZATION);
        }
        request.headers_mut().insert(
            http::header::USER_AGENT,
            HeaderValue::from_static(concat!("ocirun/", env!("CARGO_PKG_VERSION"))),
        );
        let sent = tokio::time::timeout(ANSWER, pool.request(request)).await;
        let failed = |why: String| {
            Error::new(
                ErrorKind::Unavailable,
                format!("{} {url}: {why}", call.method),
            )
        };
        match sent {
            Err(_) => Err(failed(format!("no answer within {} s", ANSWER.as_secs()))),
            Ok(Err(error)) => Err(failed(causes(&error))),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    fn pool(&self, tls: &Tls) -> Result<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(tls) {
            return Ok(pool.clone());
        }
        let mut tcp = HttpConnector::new_with_resolver(Dns);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(20))
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .http1_max_buf_size(256 << 10)
                .build(connector);
        pools.insert(tls.clone(), pool.clone());
        Ok(pool)
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Where a redirect leads, if it may: never from https to http, never to another scheme, never to link-local addresses.
fn redirected(from: &Uri, answer: &Response<Incoming>) -> Result<Uri> {
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let to = join(
        from,
        location.ok_or_else(|| invalid(format!("{from}: redirect without a location")))?,
    )?;
    let refused = |why: &str| {
        Error::new(
            ErrorKind::Invalid,
            format!("redirect from {from} to {to}: {why}"),
        )
    };
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) => {}
        (Some("http"), Some("http")) if from.authority() == to.authority() || is_loopback(&to) => {}
        _ => return Err(refused("not a secure address")),
    }
    if literal(&to).is_some_and(|address| is_link_local(&address)) {
        return Err(refused("link-local address"));
    }
    Ok(to)
}

/// Resolves a `Location` against the address that answered it.
pub(super) fn join(base: &Uri, location: &str) -> Result<Uri> {
    let bad = || invalid(format!("{base}: location {location:?} is no address"));
    let uri: Uri = location.parse().map_err(|_| bad())?;
    if uri.scheme().is_some() {
        return Ok(uri);
    }
    let mut parts = base.clone().into_parts();
    if let Some(authority) = uri.authority() {
        parts.authority = Some(authority.clone());
    }
    parts.path_and_query = Some(uri.path_and_query().cloned().ok_or_else(bad)?);
    Uri::from_parts(parts).map_err(|_| bad())
}

fn literal(uri: &Uri) -> Option<IpAddr> {
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    uri.host() == Some("localhost") || literal(uri).is_some_and(|address| address.is_loopback())
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// The delay that an answer asks for.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(
        at.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

/// Reads a whole body of at most `most` bytes, within `time`.
pub(super) async fn read_all(mut body: Incoming, most: u64, time: Duration) -> Result<Bytes> {
    let read = async {
        let mut data = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("read answer: {}", causes(&e)),
                )
            })?;
            if let Ok(piece) = frame.into_data() {
                if (data.len() + piece.len()) as u64 > most {
                    return Err(limit(format!("answer is larger than {most} bytes")));
                }
                data.extend_from_slice(&piece);
            }
        }
        Ok(data.into())
    };
    let late = || {
        Error::new(
            ErrorKind::Unavailable,
            format!("answer was not complete within {} s", time.as_secs()),
        )
    };
    tokio::time::timeout(time, read)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// The error of an answer that is none of the expected ones, with what the registry says about it.
pub(super) async fn refusal(call: &Call, answer: Response<Incoming>) -> Error {
    let status = answer.status();
    let body = read_all(
        answer.into_body(),
        limits::ERROR_BODY,
        Duration::from_secs(10),
    )
    .await
    .unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let part = |name: &str| {
        said.as_ref()?
            .get("errors")?
            .get(0)?
            .get(name)?
            .as_str()
            .map(str::to_owned)
    };
    let said = match (part("code"), part("message")) {
        (Some(code), Some(message)) => format!(": {code}: {message}"),
        (Some(one), None) | (None, Some(one)) => format!(": {one}"),
        (None, None) => String::new(),
    };
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        other => ErrorKind::Registry(other.as_u16()),
    };
    let said = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(500)
        .collect::<String>();
    Error::new(
        kind,
        format!("{} {}: {status}{said}", call.method, call.url),
    )
}

fn tls_config(tls: &Tls) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let broken = |e: rustls::Error| invalid(format!("TLS: {e}"));
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    let builder = if tls.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        let mut roots = system_roots().clone();
        for path in &tls.ca {
            let file = || format!("CA file {path:?}");
            let pem = std::fs::read(path).call(file)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|e| invalid(format!("{}: {e}", file())))?;
                roots.add(certificate).map_err(broken)?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let Some((certificate, key)) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| invalid(format!("client certificate {certificate:?}: {e}")))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| invalid(format!("client key {key:?}: {e}")))?;
    builder.with_client_auth_cert(chain, key).map_err(broken)
}

fn system_roots() -> &'static rustls::RootCertStore {
    static ROOTS: OnceLock<rustls::RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

/// Believes any certificate: what `skip_verify` asks for.
#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Resolves names from /etc/hosts and /etc/resolv.conf: a static program cannot use the C library's resolver.
/// Link-local addresses are left out, so that no name leads to a cloud's metadata service.
#[derive(Debug, Clone)]
struct Dns;

type Addresses = std::vec::IntoIter<SocketAddr>;

impl tower_service::Service<Name> for Dns {
    type Response = Addresses;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Cx<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let name = name.as_str();
            if name == "localhost" {
                let both = [
                    IpAddr::from([127, 0, 0, 1]),
                    IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
                ];
                return Ok(both
                    .map(|address| SocketAddr::new(address, 0))
                    .to_vec()
                    .into_iter());
            }
            let resolver = hickory_resolver::TokioResolver::builder_tokio()
                .and_then(hickory_resolver::ResolverBuilder::build)
                .map_err(std::io::Error::other)?;
            let found = resolver
                .lookup_ip(name)
                .await
                .map_err(std::io::Error::other)?;
            let usable = found.iter().filter(|address| !is_link_local(address));
            Ok(usable
                .map(|address| SocketAddr::new(address, 0))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base: Uri = "https://a:5000/v2/x/blobs/uploads/".parse().unwrap();
        for (location, joined) in [
            ("/v2/y?a=b", "https://a:5000/v2/y?a=b"),
            ("https://c/d", "https://c/d"),
            ("http://c/d", "http://c/d"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), joined);
        }
        assert!(join(&base, " ").is_err());
    }

    #[test]
    fn delays() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"),
        );
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
    }

    #[test]
    fn link_local_addresses() {
        for (text, is) in [
            ("169.254.169.254", true),
            ("fe80::1", true),
            ("::ffff:169.254.1.1", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_link_local(&text.parse().unwrap()), is, "{text}");
        }
    }
}
