//! The engine itself is started anew. It is one of the test's own, beside that of the machine, so that nobody else's
//! containers end with it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::digits_bundle;
use crate::fixture::port;
use crate::running::{Connection, signal, version_of, wait};
use crate::tool::{emberline, found, ran, skipped};

/// A container engine with its own state, its own bridge, and no rule in the machine's firewall.
struct Engine {
    folder: TempDir,
    bridge: String,
    process: Option<Child>,
}

impl Engine {
    fn new() -> Self {
        let number = std::process::id() % 10_000;
        let engine = Self {
            folder: tempfile::tempdir().expect("a folder"),
            bridge: format!("ember{number}"),
            process: None,
        };
        ip(&["link", "add", &engine.bridge, "type", "bridge"]);
        ip(&["addr", "add", "172.31.251.1/24", "dev", &engine.bridge]);
        ip(&["link", "set", &engine.bridge, "up"]);
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    fn start(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let log = fs::File::create(path("log")).expect("a log");
        let process = Command::new("dockerd")
            .args(["--host", &self.host(), "--bridge", &self.bridge])
            .args([
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
            ])
            .args(["--containerd-namespace", &self.bridge])
            .args(["--containerd-plugins-namespace", &format!("{}-plugins", self.bridge)])
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("dockerd runs"));
        wait("the engine answers", || {
            let socket = fs::metadata(path("docker.sock"));
            socket.is_ok_and(|socket| socket.file_type().is_socket()) && self.docker(&["version"]).is_some()
        });
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(process.id(), Signal::TERM);
            process.wait().expect("its end");
        }
    }

    /// What `docker` says; none when it fails.
    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let mut docker = Command::new("docker");
        let output = docker.env("DOCKER_HOST", self.host()).args(arguments).output();
        let output = output.expect("docker runs");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        ip(&["link", "del", &self.bridge]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success() || std::thread::panicking(), "ip {arguments:?}");
}

#[test]
fn an_engine_that_was_restarted_brings_the_service_back_as_it_was() {
    if !(found("dockerd", "apt-get install docker.io")
        && found("ip", "apt-get install iproute2")
        && found("nginx", "apt-get install nginx-light"))
    {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skipped::for_want_of("right to start a container engine", "sudo -E cargo test --test docker");
        return;
    }
    let mut engine = Engine::new();
    engine.start();
    let folder = tempfile::tempdir().expect("a folder");
    let (name, port) = (format!("emberline-test-engine-{}", std::process::id()), port::free());
    fs::write(
        folder.path().join("emberline.yaml"),
        format!("name: {name}\ndata: {{source: synthetic-digits}}\ndeploy: {{target: docker, port: {port}}}\n"),
    )
    .expect("a project");
    let bundle = digits_bundle(folder.path());
    let run = |arguments: &[&str]| -> Value {
        let mut command = emberline(folder.path(), arguments);
        command.args(["-o", "json"]).env("DOCKER_HOST", engine.host());
        for name in ["EMBERLINE_RUNTIME", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        ran(&mut command).success().json()
    };
    let ask = || Connection::open(port).and_then(|mut open| open.predict(true));
    let containers = |engine: &Engine| -> Vec<String> {
        let listed = engine
            .docker(&["ps", "--all", "--quiet", "--no-trunc"])
            .expect("a list");
        let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    };

    run(&["package", "--allow-ungated", "--builder", "docker"]);
    run(&["deploy", "--allow-ungated", "--replicas", "2"]);
    let before = containers(&engine);
    assert_eq!(before.len(), 2);

    let host = engine.host();
    let status = || -> Value {
        let mut command = emberline(folder.path(), &["status", "-o", "json"]);
        ran(command.env("DOCKER_HOST", &host)).success().json()
    };
    engine.stop();
    assert!(ask().is_err(), "nobody is there to answer");
    engine.start();
    wait("two replicas are ready again", || {
        let status = status();
        status["phase"] == "ready" && status["replicas"]["ready"] == 2
    });
    assert_eq!(containers(&engine), before);
    // nginx leaves replicas alone that did not answer, for 5 s.
    wait("the address answers", || {
        ask().is_ok_and(|version| version == version_of(&bundle))
    });

    let mut command = emberline(
        folder.path(),
        &["deploy", "--allow-ungated", "--replicas", "2", "-o", "json"],
    );
    let again = ran(command.env("DOCKER_HOST", &host)).success().json();
    assert_eq!(again["revision"], 1);
    assert_eq!(containers(&engine), before);
    let mut command = emberline(folder.path(), &["delete", "--yes"]);
    ran(command.env("DOCKER_HOST", &host)).success();
    assert_eq!(containers(&engine), Vec::<String>::new());
}
