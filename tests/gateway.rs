//! `emberline gateway`: a real nginx accepts what is rendered, and routes, balances, reloads and ends as promised.

mod fixture;
mod tool;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fixture::http::{Connection, Response, get, head, post};
use fixture::process::{Server, start, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tool::{Ran, emberline, ran};

const PREDICT: &str = "/digits/v1/models/digits:predict";

/// Whether there is an nginx to test with.
#[track_caller]
fn nginx() -> bool {
    tool::found("nginx", "apt-get install nginx-light")
}

/// A project, and its gateway on a free port; ended at the end of the test, however it ends.
struct Gateway {
    folder: TempDir,
    address: SocketAddr,
}

impl Gateway {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free();
        fs::write(
            folder.path().join("emberline.yaml"),
            format!("name: digits\ndata: {{source: synthetic-digits}}\ngateway: {{listen: '{address}'}}\n"),
        )
        .expect("a project");
        Self { folder, address }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> PathBuf {
        self.path().join(".emberline/gateway")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = emberline(self.path(), &["gateway"]);
        command.args(arguments).args(["-o", "json"]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// `gateway up` in front of servers.
    fn up(&self, servers: &[Server], more: &[&str]) -> Value {
        let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
        let upstreams = addresses.join(",");
        let mut arguments = vec!["up", "--upstream", &upstreams];
        arguments.extend(more);
        self.run(&arguments).success().json()
    }

    /// nginx's master process.
    fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.state().join("nginx.pid")).expect("a pid file");
        Pid::from_raw(text.trim().parse().expect("a number")).expect("a process")
    }

    /// What nginx logs of requests; a line is there when its request is finished, and not before.
    fn log(&self) -> Vec<Value> {
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

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn three(folder: &Path) -> Vec<Server> {
    let bundle = fixture::digits_bundle(folder);
    (0..3).map(|_| start(&bundle, &[])).collect()
}

fn body() -> Value {
    json!({"instances": [fixture::image(3)]})
}

/// Whether two answers are the same but for the order in which a batch is summed up.
fn same(one: &Value, other: &Value) -> bool {
    let row = |answer: &Value| -> Vec<f64> {
        let row = answer["predictions"][0].as_array().expect("a prediction");
        row.iter().filter_map(Value::as_f64).collect()
    };
    let (one, other) = (row(one), row(other));
    one.len() == 10 && one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-5)
}

/// Predictions that a server has answered.
fn answered(server: &Server) -> u64 {
    let page = get(server.address, "/metrics").text();
    let lines = page.lines();
    lines
        .filter_map(|line| line.strip_prefix("emberline_requests_total{protocol=\"v1\","))
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        .sum()
}

fn run_nginx(arguments: &[&str], folder: &Path) -> (bool, String) {
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

// ---- render ----

#[test]
fn nginx_accepts_every_rendering() {
    if !nginx() {
        return;
    }
    let one = &["127.0.0.1:5000"][..];
    let three = &["127.0.0.1:5000", "[::1]:5001", "localhost:5002"][..];
    let longest = "a234567890123456789012345678901234567-40";
    for name in ["digits", "a", "healthz", "error", "http", "server", "a--1", longest] {
        for balance in ["round_robin", "least_conn", "ip_hash"] {
            for upstreams in [one, three] {
                let folder = tempfile::tempdir().expect("a folder");
                let config = format!("name: {name}\ndata: {{source: synthetic-digits}}\n");
                fs::write(folder.path().join("emberline.yaml"), config).expect("a project");
                let listen = free().to_string();
                let mut command = emberline(folder.path(), &["gateway", "render", "--balance", balance]);
                command.args(["--listen", &listen]);
                for upstream in upstreams {
                    command.args(["--upstream", upstream]);
                }
                let text = ran(&mut command).success().stdout;
                let report = ran(command.args(["-o", "json"])).success().json();
                assert_eq!(report["config"].as_str().map(str::trim_end), Some(text.trim_end()));
                assert_eq!(report["balance"], balance);
                fs::write(folder.path().join("nginx.conf"), text).expect("written");
                let (good, said) = run_nginx(&["-t", "-c", "nginx.conf"], folder.path());
                assert!(
                    good && !said.contains("[warn]"),
                    "{name} {balance} {upstreams:?}: {said}"
                );
            }
        }
    }
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let gateway = Gateway::new();
    let config = "name: digits\ndata: {source: synthetic-digits}\ndeploy: {host: 0.0.0.0, port: 5004}\n\
                  gateway: {listen: 127.0.0.1:8099, balance: ip_hash}\n";
    fs::write(gateway.path().join("emberline.yaml"), config).expect("a project");
    let report = gateway.run(&["render"]).success().json();
    assert_eq!(report["name"], "digits");
    assert_eq!(report["listen"], "127.0.0.1:8099");
    assert_eq!(report["balance"], "ip_hash");
    assert_eq!(report["upstreams"], json!(["127.0.0.1:5004"]));
    let with = |arguments: &[&str]| {
        let mut command = gateway.command(&["render"]);
        command
            .args(arguments)
            .env("EMBERLINE_BALANCE", "least_conn")
            .env("EMBERLINE_LISTEN", "127.0.0.1:8098")
            .env("EMBERLINE_UPSTREAM", "a:1,b:2");
        ran(&mut command).success().json()
    };
    let report = with(&[]);
    assert_eq!(report["listen"], "127.0.0.1:8098");
    assert_eq!(report["balance"], "least_conn");
    assert_eq!(report["upstreams"], json!(["a:1", "b:2"]));
    let report = with(&["--balance", "round_robin", "--upstream", "c:3"]);
    assert_eq!(report["balance"], "round_robin");
    assert_eq!(report["upstreams"], json!(["c:3"]));
}

#[test]
fn what_a_gateway_cannot_be_is_told() {
    let gateway = Gateway::new();
    let run = |arguments: &[&str]| gateway.run(arguments);
    run(&["render", "--upstream", "host:5000; return 200"])
        .code(2)
        .says(&["`host:5000; return 200` is no HOST:PORT"]);
    run(&["render", "--balance", "random"])
        .code(2)
        .says(&["round_robin, least_conn, ip_hash"]);
    run(&["render", "--listen", "8080"]).code(2).says(&["--listen"]);
    run(&["render", "--listen", "127.0.0.1:0"])
        .code(1)
        .says(&["has port 0"]);
    run(&["render", "--listen", "127.0.0.1:5000"])
        .code(1)
        .says(&["its own upstream", "hint: choose another address with `--listen`"]);
    run(&["up", "--listen", "0.0.0.0:8080"]).code(1).says(&[
        "can be reached from other machines",
        "hint: ",
        "--allow-public",
    ]);
    let public = run(&["render", "--listen", "0.0.0.0:8080", "--allow-public"])
        .success()
        .json();
    assert!(
        public["config"]
            .as_str()
            .expect("a file")
            .contains("listen 0.0.0.0:8080;")
    );
    for (listen, message) in [
        ("8080", "emberline.yaml:3:19: `8080` is no address with a port"),
        ("127.0.0.1:0", "`gateway.listen` is `127.0.0.1:0`"),
    ] {
        let config = format!("name: digits\ndata: {{source: synthetic-digits}}\ngateway: {{listen: '{listen}'}}\n");
        fs::write(gateway.path().join("emberline.yaml"), config).expect("a project");
        run(&["render"]).code(1).says(&[message]);
    }
}

// ---- up and down ----

#[test]
fn it_routes_and_balances_within_5_percent() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    let report = gateway.up(&servers, &[]);
    assert_eq!(report["change"], "started");
    assert_eq!(report["address"], format!("http://{}/digits/", gateway.address));
    let expected = post(servers[0].address, "/v1/models/digits:predict", &body()).json();
    let before: Vec<u64> = servers.iter().map(answered).collect();

    let ask = |connection: &mut Connection| {
        let response = connection.post(PREDICT, &body()).expect("answered");
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(same(&response.json(), &expected), "{}", response.text());
    };
    thread::scope(|scope| {
        for keep in [true, false, true, false, true, false] {
            let (ask, address) = (&ask, gateway.address);
            scope.spawn(move || {
                let mut connection = Connection::open(address).expect("connected");
                for _ in 0..500 {
                    ask(&mut connection);
                    if !keep {
                        connection = Connection::open(address).expect("connected");
                    }
                }
            });
        }
    });
    for (server, before) in servers.iter().zip(before) {
        let count = answered(server) - before;
        assert!(
            (950..=1050).contains(&count),
            "{count} of 3,000 requests went to one of three"
        );
    }
}

#[test]
fn the_other_balances_are_what_they_say() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers, &["--balance", "ip_hash"]);
    let counts = |more: usize| -> Vec<u64> {
        let before: Vec<u64> = servers.iter().map(answered).collect();
        for _ in 0..more {
            assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);
        }
        let mut counts: Vec<u64> = servers
            .iter()
            .zip(before)
            .map(|(server, before)| answered(server) - before)
            .collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(30), [0, 0, 30], "one client has one replica");
    assert_eq!(gateway.up(&servers, &["--balance", "least_conn"])["change"], "reloaded");
    assert_eq!(counts(30), [10, 10, 10], "none has anything in hand");
}

#[test]
fn a_replica_that_dies_costs_no_request() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let mut servers = three(gateway.path());
    gateway.up(&servers, &[]);
    let load = Load::new(gateway.address);
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for keep in [true, false, true, false] {
            let load = &load;
            scope.spawn(move || load.client(keep));
        }
        load.goes_on(200);
        servers[1].signal(Signal::KILL);
        servers[1].exit_code();
        load.goes_on(300);
    });
    until("the retry is logged", || {
        let tried = |line: &Value| {
            line["upstream"]
                .as_str()
                .is_some_and(|upstream| upstream.contains(", "))
        };
        gateway.log().iter().any(tried)
    });
}

#[test]
fn request_ids_go_in_and_out_and_into_the_log() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers, &[]);
    let ask = |headers: &str| {
        let mut connection = Connection::open(gateway.address).expect("connected");
        let body = body().to_string();
        let response = connection
            .request("POST", PREDICT, headers, body.as_bytes())
            .expect("answered");
        assert_eq!(response.status, 200);
        response.header("x-request-id").expect("an id").to_owned()
    };
    assert_eq!(ask("x-request-id: Order-7_a.b\r\n"), "Order-7_a.b");
    let own = ask("");
    assert!(
        own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{own}"
    );
    for bad in ["a b", "a\"b", &"x".repeat(129)] {
        let given = ask(&format!("x-request-id: {bad}\r\n"));
        assert!(given != bad && given.len() == 32, "{bad}: {given}");
    }
    until("the requests are logged", || gateway.log().len() == 5);
    let line = &gateway.log()[0];
    assert_eq!(line["request_id"], "Order-7_a.b");
    assert_eq!((&line["status"], &line["method"]), (&json!(200), &json!("POST")));
    assert_eq!(line["path"], PREDICT);
    let upstream = line["upstream"].as_str().expect("an upstream");
    assert!(
        servers.iter().any(|server| server.address.to_string() == upstream),
        "{line}"
    );
    assert!(line["seconds"].is_number(), "{line}");
}

#[test]
fn the_gateway_s_own_answers_are_json() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers[..1], &[]);
    let health = get(gateway.address, "/healthz");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")));
    for path in ["/", "/other/v1/models/digits", "/digitsx", "/digits/../healthz/x"] {
        let response = get(gateway.address, path);
        assert_eq!(response.header("content-type"), Some("application/json"), "{path}");
        assert!(response.header("x-request-id").is_some(), "{path}");
        assert!(response.header("server").is_none_or(|server| server == "nginx"));
        assert_eq!(
            response.error(404),
            "there is nothing at this path: this gateway serves /digits/"
        );
    }
    // What a replica says goes through as it is.
    let theirs = get(gateway.address, "/digits/nothing");
    assert!(theirs.error(404).contains("`GET /nothing`"), "{}", theirs.text());
    assert_eq!(get(gateway.address, "/digits/").json()["model"], "digits");
    let moved = get(gateway.address, "/digits");
    assert_eq!((moved.status, moved.header("location")), (301, Some("/digits/")));
    // As large as the server takes, and a byte more.
    let size = 16 << 20;
    let mut connection = Connection::open(gateway.address).expect("connected");
    let response = connection
        .request("POST", PREDICT, "", &vec![b' '; size])
        .expect("answered");
    assert!(
        response.status == 400 && response.json()["error"].is_string(),
        "{}",
        response.text()
    );
    let mut connection = Connection::open(gateway.address).expect("connected");
    connection.send(&head("POST", PREDICT, "", size + 1)).expect("sent");
    let refused = connection.receive().expect("answered");
    assert!(refused.error(413).contains("16777216 bytes"), "{}", refused.text());

    let nobody = free().to_string();
    gateway.run(&["up", "--upstream", &nobody]).success();
    until("no replica", || get(gateway.address, "/digits/").status == 502);
    assert_eq!(
        get(gateway.address, "/digits/").error(502),
        "no replica of digits answers"
    );
}

#[test]
fn a_reload_loses_no_request() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers[..2], &[]);
    let pid = gateway.pid();
    assert_eq!(gateway.up(&servers[..2], &[])["change"], "unchanged");
    let load = Load::new(gateway.address);
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for keep in [true, false, true, false] {
            let load = &load;
            scope.spawn(move || load.client(keep));
        }
        for (number, balance) in ["least_conn", "round_robin", "least_conn", "round_robin"]
            .iter()
            .enumerate()
        {
            load.goes_on(100);
            let report = gateway.up(&servers[number % 2..], &["--balance", balance]);
            assert_eq!(report["change"], "reloaded");
        }
        load.goes_on(100);
    });
    assert_eq!(gateway.pid(), pid, "it is the same nginx");
    assert!(answered(&servers[2]) > 0, "the new upstream is used");

    // To another port, and away from the old one.
    let before = gateway.address;
    let after = free();
    let report = gateway.up(&servers, &["--listen", &after.to_string()]);
    assert_eq!(report["change"], "reloaded");
    assert_eq!(post(after, PREDICT, &body()).status, 200);
    until("the old port is closed", || Connection::open(before).is_err());
}

#[test]
fn what_nginx_refuses_changes_nothing() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway
        .run(&["up", "--upstream", "no-such-host.invalid:5000"])
        .code(1)
        .says(&["error: nginx refuses the configuration: host not found in upstream \"no-such-host.invalid:5000\""]);
    assert!(Connection::open(gateway.address).is_err(), "nothing was started");
    gateway.up(&servers, &[]);
    gateway.run(&["up", "--upstream", "no-such-host.invalid:5000"]).code(1);
    assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);

    // A port in use: for one that runs, and for a first one.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("an address").to_string();
    let says = format!("cannot listen on `{taken}`: the port is in use");
    gateway
        .run(&["up", "--listen", &taken])
        .code(1)
        .says(&[&says, "hint: choose another one with `--listen`"]);
    assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);
    gateway.run(&["down"]).success();
    gateway.run(&["up", "--listen", &taken]).code(1).says(&[&says]);
    gateway.run(&["down"]).code(1).says(&["no gateway runs"]);
}

#[test]
fn down_finishes_what_is_in_hand_and_leaves_no_process() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    gateway
        .run(&["down"])
        .code(1)
        .says(&["no gateway runs", "hint: `emberline gateway up` starts one"]);
    let bundle = fixture::slow_bundle(gateway.path());
    let server = start(&bundle, &[]);
    gateway.up(std::slice::from_ref(&server), &[]);
    let master = gateway.pid();
    let group: Vec<i32> = children(master);
    assert_eq!(group.len(), 2, "two workers");
    let instances: Vec<Value> = (0..100).map(|seed| json!(fixture::image(seed))).collect();
    let mut slow = Connection::open(gateway.address).expect("connected");
    let request = json!({"instances": instances}).to_string();
    slow.send(&head("POST", "/digits/v1/models/slow:predict", "", request.len()))
        .expect("sent");
    slow.send(request.as_bytes()).expect("sent");
    until("it is at work", || {
        get(server.address, "/metrics")
            .text()
            .contains("emberline_requests_in_flight 1")
    });
    let report = gateway.run(&["down"]).success().json();
    assert_eq!(report["pid"], master.as_raw_nonzero().get());
    let response = slow.receive().expect("answered");
    assert_eq!(response.json()["predictions"].as_array().map(Vec::len), Some(100));
    for pid in group.into_iter().chain([master.as_raw_nonzero().get()]) {
        assert!(!runs(pid), "process {pid} is left");
    }
    assert!(Connection::open(gateway.address).is_err());
    gateway.run(&["down"]).code(1);
    // One that was killed leaves its file, which is nobody's.
    gateway.up(std::slice::from_ref(&server), &[]);
    let workers = children(gateway.pid());
    kill_process(gateway.pid(), Signal::KILL).expect("killed");
    for worker in workers {
        kill_process(Pid::from_raw(worker).expect("a process"), Signal::KILL).expect("killed");
    }
    until("it is dead", || Connection::open(gateway.address).is_err());
    assert!(gateway.state().join("nginx.pid").exists());
    gateway.run(&["down"]).code(1).says(&["no gateway runs"]);
    assert_eq!(gateway.up(std::slice::from_ref(&server), &[])["change"], "started");
}

#[test]
fn without_nginx_it_says_where_to_get_it() {
    let gateway = Gateway::new();
    let empty = gateway.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    ran(gateway.command(&["up"]).env("PATH", &empty)).code(1).says(&[
        "error: there is no `nginx` on the path",
        "hint: `apt-get install nginx`",
    ]);
}

fn children(pid: Pid) -> Vec<i32> {
    let pid = pid.as_raw_nonzero();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    text.split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect()
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

// ---- the guide ----

#[test]
fn every_command_of_the_guide_works() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let project = gateway.path();
    let service = free();
    let config = format!(
        "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{port: {}}}\ngateway: {{listen: '{}'}}\n",
        service.port(),
        gateway.address
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(project.join("emberline.yaml"), config).expect("a project");
    fs::copy(root.join("examples/digits/request.json"), project.join("request.json")).expect("a request");
    fixture::digits_bundle(project);
    let guide = fs::read_to_string(root.join("docs/guide/gateway.md")).expect("the guide");
    let commands: Vec<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("sudo "))
        .map(|line| line.replace("localhost:8080", &gateway.address.to_string()))
        .collect();
    assert!(commands.len() > 8, "{commands:?}");
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let ran = ran(fixture::process::clean("bash")
        .args(["-euxo", "pipefail", "-c", &commands.join("\n")])
        .current_dir(project)
        .env("PATH", path)
        .env("EMBERLINE_ALLOW_UNGATED", "1"));
    tool::run(project, &["delete", "--yes"]);
    let ran = ran.success();
    assert!(ran.stdout.contains("{\"predictions\":[["), "{}", ran.stdout);
    assert!(ran.stdout.contains("\"upstream\":"), "{}", ran.stdout);
    assert!(Connection::open(gateway.address).is_err() && Connection::open(service).is_err());
}

// ---- load ----

/// Clients that send one request after another until they are told to stop; every one must be answered.
struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
        }
    }

    fn client(&self, keep: bool) {
        let body = body().to_string();
        let headers = if keep { "" } else { "connection: close\r\n" };
        let send = |connection: &mut Connection| connection.request("POST", PREDICT, headers, body.as_bytes());
        let mut idle: Option<Connection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            // An idle connection that was closed meanwhile took no request: every client opens another one then.
            let reused: Option<(Connection, Response)> =
                idle.take().and_then(|mut connection| match send(&mut connection) {
                    Ok(response) => Some((connection, response)),
                    Err(error) if closed(&error) => None,
                    Err(error) => panic!("a request was lost: {error:?}"),
                });
            let (connection, response) = reused.unwrap_or_else(|| {
                let mut connection = Connection::open(self.address).expect("connected");
                let response = send(&mut connection).expect("answered");
                (connection, response)
            });
            assert_eq!(response.status, 200, "{}", response.text());
            self.answered.fetch_add(1, Ordering::Relaxed);
            idle = (keep && !response.closes()).then_some(connection);
        }
    }

    /// Waits until so many more requests were answered.
    fn goes_on(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        until("the load goes on", || self.answered.load(Ordering::Relaxed) >= target);
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Stops the clients when it is dropped, so that a failed assertion does so too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
