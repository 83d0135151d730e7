//! What is wrong with the engine, or what it says against a build.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use crate::setup::{Project, engine};
use crate::tool::{found, ran};

#[test]
fn without_an_engine_the_tool_writes_the_image_itself() {
    let project = Project::new("none");
    let nowhere = "unix:///nowhere";
    let written = ran(project.command(&[]).env("DOCKER_HOST", nowhere)).success();
    assert_eq!(written.stdout, format!("{}\n", project.reference()));
    for text in [
        "no container engine answers at `unix:///nowhere`",
        "written without it (`--builder oci`)",
        "wrote `",
    ] {
        assert!(written.stderr.contains(text), "{}", written.stderr);
    }
    ran(project.command(&["--builder", "docker"]).env("DOCKER_HOST", nowhere))
        .code(1)
        .says(&["no container engine answers at `unix:///nowhere`", "hint: DOCKER_HOST"]);
    // Nobody is told of an engine that nobody has asked for.
    let written = ran(project.command(&["--builder", "oci"]).env("DOCKER_HOST", nowhere)).success();
    assert!(!written.stderr.contains("engine"), "{}", written.stderr);
}

#[test]
fn without_the_right_to_use_the_engine_the_tool_writes_the_image_itself() {
    if !found("setpriv", "apt-get install util-linux") {
        return;
    }
    let project = Project::new("rights");
    let socket = project.path().join("engine.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).expect("no rights");
    let host = format!("unix://{}", socket.display());
    // Root has every right, so somebody else asks, who needs a tool and a project that are not root's alone.
    let tool = project.path().join("emberline");
    let built = Path::new(env!("CARGO_BIN_EXE_emberline"));
    if fs::hard_link(built, &tool).is_err() {
        fs::copy(built, &tool).expect("the tool");
    }
    for folder in [project.path(), &project.path().join(".emberline")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("rights");
    }
    let package = |arguments: &[&str]| {
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .arg(&tool);
            command
        } else {
            Command::new(&tool)
        };
        command
            .arg("package")
            .arg(project.path())
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("DOCKER_HOST", &host)
            .env("EMBERLINE_RUNTIME", project.path().join("runtime"));
        ran(&mut command)
    };
    let written = package(&[]).success();
    for text in [
        "you may not use the container engine at `unix://",
        "written without it (`--builder oci`)",
        "wrote `",
    ] {
        assert!(written.stderr.contains(text), "{}", written.stderr);
    }
    package(&["--builder", "docker"]).code(1).says(&[
        "you may not use the container engine",
        "hint: add yourself to the group `docker`",
    ]);
}

/// An engine that agrees to everything until the last step of a build: no real one can be made to fail there, since all
/// that a step reads is in the context that the tool sends.
fn failing_engine(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

fn answer(stream: UnixStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    let (status, body) = if request.contains("/version") {
        (
            "200 OK",
            r#"{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}"#.to_owned(),
        )
    } else if request.contains("/build?") {
        let lines = [
            r#"{"stream": "Step 1/11 : FROM scratch"}"#,
            r#"{"stream": "\n ---> \n"}"#,
            r#"{"stream": "Step 2/11 : COPY [\"runtime/\", \"/\"]\n"}"#,
            r#"{"errorDetail": {"message": "write /emberline-server: no space left on device"}, "error": "write"}"#,
        ];
        ("200 OK", lines.join("\r\n"))
    } else {
        ("404 Not Found", r#"{"message": "no such image"}"#.to_owned())
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

#[test]
fn a_failing_step_is_told_with_its_last_lines() {
    let project = Project::new("fails");
    let socket = project.path().join("engine.sock");
    failing_engine(&socket);
    let host = format!("unix://{}", socket.display());
    ran(project.command(&[]).env("DOCKER_HOST", host)).code(1).says(&[
        "error: a step of the image's build failed, `Step 2/11 : COPY [\"runtime/\", \"/\"]`: write /emberline-server: no \
         space left on device\n",
        "Step 1/11 : FROM scratch\n",
        "hint: `--builder oci` writes the image without an engine",
    ]);
}

#[test]
fn what_the_engine_refuses_is_told() {
    if !engine() {
        return;
    }
    let project = Project::new("refused");
    // A name that the tool takes, and an engine does not.
    let long = "a".repeat(300);
    project.package(&["--repository", &long]).code(1).says(&[
        "the container engine refuses to build the image",
        "255",
        "hint: `--builder oci`",
    ]);
    project.finish();
}
