//! Steady requests from this machine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Requests from this machine, by the probe of the runtime.
pub struct Requests {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Requests {
    /// Sends golden inputs of the bundle to an address, and waits until they are answered.
    pub fn to(bundle: &Path, address: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_emberline-server"))
            .arg(bundle)
            .arg(format!("--probe=http://{address}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        let mut requests = Self { child, lines };
        let first = requests.says();
        assert_eq!(
            (&first["answered"], &first["failed"]),
            (&json!(1), &json!(0)),
            "{first}"
        );
        requests
    }

    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// What became of them.
    pub fn end(mut self) -> Value {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("sent");
        loop {
            let told = self.says();
            if told["final"] == true {
                self.child.wait().expect("it ended");
                return told;
            }
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // It has ended, when all is well.
        let _ = self.child.kill();
    }
}
