//! What the server is measured against: a bare axum service, which is this program started again, and `FastAPI` with
//! onnxruntime.

use std::fs;
use std::hint::black_box;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::fixture::http::get as ask;
use crate::fixture::process::Server;

/// The argument that makes this program a peer; the length of its answer follows.
const PEER: &str = "--peer";
/// What `peer.py` needs, as it was when docs/benchmarks.md was written.
const PACKAGES: [&str; 7] = [
    "fastapi==0.165.0",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "numpy==2.4.6",
];
/// How long Python may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// The peer's own `main`, where this program was started as one: it does not come back.
pub fn serve_if_asked() {
    let mut arguments = std::env::args().skip_while(|argument| argument != PEER).skip(1);
    if let Some(length) = arguments.next() {
        let length = length.parse().expect("the length of an answer");
        serve(length).expect("the peer serves");
        std::process::exit(0);
    }
}

/// Starts the peer. Its routes are `GET /hello`, `POST /take`, which reads a body, and `POST /parse`, which parses one;
/// each answers a constant of `length` bytes.
pub fn start(length: usize) -> Server {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([PEER, &length.to_string()]);
    Server::start(command)
}

/// What a client of TF Serving sends.
#[derive(Deserialize)]
struct Request {
    instances: Vec<Vec<f32>>,
}

#[tokio::main]
async fn serve(length: usize) -> io::Result<()> {
    let constant = format!(
        "{{\"predictions\":[{:0<width$}]}}",
        "0.",
        width = length.saturating_sub(18)
    );
    let constant = Bytes::from(constant);
    let json = |body: Bytes| ([(header::CONTENT_TYPE, "application/json")], body);
    let (hello, take, parse) = (constant.clone(), constant.clone(), constant);
    let app = Router::new()
        .route("/hello", get(async move || json(hello)))
        .route(
            "/take",
            post(async move |body: Bytes| {
                black_box(body);
                json(take)
            }),
        )
        .route(
            "/parse",
            post(
                async move |body: Bytes| match serde_json::from_slice::<Request>(&body) {
                    Ok(request) => {
                        black_box(request.instances);
                        json(parse).into_response()
                    }
                    Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
                },
            ),
        );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    // What `axum::serve` does, which would give a crate of the tool another feature.
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            // A connection that breaks is the generator's to count.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[allow(clippy::print_stderr)] // where a server says that it listens
fn say(line: &str) {
    eprintln!("{line}");
}

/// Python with what `peer.py` needs, and the model as it reads it.
pub struct FastApi {
    python: PathBuf,
    model: PathBuf,
}

/// `FastAPI` under uvicorn.
pub struct Uvicorn {
    child: Child,
    pub address: SocketAddr,
}

impl FastApi {
    /// Makes the environment under cargo's folder for temporary files, where it stays for the next run, and exports the
    /// weights of a bundle.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn prepare(bundle: &Path, folder: &Path) -> Result<Self, String> {
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serving-peer");
        let python = environment.join("bin/python");
        // Written last, and naming the versions: an environment that was interrupted or is older is made anew.
        let stamp = environment.join("complete");
        let packages = PACKAGES.join("\n");
        if fs::read_to_string(&stamp).unwrap_or_default() != packages {
            let program = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
            finish(Command::new(program).args(["-m", "venv", "--clear"]).arg(&environment))?;
            finish(
                Command::new(&python)
                    .args(["-m", "pip", "install", "--quiet"])
                    .args(PACKAGES),
            )?;
            fs::write(&stamp, packages).map_err(|error| error.to_string())?;
        }
        let model = folder.join("model.onnx");
        let weights = bundle.join("model.safetensors");
        finish(Command::new(&python).arg(script()).arg(weights).arg(&model))?;
        Ok(Self { python, model })
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self, workers: usize) -> Uvicorn {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "uvicorn", "peer:app", "--loop", "uvloop", "--http", "httptools"])
            .args(["--no-access-log", "--log-level", "warning"])
            .args(["--port", &address.port().to_string(), "--workers", &workers.to_string()])
            .arg("--app-dir")
            .arg(script().parent().expect("a folder"))
            .env("MODEL", &self.model)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null());
        let server = Uvicorn {
            child: command.spawn().expect("uvicorn starts"),
            address,
        };
        let end = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() || ask(address, "/docs").status != 200 {
            assert!(Instant::now() < end, "uvicorn does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Uvicorn {
    /// The number of its first process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Uvicorn {
    fn drop(&mut self) {
        // Told to go rather than killed: it takes its workers along.
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            let _ = kill_process(process, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving/peer.py")
}

fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.output();
    let name = command.get_program().to_string_lossy();
    let output = output.map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{name}`: {}", stderr.lines().last().unwrap_or("it failed")))
}
