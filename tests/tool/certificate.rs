//! Certificates for this machine, each its own root, as openssl makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{found, ran};

/// Whether this machine can make one; where it cannot, the test is skipped, and in CI it fails.
#[track_caller]
pub fn can_be_made() -> bool {
    found("openssl", "apt-get install openssl")
}

/// `NAME.pem` and `NAME.key` in a folder.
#[track_caller]
pub fn made(folder: &Path, name: &str) -> [PathBuf; 2] {
    let files = ["pem", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "2", "-subj"])
        .arg(format!("/CN={name}"))
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&files[0])
        .arg("-keyout")
        .arg(&files[1]);
    ran(&mut openssl).success();
    files
}
