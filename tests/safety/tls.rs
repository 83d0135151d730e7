//! TLS: served, checked by curl, and its certificate exchanged while connections stay.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fixture::digits_bundle;
use crate::fixture::http::Connection;
use crate::fixture::process::{Server, run, server, start, until};
use crate::tool::{self, certificate};

/// Whether there is what these tests need.
fn tools() -> bool {
    certificate::can_be_made() && tool::found("curl", "apt-get install curl")
}

struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// A certificate for this machine that is its own root.
    fn new(folder: &Path, name: &str) -> Self {
        let [certificate, key] = certificate::made(folder, name);
        Self { certificate, key }
    }

    fn flags(&self) -> [&str; 4] {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.to_str().expect("a path"));
        ["--tls-cert", certificate, "--tls-key", key]
    }

    /// Puts this pair in the place of another one.
    fn replace(&self, other: &Self) {
        for (new, old) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            let beside = old.with_extension("new");
            fs::copy(new, &beside).expect("copied");
            fs::rename(&beside, old).expect("renamed");
        }
    }

    /// A connection with a server that shows this certificate; none with one that shows another one.
    fn connect(&self, address: SocketAddr) -> Option<BufReader<StreamOwned<ClientConnection, TcpStream>>> {
        let mut roots = RootCertStore::empty();
        let certificate = rustls::pki_types::CertificateDer::from_pem_file(&self.certificate).expect("a certificate");
        roots.add(certificate).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = TcpStream::connect(address).expect("connected");
        while client.is_handshaking() {
            client.complete_io(&mut stream).ok()?;
        }
        Some(BufReader::new(StreamOwned::new(client, stream)))
    }
}

fn curl(address: SocketAddr, pair: &Pair, arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "30", "--cacert"])
        .arg(&pair.certificate)
        .args(arguments)
        .arg(format!("https://localhost:{}/readyz", address.port()))
        .output()
        .expect("curl")
}

fn asked(stream: &mut (impl BufRead + AsWrite)) -> String {
    stream
        .writer()
        .write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n")
        .expect("sent");
    let mut length = 0;
    let mut status = String::new();
    stream.read_line(&mut status).expect("a status");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a header");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim_end().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).expect("a body");
    status
}

trait AsWrite {
    fn writer(&mut self) -> &mut dyn Write;
}

impl<S: Read + Write> AsWrite for BufReader<S> {
    fn writer(&mut self) -> &mut dyn Write {
        self.get_mut()
    }
}

#[test]
fn a_server_speaks_tls_and_its_health_is_asked_within_it() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let (pair, other) = (Pair::new(folder.path(), "one"), Pair::new(folder.path(), "other"));
    tool::run(folder.path(), &["keys", "add", "phone"]).success();
    let keys = folder.path().join("emberline.keys");
    let flags = [&pair.flags()[..], &["--keys", keys.to_str().expect("a path")]].concat();
    let running = start(&bundle, &flags);

    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let output = curl(running.address, &pair, &version);
        assert!(
            output.status.success(),
            "{version:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.stdout, br#"{"ready":true}"#);
    }
    let old = curl(running.address, &pair, &["--tls-max", "1.1"]);
    assert!(!old.status.success(), "TLS 1.1 is spoken");
    assert!(!curl(running.address, &other, &[]).status.success());
    // Whoever speaks no TLS hears nothing.
    let mut plain = Connection::open(running.address).expect("connected");
    let answer = plain.get("/livez");
    assert!(answer.is_err(), "{answer:?}");

    let port = running.address.port().to_string();
    let health = |flags: &[&str]| {
        let mut command = server();
        let output = command
            .args(["--health", "--port", &port])
            .args(flags)
            .output()
            .expect("run");
        output.status.code()
    };
    assert_eq!(health(&flags), Some(0));
    // It asks whether the server serves, and a certificate that will be exchanged soon is no reason to say no.
    assert_eq!(health(&other.flags()), Some(0));
    assert_eq!(health(&[]), Some(1));
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let (pair, next) = (Pair::new(folder.path(), "served"), Pair::new(folder.path(), "next"));
    let before = Pair {
        certificate: folder.path().join("before.pem"),
        key: pair.key.clone(),
    };
    fs::copy(&pair.certificate, &before.certificate).expect("copied");
    let server: Server = start(&bundle, &pair.flags());
    let mut open = before.connect(server.address).expect("the first certificate");
    assert!(asked(&mut open).contains("200"));

    fs::write(&pair.certificate, "-----BEGIN CERTIFICATE-----\n").expect("written");
    server.says("TLS certificate: what was there before stays in force");
    assert!(before.connect(server.address).is_some());

    next.replace(&pair);
    until("the new certificate is shown", || {
        next.connect(server.address).is_some()
    });
    assert!(before.connect(server.address).is_none());
    assert!(asked(&mut open).contains("200"), "an open connection goes on");
}

#[test]
fn a_certificate_goes_with_its_key() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let (pair, other) = (Pair::new(folder.path(), "one"), Pair::new(folder.path(), "other"));
    let refused = |flags: &[&str], code: i32, reason: &str| {
        let output = run(&[&[bundle.to_str().expect("a path"), "--port", "0"], flags].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(reason), "{said}");
    };
    refused(&pair.flags()[..2], 2, "`--tls-key`");
    refused(&pair.flags()[2..], 2, "`--tls-cert`");
    let mixed = [pair.flags()[0], pair.flags()[1], other.flags()[2], other.flags()[3]];
    refused(&mixed, 1, "is not that of the certificate");
}
