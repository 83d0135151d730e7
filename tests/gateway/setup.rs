//! A project with a gateway of its own, the servers behind it, and what they have counted.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture;
use crate::fixture::http::get;
use crate::fixture::process::{Server, start};
use crate::tool::{Ran, emberline, found, ran};

pub const PREDICT: &str = "/digits/v1/models/digits:predict";

/// Whether there is an nginx to test with.
#[track_caller]
pub fn nginx() -> bool {
    found("nginx", "apt-get install nginx-light")
}

/// A project, and its gateway on a free port; ended at the end of the test, however it ends.
pub struct Gateway {
    pub folder: TempDir,
    pub address: SocketAddr,
}

impl Gateway {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free();
        fs::write(
            folder.path().join("emberline.yaml"),
            format!("name: digits\ndata: {{source: synthetic-digits}}\ngateway: {{listen: '{address}'}}\n"),
        )
        .expect("a project");
        Self { folder, address }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".emberline/gateway")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = emberline(self.path(), &["gateway"]);
        command.args(arguments).args(["-o", "json"]);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// `gateway up` in front of servers.
    pub fn up(&self, servers: &[Server], more: &[&str]) -> Value {
        let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
        let upstreams = addresses.join(",");
        let mut arguments = vec!["up", "--upstream", &upstreams];
        arguments.extend(more);
        self.run(&arguments).success().json()
    }

    /// nginx's master process.
    pub fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.state().join("nginx.pid")).expect("a pid file");
        Pid::from_raw(text.trim().parse().expect("a number")).expect("a process")
    }

    /// What nginx logs of requests; a line is there when its request is finished, and not before.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state().join("access.log")).expect("a log");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

pub fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], fixture::port::free()))
}

pub fn three(folder: &Path) -> Vec<Server> {
    let bundle = fixture::digits_bundle(folder);
    (0..3).map(|_| start(&bundle, &[])).collect()
}

pub fn body() -> Value {
    json!({"instances": [fixture::image(3)]})
}

/// Whether two answers are the same but for the order in which a batch is summed up.
pub fn same(one: &Value, other: &Value) -> bool {
    let row = |answer: &Value| -> Vec<f64> {
        let row = answer["predictions"][0].as_array().expect("a prediction");
        row.iter().filter_map(Value::as_f64).collect()
    };
    let (one, other) = (row(one), row(other));
    one.len() == 10 && one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-5)
}

/// Predictions that a server has answered.
pub fn answered(server: &Server) -> u64 {
    let page = get(server.address, "/metrics").text();
    let lines = page.lines();
    lines
        .filter_map(|line| line.strip_prefix("emberline_requests_total{protocol=\"v1\","))
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        .sum()
}

pub fn run_nginx(arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new("nginx")
        .args(arguments)
        .arg("-p")
        .arg(folder)
        .output()
        .expect("nginx runs");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
