//! What is rendered, from which settings, and what is refused.

use std::fs;

use serde_json::json;

use crate::setup::{Gateway, free, nginx, run_nginx};
use crate::tool::{emberline, ran};

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
