//! Where requests go, what is added to them, and what the gateway answers itself.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::http::{Connection, get, head, post};
use crate::fixture::process::until;
use crate::load::{Load, Stop};
use crate::setup::{Gateway, PREDICT, answered, body, free, nginx, same, three};

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
    // A request may still be in hand for a while after its answer has arrived, which on a busy machine made it 6, 6 and 18.
    let counts = counts(30);
    assert!(counts.iter().all(|count| *count >= 2), "{counts:?}");
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
