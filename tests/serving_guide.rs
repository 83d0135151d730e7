//! docs/guide/serving.md, command by command as it stands there, in a real shell.

mod fixture;

use std::fs;
use std::path::Path;

use fixture::process::clean;

#[test]
fn every_command_does_what_the_guide_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/guide/serving.md")).expect("the guide");
    let [port, grpc] = [(); 2].map(|()| fixture::port::free());
    // Lines that are indented by four spaces are commands, and nobody's ports 5000 and 5001 are ours. What is still served when a
    // command has failed ends with the shell.
    let commands = guide.lines().filter_map(|line| line.strip_prefix("    "));
    let script: Vec<String> = std::iter::once("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT".to_owned())
        .chain(commands.map(|command| {
            let command = command.replace("localhost:5000", &format!("localhost:{port}"));
            command.replace("5001", &grpc.to_string())
        }))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = clean("bash")
        .args(["-euxo", "pipefail", "-c", &script.join("\n")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("EMBERLINE_PORT", port.to_string())
        .output()
        .expect("bash");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");

    // The answers themselves, where a command could end with 0 and be wrong.
    for (what, answer) in [
        ("the picture", r#"{"predictions":[{"label":"7""#),
        ("rows", r#"{"predictions":[["#),
        ("columns", r#"{"outputs":[["#),
        ("examples", r#"{"result":[[["0","#),
        ("the signature", r#""signature_name":"#),
        ("V2's metadata", r#""platform":"emberline""#),
        ("V2's answer", r#""model_name":"digits""#),
        ("the endpoints", "POST /v1/models/digits:predict\n"),
        ("batches", r#"emberline_dispatches_total{reason="idle"}"#),
        ("the playground", "<!doctype html>"),
        ("the explanation", "\"7\"\n"),
        ("drift", "emberline_drift_window_samples"),
        ("gRPC's health", " 00 00 00 00 02 08 01\n"),
        ("the refusal of a request without a key", r#"{"error":""#),
        ("the cache", "emberline_cache_hit_ratio 0.5\n"),
        ("the log", r#""request_id":"order-7""#),
    ] {
        assert!(
            stdout.to_lowercase().contains(&answer.to_lowercase()),
            "{what}: no `{answer}` in\n{stdout}"
        );
    }
    let picture = fs::read(folder.path().join("why.png")).expect("why.png");
    assert!(picture.starts_with(b"\x89PNG"));
}
