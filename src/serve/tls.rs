//! TLS: a certificate and its key from two PEM files, TLS 1.2 and 1.3. When the files are read again is in
//! [`super::reload`]; connections that are open keep the certificate that they began with.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme, StreamOwned};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::reload::Reloaded;
use crate::problem::Problem;

/// How long a client may take until it has agreed on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A certificate that may be exchanged while the server serves.
pub type Tls = Reloaded<Configs>;

/// What is spoken inside of TLS, on which both sides agree as they agree on TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A certificate, for each thing that is spoken inside.
#[derive(Debug)]
pub struct Configs {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
}

/// Reads a certificate (with those between it and the root, itself the first) and its private key, both PEM.
///
/// # Errors
///
/// When one of them cannot be read, or they do not belong together.
pub fn open(certificate: &Path, key: &Path) -> Result<Tls> {
    let paths = vec![certificate.to_owned(), key.to_owned()];
    Reloaded::open("TLS certificate", paths, config)
}

fn config(paths: &[PathBuf], contents: &[Vec<u8>]) -> Result<Configs> {
    let (certificate, key) = (paths[0].display(), paths[1].display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents[0])
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{certificate}` is no PEM file"))?;
    if chain.is_empty() {
        return Err(Problem::new(format!("`{certificate}` holds no certificate"))
            .hint("`--tls-cert` takes a PEM file: the server's certificate first, then those up to the root")
            .into());
    }
    let private = PrivateKeyDer::from_pem_slice(&contents[1]).map_err(|error| {
        // Not the error's text, which quotes lines of the file.
        let reason = match error {
            rustls::pki_types::pem::Error::NoItemsFound => "holds no private key",
            _ => "is no PEM file",
        };
        Problem::new(format!("`{key}` {reason}"))
            .hint("`--tls-key` takes a PEM file with a private key that no password protects")
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Problem::new(format!(
                "the key in `{key}` is not that of the certificate in `{certificate}`"
            ))
            .hint("the server's own certificate comes first in its file"),
            error => Problem::new(format!("`{certificate}` and `{key}` cannot be served with: {error}")),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut http2 = config.clone();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Configs {
        http1: Arc::new(config),
        http2: Arc::new(http2),
    })
}

/// Agrees on TLS with a client; none when it does not come to that.
pub async fn accept(tls: &Tls, inside: Inside, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let configs = tls.current();
    let acceptor = TlsAcceptor::from(Arc::clone(match inside {
        Inside::Http1 => &configs.http1,
        Inside::Http2 => &configs.http2,
    }));
    timeout(HANDSHAKE, acceptor.accept(stream)).await.ok()?.ok()
}

/// Speaks TLS with a server on this machine, for `--health`. It sends nothing that is secret, and asks whether the server
/// serves, not who it is: so it takes any certificate, or one that has expired would have the container ended that goes
/// on serving with it.
///
/// # Errors
///
/// As the system says.
pub fn connect(
    stream: std::net::TcpStream,
    address: IpAddr,
) -> Result<StreamOwned<ClientConnection, std::net::TcpStream>> {
    let connection = ClientConnection::new(Arc::new(client()?), ServerName::from(address))?;
    Ok(StreamOwned::new(connection, stream))
}

fn client() -> Result<ClientConfig> {
    let provider = provider();
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth())
}

/// Named rather than installed for the process: what a library installs is nobody's choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;

    fn pair(folder: &TempDir, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (
            folder.path().join(format!("{name}.pem")),
            folder.path().join(format!("{name}.key")),
        );
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
            ])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (certificate, key)
    }

    #[test]
    fn what_cannot_be_served_with_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = pair(&folder, "one");
        let (_, other) = pair(&folder, "two");
        let error = |certificate: &Path, key: &Path| open(certificate, key).expect_err("refused").to_string();
        assert!(open(&certificate, &key).is_ok());
        assert!(error(&certificate, &other).contains("is not that of the certificate"));
        assert!(error(&key, &key).contains("holds no certificate"));
        assert!(error(&certificate, &certificate).contains("holds no private key"));
        assert!(error(&folder.path().join("none"), &key).contains("cannot read"));
        let text = fs::read_to_string(&key).expect("a key");
        fs::write(&other, text.replace("-----END", "-----ENDE")).expect("written");
        let told = error(&certificate, &other);
        assert!(told.contains("is no PEM file"), "{told}");
        assert!(!told.contains(text.lines().nth(1).expect("a line")), "{told}");
    }

    #[tokio::test]
    async fn a_new_certificate_is_for_new_connections() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = pair(&folder, "one");
        let tls = open(&certificate, &key).expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connector = TlsConnector::from(Arc::new(client().expect("a client")));
        let connect = async || {
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = TcpStream::connect(address).await.expect("connected");
            let accepted = async {
                accept(&tls, Inside::Http1, listener.accept().await.expect("accepted").0)
                    .await
                    .expect("TLS")
            };
            let (ours, theirs) = tokio::join!(connector.connect(name, stream), accepted);
            let ours = ours.expect("TLS");
            let shown = ours.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec();
            (ours, theirs, shown)
        };
        let (mut ours, mut theirs, first) = connect().await;

        let (new, new_key) = pair(&folder, "two");
        fs::copy(&new, &certificate).expect("copied");
        assert!(
            tls.look().expect("news").contains("is not that of"),
            "half of it is there"
        );
        let (_, _, shown) = connect().await;
        assert_eq!(shown, first);

        fs::copy(&new_key, &key).expect("copied");
        assert!(tls.look().expect("news").contains("in force"));
        let (_, _, shown) = connect().await;
        assert_ne!(shown, first);

        ours.write_all(b"still").await.expect("written");
        ours.flush().await.expect("sent");
        let mut read = [0; 5];
        theirs.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"still");
    }

    #[tokio::test]
    async fn what_is_spoken_inside_is_agreed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = pair(&folder, "one");
        let tls = open(&certificate, &key).expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let agreed = async |inside: Inside, offered: &[u8]| {
            let mut config = client().expect("a client");
            config.alpn_protocols = vec![offered.to_vec()];
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = TcpStream::connect(address).await.expect("connected");
            let (stream_of_server, _) = listener.accept().await.expect("accepted");
            let connector = TlsConnector::from(Arc::new(config));
            let (ours, theirs) = tokio::join!(connector.connect(name, stream), accept(&tls, inside, stream_of_server));
            assert_eq!(ours.is_ok(), theirs.is_some());
            let ours = ours.ok()?;
            ours.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
        };
        assert_eq!(
            agreed(Inside::Http1, b"http/1.1").await.as_deref(),
            Some(&b"http/1.1"[..])
        );
        assert_eq!(agreed(Inside::Http2, b"h2").await.as_deref(), Some(&b"h2"[..]));
        assert_eq!(agreed(Inside::Http1, b"h2").await, None);
        assert_eq!(agreed(Inside::Http2, b"http/1.1").await, None);
    }

    #[tokio::test]
    async fn a_client_that_speaks_no_tls_is_not_served() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = pair(&folder, "one");
        let tls = open(&certificate, &key).expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address"))
            .await
            .expect("connected");
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        let (stream, _) = listener.accept().await.expect("accepted");
        assert!(accept(&tls, Inside::Http1, stream).await.is_none());
    }
}
