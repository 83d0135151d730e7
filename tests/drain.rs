//! Told to go, a server loses no request: alone, and as one of several on a socket.

mod fixture;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fixture::http::{Connection, Response, get, head};
use fixture::process::{Replica, clean, run, server, start, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Clients that send one request after another until there is no server left, or until they are told to stop.
struct Load {
    address: SocketAddr,
    body: Vec<u8>,
    stop: AtomicBool,
    answered: AtomicUsize,
}

/// How a client's connections are used.
#[derive(Clone, Copy)]
enum Use {
    /// Many requests each, until the server closes it.
    KeepAlive,
    /// One request each.
    Once,
}

/// What a client gets when it opens a connection.
enum Outcome {
    Answer(Connection, Response),
    /// The server does not listen any more.
    Refused,
}

impl Load {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            body: json!({"instances": [fixture::image(1)]}).to_string().into_bytes(),
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
        }
    }

    /// Works until told to stop or refused; any request that is sent and not answered whole is a failure.
    fn client(&self, how: Use) {
        let headers = match how {
            Use::KeepAlive => "",
            Use::Once => "connection: close\r\n",
        };
        while !self.stop.load(Ordering::Relaxed) {
            let Outcome::Answer(mut connection, mut response) = self.first(headers) else {
                return;
            };
            loop {
                assert_eq!(response.status, 200, "{}", response.text());
                let rows = response.json()["predictions"][0].as_array().map(Vec::len);
                assert_eq!(rows, Some(10));
                self.answered.fetch_add(1, Ordering::Relaxed);
                if response.closes() || self.stop.load(Ordering::Relaxed) {
                    break;
                }
                response = self
                    .send(&mut connection, headers)
                    .unwrap_or_else(|error| panic!("a request on an open connection was lost: {error:?}"));
            }
        }
    }

    fn first(&self, headers: &str) -> Outcome {
        let mut connection = match Connection::open(self.address) {
            Ok(connection) => connection,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Outcome::Refused,
            Err(error) => panic!("{error:?}"),
        };
        match self.send(&mut connection, headers) {
            Ok(response) => Outcome::Answer(connection, response),
            Err(error) => panic!("the first request on a connection was lost: {error:?}"),
        }
    }

    fn send(&self, connection: &mut Connection, headers: &str) -> io::Result<Response> {
        connection.request("POST", "/v1/models/digits:predict", headers, &self.body)
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    fn goes_on(&self, more: usize) {
        let target = self.answered() + more;
        until("the load goes on", || self.answered() >= target);
    }
}

/// Stops the clients when it is dropped, so that a failed assertion does so too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn metric(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).expect("the metric")
}

#[test]
fn a_server_under_load_answers_all_that_it_has_let_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(&fixture::digits_bundle(folder.path()), &[]);
    let load = Load::new(server.address);
    let begun = Instant::now();
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for _ in 0..6 {
            scope.spawn(|| load.client(Use::KeepAlive));
        }
        load.goes_on(300);
        server.signal(Signal::TERM);
        assert_eq!(server.exit_code(), Some(0));
    });
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "busy clients do not hold it up"
    );
}

#[test]
fn what_is_in_flight_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(&fixture::slow_bundle(folder.path()), &[]);
    let images: Vec<Value> = (0..200).map(|seed| json!(fixture::image(seed))).collect();
    let body = json!({ "instances": images }).to_string();
    let mut slow = Connection::open(server.address).expect("connected");
    slow.send(&head("POST", "/v1/models/slow:predict", "", body.len()))
        .expect("sent");
    slow.send(body.as_bytes()).expect("sent");
    // Half a body has arrived when the server is told to go.
    let half = json!({"instances": [fixture::image(1)]}).to_string();
    let (begin, rest) = half.as_bytes().split_at(half.len() / 2);
    let mut late = Connection::open(server.address).expect("connected");
    late.send(&head("POST", "/v1/models/slow:predict", "", half.len()))
        .expect("sent");
    late.send(begin).expect("sent");
    // An idle connection, and one on which nothing was sent yet.
    let mut idle = Connection::open(server.address).expect("connected");
    assert!(!idle.get("/readyz").expect("answered").closes());
    let mut fresh = Connection::open(server.address).expect("connected");
    until("both are at work", || {
        metric(server.address, "emberline_requests_in_flight") == 2.0
    });

    server.signal(Signal::TERM);
    server.says("SIGTERM");
    until("it has stopped listening", || Connection::open(server.address).is_err());
    let idle = idle.get("/readyz").expect("answered");
    assert!(idle.closes());
    assert!(idle.error(503).contains("draining"));
    let fresh = fresh.get("/livez").expect("answered");
    assert_eq!((fresh.status, fresh.closes()), (200, true));
    late.send(rest).expect("sent");
    for (mut connection, count) in [(late, 1), (slow, 200)] {
        let response = connection.receive().expect("answered");
        assert_eq!((response.status, response.closes()), (200, true));
        assert_eq!(response.json()["predictions"].as_array().map(Vec::len), Some(count));
    }
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn idle_connections_are_closed_after_a_while_and_the_waiting_has_an_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--idle-grace", "0.2", "--grace", "0.6"];
    let mut server = start(&fixture::digits_bundle(folder.path()), &flags);
    let mut idle = Connection::open(server.address).expect("connected");
    assert_eq!(idle.get("/livez").expect("answered").status, 200);
    let mut hanging = Connection::open(server.address).expect("connected");
    hanging.send(&head("POST", "/predict", "", 1000)).expect("sent");
    until("it is at work", || {
        metric(server.address, "emberline_requests_in_flight") == 1.0
    });
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(idle.receive().is_err(), "closed");
    let closed = begun.elapsed();
    assert!(closed >= Duration::from_millis(190), "{closed:?}");
    server.says("1 connection was open still");
    assert_eq!(server.exit_code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(590));
}

#[test]
fn ctrl_c_ends_the_waiting_and_a_second_sigterm_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(&fixture::digits_bundle(folder.path()), &[]);
    let mut hanging = Connection::open(server.address).expect("connected");
    hanging.send(&head("POST", "/predict", "", 1000)).expect("sent");
    until("it is at work", || {
        metric(server.address, "emberline_requests_in_flight") == 1.0
    });
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.says("SIGTERM");
    server.signal(Signal::TERM);
    // What was sent after the signal is answered: the second one did not cut it off.
    hanging.send(&vec![b' '; 1000]).expect("sent");
    assert_eq!(hanging.receive().expect("answered").status, 400);
    assert_eq!(server.exit_code(), Some(0));

    let mut server = start(&fixture::digits_bundle(folder.path()), &[]);
    let mut hanging = Connection::open(server.address).expect("connected");
    hanging.send(&head("POST", "/predict", "", 1000)).expect("sent");
    until("it is at work", || {
        metric(server.address, "emberline_requests_in_flight") == 1.0
    });
    server.signal(Signal::INT);
    server.says("SIGINT");
    server.signal(Signal::INT);
    assert_eq!(server.exit_code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_supervisor_that_goes_does_not_cut_off_what_is_in_flight() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut replica = replica(&bundle, &socket);
    assert_eq!(replica.hears(), "ready");
    let mut hanging = Connection::open(address).expect("connected");
    hanging.send(&head("POST", "/predict", "", 1000)).expect("sent");
    until("it is at work", || {
        metric(address, "emberline_requests_in_flight") == 1.0
    });
    replica.signal(Signal::TERM);
    assert!(replica.lines.iter().any(|line| line.contains("SIGTERM")));
    replica.abandon();
    hanging.send(&vec![b' '; 1000]).expect("sent");
    assert_eq!(hanging.receive().expect("answered").status, 400);
    assert_eq!(replica.exit_code(), Some(0));
}

/// The exit code of `emberline-server --health`, asked of an address.
fn health(address: SocketAddr) -> Option<i32> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let output = run(&["--health", "--host", &host, "--port", &port]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.is_empty(), output.status.success(), "{errors}");
    output.status.code()
}

#[test]
fn with_drain_it_is_not_ready_and_accepts_still() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(&fixture::digits_bundle(folder.path()), &["--drain", "1"]);
    assert_eq!(health(server.address), Some(0));
    server.signal(Signal::TERM);
    server.says("SIGTERM");
    until("it says that it is not ready", || {
        get(server.address, "/readyz").status == 503
    });
    assert_eq!(health(server.address), Some(1));
    for path in ["/healthz", "/v2/health/ready", "/v2/models/digits/ready"] {
        let response = get(server.address, path);
        assert!(response.closes(), "{path}");
        assert!(response.error(503).contains("draining"), "{path}");
    }
    assert_eq!(get(server.address, "/livez").status, 200);
    let load = Load::new(server.address);
    assert!(matches!(load.first(""), Outcome::Answer(_, response) if response.status == 200 && response.closes()));
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(health(server.address), Some(1));
}

#[test]
fn a_load_balancer_that_is_slow_to_look_away_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(&fixture::digits_bundle(folder.path()), &["--drain", "0.1"]);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.says("SIGTERM");
    // Connections come at half of the time after which nobody is waited for any more.
    while begun.elapsed() < Duration::from_millis(2500) {
        assert_eq!(get(server.address, "/livez").status, 200, "{:?}", begun.elapsed());
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(server.exit_code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

fn replica(bundle: &Path, socket: &TcpListener) -> Replica {
    let mut command = server();
    command.arg(bundle);
    Replica::start(command, socket)
}

#[test]
fn replicas_on_one_socket_are_replaced_without_a_lost_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let mut replica = replica(&bundle, &socket);
        assert_eq!(replica.hears(), "ready");
        replicas.push(replica);
    }
    let load = Load::new(address);
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for how in [Use::KeepAlive, Use::Once, Use::KeepAlive, Use::Once] {
            let load = &load;
            scope.spawn(move || load.client(how));
        }
        load.goes_on(200);
        // Replaced one by one, twice over, as a supervisor does: first the new one, then the old one goes.
        for _ in 0..4 {
            let mut new = replica(&bundle, &socket);
            assert_eq!(new.hears(), "ready");
            replicas.push(new);
            let mut old = replicas.remove(0);
            old.signal(Signal::TERM);
            load.goes_on(100);
            assert_eq!(old.exit_code(), Some(0));
            load.goes_on(100);
        }
    });
    assert!(load.answered() > 1000);
}

#[test]
fn the_control_channel_tells_what_the_supervisor_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut replica = replica(&bundle, &socket);
    assert_eq!(replica.hears(), "ready");
    assert_eq!(replica.ask("ping"), "pong 0 0");
    let load = Load::new(address);
    let Outcome::Answer(..) = load.first("") else {
        panic!("refused");
    };
    assert_eq!(get(address, "/readyz").status, 200);
    assert_eq!(replica.ask("ping"), "pong 1 0", "health checks are no predictions");
    let mut hanging = Connection::open(address).expect("connected");
    hanging.send(&head("POST", "/predict", "", 1000)).expect("sent");
    until("it is at work", || {
        metric(address, "emberline_requests_in_flight") == 1.0
    });
    assert_eq!(replica.ask("ping"), "pong 1 1");
    assert!(replica.ask("pong").starts_with("failed there is no command `pong`"));
    drop(hanging);
    // The supervisor is no more.
    replica.abandon();
    assert_eq!(replica.exit_code(), Some(0));
    assert!(replica.lines.iter().any(|line| line.contains("supervisor")));
}

#[test]
fn a_replica_that_cannot_serve_says_why_and_takes_no_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle_with_wrong_golden(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("nonblocking");
    let waiting = Connection::open(socket.local_addr().expect("an address")).expect("connected");
    let mut replica = replica(&bundle, &socket);
    let said = replica.hears();
    assert!(said.starts_with("failed golden case 0 is off by"), "{said}");
    assert_eq!(replica.hears(), "");
    assert_eq!(replica.exit_code(), Some(1));
    socket.accept().expect("the connection waits for another replica");
    drop(waiting);

    let mut command = clean(env!("CARGO_BIN_EXE_emberline"));
    command.args(["serve", "--bundle"]).arg(folder.path().join("none"));
    let mut replica = Replica::start(command, &socket);
    let said = replica.hears();
    assert!(said.contains("is no bundle"), "{said}");
    assert_eq!(replica.exit_code(), Some(1));
}

#[test]
fn a_replica_that_drains_keeps_no_door_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut command = server();
    command.arg(&bundle).args(["--idle-grace", "60"]);
    let mut replica = Replica::start(command, &socket);
    assert_eq!(replica.hears(), "ready");
    // An idle connection keeps it alive when it is told to go.
    let idle = Connection::open(address).expect("connected");
    // Connections are let in in their order, so the idle one was before this one.
    assert_eq!(get(address, "/livez").status, 200);
    drop(socket);
    replica.signal(Signal::TERM);
    until("nobody is let in any more", || Connection::open(address).is_err());
    drop(idle);
    assert_eq!(replica.exit_code(), Some(0));
}

#[test]
fn the_tool_is_a_replica_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut command = clean(env!("CARGO_BIN_EXE_emberline"));
    command.args(["serve", "--bundle"]).arg(&bundle);
    let mut replica = Replica::start(command, &socket);
    assert_eq!(replica.hears(), "ready");
    assert_eq!(get(socket.local_addr().expect("an address"), "/readyz").status, 200);
    replica.signal(Signal::TERM);
    assert_eq!(replica.exit_code(), Some(0));
}
