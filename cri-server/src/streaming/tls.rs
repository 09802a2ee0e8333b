//! TLS for streams, where certificates are configured.

use crate::config;
use crate::error::{Error, Kind, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A server's certificate and key.
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads what is configured; none where nothing is.
    ///
    /// # Errors
    /// `Invalid` with the key.
    pub fn load(config: &config::Streaming) -> Result<Option<Self>> {
        let (certificate, key) = (&config.tls_certificate, &config.tls_key);
        if certificate.as_os_str().is_empty() && key.as_os_str().is_empty() {
            return Ok(None);
        }
        let wrong = |name: &str, error: &dyn fmt::Display| {
            let text = format!("configuration: streaming.{name}: {error}");
            Error::new(Kind::Invalid, text)
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong("tls_certificate", &error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("tls_key", &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong("tls_certificate", &error))?;
        Ok(Some(Self(TlsAcceptor::from(Arc::new(server)))))
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}
