//! The commands of docs/guide/watching.md about Prometheus and Grafana, as they stand there, in a real shell.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::files::project;
use crate::fixture;
use crate::fixture::process::{clean, start};
use crate::prometheus::prometheus;
use crate::tool::found;

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    if !(prometheus() && found("jq", "apt-get install jq") && found("curl", "apt-get install curl")) {
        return;
    }
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/watching.md");
    let guide = fs::read_to_string(guide).expect("the guide");
    let section = guide
        .split("\n## ")
        .find(|section| section.starts_with("Prometheus and Grafana\n"));
    let section = section.expect("the part about Prometheus");
    let folder = project("");
    let server = start(&fixture::digits_bundle(folder.path()), &[]);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.expect("a free port").port();
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    let script: Vec<String> = std::iter::once("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT".to_owned())
        .chain(commands.map(|command| command.replace("localhost:9090", &format!("localhost:{port}"))))
        .collect();
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = clean("bash")
        .args(["-euxo", "pipefail", "-c", &script.join("\n")])
        .current_dir(folder.path())
        .env("PATH", path)
        // Where the server of this test is, and nobody's port 5000.
        .env("EMBERLINE_SERVER", server.address.to_string())
        .output()
        .expect("bash");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for says in ["SUCCESS", "\"EmberlineUnavailable\"", "\"emberline\"\n"] {
        assert!(stdout.contains(says), "no {says} in\n{stdout}");
    }
}
