//! The server against what it is compared with: a bare axum service that does less, and `FastAPI` with onnxruntime.
//!
//! All of them are processes of their own, and stay up while they take turns, so that a machine that slows down slows down
//! all of them; the median of the ratios is what counts. The load generator runs on the same machine and takes its part
//! of it on both sides. The network is dense, 784-64-64-10, with random weights: a trained one computes the same.
//!
//! `cargo bench --bench serving` judges by the goals; `cargo bench --bench serving -- WORD` measures only the figures whose
//! name holds the word. `EMBERLINE_BENCH=short` takes few turns, to see that it runs at all, and fails only what is
//! grossly wrong. `EMBERLINE_RUNTIME` names the server; otherwise it is the one that cargo builds along, which is not
//! linked as the one in an image is.

mod cores;
#[path = "../../tests/fixture/mod.rs"]
mod fixture;
mod load;
mod overload;
mod peers;
mod report;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use emberline::bundle::Bundle;
use emberline::model::ModelConfig;
use emberline::predict::Predictor;

use fixture::http::{self, Connection};
use fixture::process::{Server, clean};
use load::{Outcome, Pace, Target, offer, processor_time};
use report::{Goal, Report, Spread};

// The peer is this program: it gets the allocator that the server has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 32;
const PREDICT: &str = "/v1/models/digits:predict";
/// Of what is the same on both sides, two runs differ by so much.
const NOISE: f64 = 0.03;

fn main() -> ExitCode {
    peers::serve_if_asked();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|word| name.contains(word.as_str()));
    let mut bench = Bench::start();
    for (name, figure) in FIGURES {
        if is_wanted(name) {
            figure(&mut bench);
        }
    }
    match bench.report.missed() {
        [] => ExitCode::SUCCESS,
        missed => {
            bench.report.note(&format!("missed: {}", missed.join(", ")));
            ExitCode::FAILURE
        }
    }
}

type Figure = fn(&mut Bench);

const FIGURES: [(&str, Figure); 11] = [
    ("ready", ready),
    ("memory", memory),
    ("generator", generator),
    ("json", json),
    ("raw", raw),
    ("grpc", grpc),
    ("half load", half_load),
    ("one connection", one_connection),
    ("connections", connections),
    ("overload", overload::overload),
    ("fastapi", fastapi),
];

/// What every figure needs.
struct Bench {
    report: Report,
    short: bool,
    folder: tempfile::TempDir,
    runtime: PathBuf,
    bundle: PathBuf,
    ours: Side,
    /// A bare axum service.
    peer: Server,
    body: Vec<u8>,
}

/// A server, and what it is asked.
struct Side {
    server: Server,
    target: Target,
}

/// Servers in turns, each outcome with the seconds of processor time that the server took.
type Turns = Vec<[(Outcome, f64); 2]>;

impl Bench {
    fn start() -> Self {
        let short = std::env::var("EMBERLINE_BENCH").is_ok_and(|form| form == "short");
        let report = Report::new(short);
        let built = Path::new(env!("CARGO_BIN_EXE_emberline-server"));
        let runtime = std::env::var_os("EMBERLINE_RUNTIME").map_or(built.to_owned(), PathBuf::from);
        let folder = tempfile::tempdir().expect("a folder");
        let model = ModelConfig::Mlp {
            hidden: vec![64, 64],
            dropout: 0.0,
        };
        let bundle = fixture::bundle_of(folder.path(), "digits", model);
        let pixels: Vec<f32> = (0..784)
            .map(|pixel| ((pixel * 37_137) % 255_001) as f32 / 1000.0)
            .collect();
        let body = json_body(&pixels);
        let server = serve(&runtime, &bundle, &[]);
        let answer = post(server.address, PREDICT, "application/json", &body);
        let given: Vec<f32> = serde_json::from_value(answer.json()["predictions"][0].clone()).expect("probabilities");
        assert_close(&given, &predict(&bundle, &pixels));
        report.note(&format!(
            "serving {}, {} cores, {CONNECTIONS} connections, JSON of {} bytes",
            runtime.display(),
            std::thread::available_parallelism().map_or(0, usize::from),
            body.len()
        ));
        Self {
            short,
            report,
            peer: peers::start(answer.body.len()),
            ours: Side {
                target: Target {
                    address: server.address,
                    request: request("POST", PREDICT, "application/json", &body),
                },
                server,
            },
            folder,
            runtime,
            bundle,
            body,
        }
    }

    /// So many pairs of turns, each of such a length.
    fn pairs(&self) -> (usize, Duration) {
        if self.short {
            (3, Duration::from_millis(300))
        } else {
            (15, Duration::from_millis(700))
        }
    }

    fn peer(&self, method: &str, path: &str, body: &[u8]) -> Target {
        Target {
            address: self.peer.address,
            request: request(method, path, "application/json", body),
        }
    }

    /// Two targets in turns; who begins changes.
    fn turns(&self, sides: [(&Target, u32); 2], connections: usize, pace: Pace) -> Turns {
        let (pairs, time) = self.pairs();
        let turn = |(target, process): (&Target, u32), time| {
            let before = processor_time(process);
            let outcome = offer(target, connections, pace, time).expect("the server listens");
            assert!(outcome.is_clean(), "{} answers were no 200s", outcome.sent);
            (outcome, processor_time(process) - before)
        };
        for side in sides {
            turn(side, time / 2);
        }
        (0..pairs)
            .map(|pair| {
                if pair % 2 == 0 {
                    let first = turn(sides[0], time);
                    [first, turn(sides[1], time)]
                } else {
                    let second = turn(sides[1], time);
                    [turn(sides[0], time), second]
                }
            })
            .collect()
    }

    /// The rates of the first target in parts of those of the second.
    fn compare(&mut self, name: &str, names: [&str; 2], sides: [(&Target, u32); 2], goal: f64) {
        let turns = self.turns(sides, CONNECTIONS, Pace::Closed);
        let ratios = turns.iter().map(|[ours, peer]| ours.0.rate() / peer.0.rate()).collect();
        let details = [0, 1].map(|side| format!("{} {}", names[side], summary(&turns, side)));
        self.report.figure(name, ratios, Goal::Ratio(goal), &details.join("; "));
    }
}

/// Rate, latencies and processor time of one side.
fn summary(turns: &Turns, side: usize) -> String {
    let median = |value: &dyn Fn(&(Outcome, f64)) -> f64| {
        Spread::new(turns.iter().map(|pair| value(&pair[side])).collect()).median()
    };
    let each = |seconds: f64, outcome: &Outcome| seconds * 1e6 / outcome.sent as f64;
    format!(
        "{:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} us of processor time (generator {:.1} us)",
        median(&|(outcome, _)| outcome.rate()),
        median(&|(outcome, _)| outcome.quantile(0.5) * 1e3),
        median(&|(outcome, _)| outcome.quantile(0.99) * 1e3),
        median(&|(outcome, server)| each(*server, outcome)),
        median(&|(outcome, _)| each(outcome.processor, outcome)),
    )
}

/// From `exec` to the first 200 of `/readyz`, which the server gives once it has reproduced the golden cases.
fn ready(bench: &mut Bench) {
    let count = if bench.short { 3 } else { 31 };
    let seconds = (0..count)
        .map(|_| until_ready(&bench.runtime, &bench.bundle) * 1e3)
        .collect();
    let goal = Goal::Milliseconds(10.0);
    bench.report.figure(
        "exec to ready",
        seconds,
        goal,
        "golden cases included, /readyz asked every 50 us",
    );
}

fn until_ready(runtime: &Path, bundle: &Path) -> f64 {
    let port = fixture::port::free();
    let mut command = clean(&runtime.to_string_lossy());
    command
        .arg(bundle)
        .args(["--port", &port.to_string()])
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().expect("the server starts");
    let question = b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(question)?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    while !ask().unwrap_or(false) {
        assert!(start.elapsed() < http::PATIENCE, "the server does not become ready");
        std::thread::sleep(Duration::from_micros(50));
    }
    let seconds = start.elapsed().as_secs_f64();
    // It has nothing to lose.
    child.kill().expect("killed");
    child.wait().expect("gone");
    seconds
}

/// What a server holds when it is ready, and when it has served.
fn memory(bench: &mut Bench) {
    let (_, time) = bench.pairs();
    let server = serve(&bench.runtime, &bench.bundle, &[]);
    let target = Target {
        address: server.address,
        request: bench.ours.target.request.clone(),
    };
    let resting = resident(server.process());
    offer(&target, CONNECTIONS, Pace::Closed, time * 4).expect("the server listens");
    let goal = Goal::Mebibytes(16.0);
    bench.report.figure(
        "memory when ready",
        vec![resting],
        goal,
        "VmRSS, before the first request",
    );
    let after = resident(server.process());
    bench.report.figure(
        "memory after load",
        vec![after],
        goal,
        "VmRSS, after seconds of full load",
    );
}

/// MiB that a process holds in memory.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kibibytes.expect("a size") / 1024.0
}

/// The generator must cost less than the least that a server can do, or it is the generator that is measured.
fn generator(bench: &mut Bench) {
    let hello = bench.peer("GET", "/hello", b"");
    let process = bench.peer.process();
    let turns = bench.turns([(&hello, process), (&hello, process)], CONNECTIONS, Pace::Closed);
    let ratios = turns
        .iter()
        .flatten()
        .map(|(outcome, server)| server / outcome.processor)
        .collect();
    let details = format!("hello {}", summary(&turns, 0));
    bench.report.figure(
        "generator: processor time of hello by that of the generator",
        ratios,
        Goal::Ratio(1.0),
        &details,
    );
}

fn json(bench: &mut Bench) {
    let parse = bench.peer("POST", "/parse", &bench.body);
    let ours = bench.ours.target.clone();
    let sides = [(&ours, bench.ours.server.process()), (&parse, bench.peer.process())];
    bench.compare("JSON by a handler that parses the same", ["ours", "parse"], sides, 0.85);
}

fn raw(bench: &mut Bench) {
    let pixels: Vec<u8> = (0..784).map(|pixel| ((pixel * 37) % 256) as u8).collect();
    let answer = ask(
        bench.ours.server.address,
        "/predict",
        "application/octet-stream",
        &pixels,
    );
    if answer.status != 200 {
        bench.report.miss("raw bytes by hello", &answer.text());
        return;
    }
    let given = &answer.json()["predictions"][0]["probabilities"];
    let given: Vec<f32> = (0..10)
        .map(|class| given[class.to_string()].as_f64().expect("a probability") as f32)
        .collect();
    let inputs: Vec<f32> = pixels.iter().map(|pixel| f32::from(*pixel)).collect();
    assert_close(&given, &predict(&bench.bundle, &inputs));
    let ours = Target {
        address: bench.ours.server.address,
        request: request("POST", "/predict", "application/octet-stream", &pixels),
    };
    let process = bench.ours.server.process();
    let hello = bench.peer("GET", "/hello", b"");
    let sides = [(&ours, process), (&hello, bench.peer.process())];
    bench.compare("raw bytes by hello", ["ours", "hello"], sides, 0.8);
    let take = bench.peer("POST", "/take", &pixels);
    let turns = bench.turns(
        [(&ours, process), (&take, bench.peer.process())],
        CONNECTIONS,
        Pace::Closed,
    );
    let ratios = turns.iter().map(|[ours, peer]| ours.0.rate() / peer.0.rate()).collect();
    let ratio = Spread::new(ratios).median();
    bench.report.note(&format!(
        "raw bytes by a handler that takes the same: {ratio:.3}\n    take {}",
        summary(&turns, 1)
    ));
}

/// A second port, which speaks gRPC, must cost REST nothing.
fn grpc(bench: &mut Bench) {
    let second = serve(&bench.runtime, &bench.bundle, &["--grpc-port", "0"]);
    let with = Target {
        address: second.address,
        request: bench.ours.target.request.clone(),
    };
    let without = bench.ours.target.clone();
    let sides = [(&with, second.process()), (&without, bench.ours.server.process())];
    let goal = 1.0 - NOISE;
    bench.compare("JSON with a port for gRPC by without", ["with", "without"], sides, goal);
}

/// Latency at half of what the server can do, beside that of hello at the same pace: what the machine itself adds.
fn half_load(bench: &mut Bench) {
    let ours = bench.ours.target.clone();
    let hello = bench.peer("GET", "/hello", b"");
    let (_, time) = bench.pairs();
    let peaks = (0..3).map(|_| {
        offer(&ours, CONNECTIONS, Pace::Closed, time)
            .expect("the server listens")
            .rate()
    });
    let rate = Spread::new(peaks.collect()).median() / 2.0;
    let sides = [(&ours, bench.ours.server.process()), (&hello, bench.peer.process())];
    let nap = Duration::from_micros(50);
    let turns = bench.turns(sides, CONNECTIONS, Pace::Open { rate, nap });
    let measured = turns.iter().map(|[ours, _]| ours.0.quantile(0.99) * 1e3).collect();
    let details = format!(
        "{rate:.0}/s offered; ours {}; hello {}",
        summary(&turns, 0),
        summary(&turns, 1)
    );
    bench
        .report
        .figure("p99 at half load", measured, Goal::Milliseconds(2.0), &details);
}

/// Gathering must cost nothing where there is nothing to gather. A request and its answer take half as long, or twice, where
/// the scheduler happens to have put the two ends on one core: so it is told where they are, on one core and on two.
fn one_connection(bench: &mut Bench) {
    let allowed = cores::allowed();
    let [generator, other] = cores::ends(&allowed);
    cores::keep_generator_on(generator);
    for (place, core) in [("on one core", generator), ("on two", other)] {
        if place == "on two" && core == generator {
            bench.report.note("one connection on two cores: SKIPPED, there is one");
            continue;
        }
        let servers = [&[][..], &["--max-batch", "1"]].map(|flags| {
            let mut command = cores::command_on(core, &bench.runtime);
            command.arg(&bench.bundle).args(["--port", "0"]).args(flags);
            Server::start(command)
        });
        let targets = servers.each_ref().map(|server| Target {
            address: server.address,
            request: bench.ours.target.request.clone(),
        });
        let sides = [0, 1].map(|side| (&targets[side], servers[side].process()));
        let turns = bench.turns(sides, 1, Pace::Closed);
        let latency = |side: &(Outcome, f64)| side.0.quantile(0.5);
        let ratios = turns.iter().map(|[with, without]| latency(without) / latency(with));
        bench.report.figure(
            &format!("one connection {place}: latency without batching by with"),
            ratios.collect(),
            Goal::Ratio(1.0 - NOISE),
            &format!("with {}; without {}", summary(&turns, 0), summary(&turns, 1)),
        );
    }
    cores::keep_generator_on(&allowed);
}

fn connections(bench: &mut Bench) {
    let ours = bench.ours.target.clone();
    let parse = bench.peer("POST", "/parse", &bench.body);
    for connections in [1, 8, 32, 128] {
        let sides = [(&ours, bench.ours.server.process()), (&parse, bench.peer.process())];
        let turns = bench.turns(sides, connections, Pace::Closed);
        bench.report.note(&format!(
            "{connections} connections: ours {}; parse {}",
            summary(&turns, 0),
            summary(&turns, 1)
        ));
    }
}

fn fastapi(bench: &mut Bench) {
    let fastapi = match peers::FastApi::prepare(&bench.bundle, bench.folder.path()) {
        Ok(fastapi) => fastapi,
        // Skipped on a machine that has no Python; nothing is where all is there.
        Err(reason) if std::env::var_os("CI").is_some() => {
            bench.report.miss("JSON by FastAPI and onnxruntime", &reason);
            return;
        }
        Err(reason) => {
            bench.report.note(&format!(
                "FastAPI and onnxruntime: SKIPPED for want of its packages: {reason}"
            ));
            return;
        }
    };
    let ours = bench.ours.target.clone();
    let expected = post(ours.address, PREDICT, "application/json", &bench.body).json();
    let workers: &[usize] = if bench.short { &[1] } else { &[1, 2] };
    for &workers in workers {
        let server = fastapi.start(workers);
        let answer = post(server.address, PREDICT, "application/json", &bench.body).json();
        let row = |answer: &serde_json::Value| -> Vec<f32> {
            serde_json::from_value(answer["predictions"][0].clone()).expect("probabilities")
        };
        assert_close(&row(&answer), &row(&expected));
        let target = Target {
            address: server.address,
            request: ours.request.clone(),
        };
        let sides = [(&ours, bench.ours.server.process()), (&target, server.process())];
        // The goal is about one worker, as FastAPI is run when nobody says more; that these two cores have room for a
        // second one is told beside it.
        if workers == 1 {
            bench.compare("JSON by FastAPI and onnxruntime", ["ours", "theirs"], sides, 12.0);
        } else {
            let turns = bench.turns(sides, CONNECTIONS, Pace::Closed);
            let ratios = turns.iter().map(|[ours, peer]| ours.0.rate() / peer.0.rate()).collect();
            let ratio = Spread::new(ratios).median();
            bench.report.note(&format!(
                "JSON by FastAPI and onnxruntime with {workers} of uvicorn's workers: {ratio:.3}\n    theirs {:.0}/s",
                Spread::new(turns.iter().map(|[_, peer]| peer.0.rate()).collect()).median()
            ));
        }
    }
}

/// Starts the server under test for a bundle, and waits until it is ready.
fn serve(runtime: &Path, bundle: &Path, flags: &[&str]) -> Server {
    let mut command = clean(&runtime.to_string_lossy());
    command.arg(bundle).args(["--port", "0"]).args(flags);
    Server::start(command)
}

fn predict(bundle: &Path, pixels: &[f32]) -> Vec<f32> {
    let bundle = Bundle::open(bundle).expect("a bundle");
    Predictor::load(&bundle)
        .expect("a model")
        .predict(pixels)
        .expect("an answer")
}

fn assert_close(given: &[f32], expected: &[f32]) {
    assert_eq!(given.len(), expected.len());
    let off = given.iter().zip(expected).map(|(one, other)| (one - other).abs());
    assert!(off.fold(0.0, f32::max) < 1e-4, "{given:?} instead of {expected:?}");
}

fn json_body(pixels: &[f32]) -> Vec<u8> {
    let mut text = String::from("{\"instances\":[[");
    for (index, pixel) in pixels.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(text, "{comma}{pixel:.3}").expect("written to memory");
    }
    text.push_str("]]}");
    text.into_bytes()
}

fn request(method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let kind = if body.is_empty() {
        String::new()
    } else {
        format!("content-type: {kind}\r\n")
    };
    let mut request = http::head(method, path, &kind, body.len());
    request.extend_from_slice(body);
    request
}

fn post(address: SocketAddr, path: &str, kind: &str, body: &[u8]) -> http::Response {
    let answer = ask(address, path, kind, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn ask(address: SocketAddr, path: &str, kind: &str, body: &[u8]) -> http::Response {
    let mut connection = Connection::open(address).expect("connected");
    connection.send(&request("POST", path, kind, body)).expect("sent");
    connection.receive().expect("an answer")
}
