//! What a server takes: the runtime of the image serves the bundle on this machine's loopback, answers golden inputs for a
//! moment, and one request as large as it takes; the kernel says what that was in memory and processor time. What is made of
//! the numbers is decided elsewhere.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Runtime;
use crate::bundle::{Bundle, Usage};
use crate::project::Architecture;

/// How long the server may take until it is ready.
const START: Duration = Duration::from_secs(30);
/// How long golden inputs are sent.
const STEADY: Duration = Duration::from_millis(400);
/// How long one answer is waited for.
const ANSWER: Duration = Duration::from_secs(20);
/// Golden inputs that take turns.
const INPUTS: usize = 16;
/// Requests before those that count: buffers and caches have their size then.
const WARM_UP: usize = 50;

impl Runtime {
    /// Measures what it takes with `bundle`, when requests of up to `max_body` bytes may come.
    ///
    /// # Errors
    ///
    /// When it cannot be started or asked here.
    pub fn measure(&self, bundle: &Bundle, max_body: usize) -> Result<Usage> {
        ensure!(
            self.runs_here(),
            "the runtime is for {} on Linux, and this machine is not",
            self.architecture().name()
        );
        let golden = bundle.golden()?;
        let manifest = bundle.manifest();
        let inputs = golden.cases.iter().take(INPUTS).map(|case| case.told(&manifest.inputs));
        let inputs: Vec<String> = inputs.map(|input| input.to_string()).collect();
        ensure!(!inputs.is_empty(), "the bundle has no golden inputs");
        let server = Server::start(self, bundle)?;
        let url = format!("{}/v1/models/{}:predict", server.address, manifest.name);
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build();
        let agent = ureq::Agent::new_with_config(agent);
        let ask = |body: &str| -> Result<()> {
            let answer = agent.post(&url).header("content-type", "application/json").send(body)?;
            answer.into_body().read_to_vec()?;
            Ok(())
        };
        let mut bodies = inputs.iter().map(|input| body(std::slice::from_ref(input))).cycle();
        for body in bodies.by_ref().take(WARM_UP) {
            ask(&body)?;
        }
        let (before, end) = (server.cpu()?, Instant::now() + STEADY);
        let mut predictions = 0_u32;
        for body in bodies {
            ask(&body)?;
            predictions += 1;
            if Instant::now() > end {
                break;
            }
        }
        let cpu = server.cpu()?.saturating_sub(before);
        let memory_bytes = server.memory()?;
        // Whatever becomes of it, as long as the server lives: it may take longer than anybody waits, or be refused.
        let _ = ask(&largest(&inputs, max_body));
        Ok(Usage {
            memory_bytes,
            memory_largest_request_bytes: server.memory()?,
            cpu_seconds_per_prediction: cpu.as_secs_f64() / f64::from(predictions),
            predictions: predictions.into(),
        })
    }

    fn runs_here(&self) -> bool {
        let here = match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::Amd64),
            "aarch64" => Some(Architecture::Arm64),
            _ => None,
        };
        cfg!(target_os = "linux") && here == Some(self.architecture())
    }
}

/// What comes before and after the inputs of a request.
const AROUND: (&str, &str) = ("{\"instances\":[", "]}");

fn body(inputs: &[String]) -> String {
    format!("{}{}{}", AROUND.0, inputs.join(","), AROUND.1)
}

/// A request with as many of the inputs, over and over, as fit into `max_body` bytes.
fn largest(inputs: &[String], max_body: usize) -> String {
    let mut left = max_body.saturating_sub(AROUND.0.len() + AROUND.1.len());
    let fitting = inputs.iter().cycle().take_while(|input| {
        let fits = input.len() < left;
        left = left.saturating_sub(input.len() + 1);
        fits
    });
    body(&fitting.cloned().collect::<Vec<_>>())
}

/// The server, which ends with its measurement, however that ends: it goes when its control channel closes.
struct Server {
    child: Child,
    address: String,
    _channel: UnixStream,
}

impl Server {
    fn start(runtime: &Runtime, bundle: &Bundle) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback")?;
        let address = format!("http://{}", listener.local_addr()?);
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_read_timeout(Some(START))?;
        // A path without a slash would be looked for elsewhere.
        let program = std::path::absolute(runtime.path())?;
        let child = Command::new(&program)
            .arg(bundle.path())
            .arg("--inherit")
            .env_clear()
            .stdin(OwnedFd::from(listener))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run `{}`", program.display()))?;
        let mut said = String::new();
        let heard = BufReader::new(&channel).read_line(&mut said);
        // From here on it ends with this value.
        let server = Self {
            child,
            address,
            _channel: channel,
        };
        heard.context("the runtime did not get ready")?;
        match said.trim_end() {
            "ready" => Ok(server),
            "" => bail!("the runtime ended before it was ready"),
            failed => bail!("the runtime {failed}"),
        }
    }

    /// Most memory that it has had resident.
    fn memory(&self) -> Result<u64> {
        let status = self.told("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kilobytes.context("the kernel does not say how much memory it has")? * 1024)
    }

    /// Processor time that its threads have had.
    fn cpu(&self) -> Result<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()))?;
        let mut nanoseconds = 0;
        for thread in threads {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let first = text.split(' ').next().and_then(|text| text.parse::<u64>().ok());
            nanoseconds += first.with_context(|| format!("`{}` is `{text}`", path.display()))?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn told(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody waits for an answer of it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_largest_request_fits_and_nothing_more_would() {
        let inputs = ["[0.5,1.0]".to_owned(), "[0.25,null]".to_owned()];
        for most in [100, 1000, 65_536] {
            let body = largest(&inputs, most);
            assert!(body.len() <= most && body.len() + 12 > most, "{} of {most}", body.len());
            let parsed: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(parsed["instances"][3].to_string(), inputs[1]);
        }
    }
}
