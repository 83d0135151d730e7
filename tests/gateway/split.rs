//! A gateway that leads some of its requests to a canary and its baseline, as in a cluster; here all three are servers of
//! this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use emberline::gateway::Gateway;
use emberline::gateway::divided::Split;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::fixture::http::{Connection, get};
use crate::setup::{PREDICT, answered, body, free, nginx, run_nginx, three};

/// An nginx in the foreground, as in its pod, but for the port.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.process.wait();
    }
}

fn gateway(name: &str, service: SocketAddr) -> Gateway {
    let host = service.ip().to_string();
    Gateway::of_service(name, &host, service.port(), 16 << 20).expect("a gateway")
}

fn split(percent: u8, baseline: SocketAddr, canary: SocketAddr) -> Split {
    let upstream = |address: SocketAddr| address.to_string().parse().expect("an upstream");
    Split {
        percent,
        baseline: upstream(baseline),
        canary: upstream(canary),
    }
}

/// Its file in a folder, listening elsewhere than in a pod.
fn write(gateway: &Gateway, folder: &Path) -> SocketAddr {
    let address = free();
    let file = gateway.render().expect("rendered").config;
    assert!(file.contains("listen 0.0.0.0:8080;"), "{file}");
    let file = file.replace("listen 0.0.0.0:8080;", &format!("listen {address};"));
    fs::write(folder.join("nginx.conf"), file).expect("written");
    address
}

fn start(gateway: &Gateway) -> Nginx {
    let folder = tempfile::tempdir().expect("a folder");
    let address = write(gateway, folder.path());
    let process = Command::new("nginx")
        .args(["-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;", "-p"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx runs");
    let nginx = Nginx {
        process,
        address,
        _folder: folder,
    };
    crate::fixture::process::until("nginx answers", || std::net::TcpStream::connect(address).is_ok());
    nginx
}

#[test]
fn nginx_accepts_every_division() {
    if !nginx() {
        return;
    }
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let longest = "a234567890123456789012345678901234567-40";
    for name in ["digits", "a", "canary", "baseline", "server", longest] {
        for percent in [1, 10, 50] {
            let folder = tempfile::tempdir().expect("a folder");
            let split = split(percent, address(5001), address(5002));
            write(&gateway(name, address(5000)).divided(Some(split)), folder.path());
            let (good, said) = run_nginx(&["-t", "-c", "nginx.conf"], folder.path());
            assert!(good && !said.contains("[warn]"), "{name} {percent}: {said}");
        }
    }
}

#[test]
fn each_side_gets_its_share_and_the_service_answers_for_one_that_does_not() {
    if !nginx() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut servers = three(folder.path());
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let divided = gateway("digits", addresses[0]).divided(Some(split(20, addresses[1], addresses[2])));
    let nginx = start(&divided);
    let mut connection = Connection::open(nginx.address).expect("a connection");
    let mut ask = || connection.post(PREDICT, &body()).expect("an answer").status;
    for _ in 0..500 {
        assert_eq!(ask(), 200);
    }
    let counts: Vec<u64> = servers.iter().map(answered).collect();
    assert_eq!(counts.iter().sum::<u64>(), 500);
    // 100 of either, give or take five standard deviations.
    for side in &counts[1..] {
        assert!((55..=145).contains(side), "{counts:?}");
    }

    // A path is taken over as it is without a division: its prefix goes, what is escaped in it stays so.
    let whole = start(&gateway("digits", addresses[0]));
    for path in [
        "/digits/v2/models/digits",
        "/digits/v2/models/digits?a=b%20c&d",
        "/digits/nothing%20here",
        "/digits/a%0Ab",
        "/digits/a%2Fb",
        "/digits/",
        "/digits",
        "/elsewhere",
    ] {
        let [one, other] = [&nginx, &whole].map(|nginx| get(nginx.address, path));
        assert_eq!(one.status, other.status, "{path}");
        assert_eq!(one.body, other.body, "{path}");
    }

    // A canary that is gone costs nobody an answer.
    let mut canary = servers.pop().expect("three");
    canary.signal(Signal::KILL);
    canary.exit_code();
    for _ in 0..100 {
        assert_eq!(ask(), 200);
    }
}
