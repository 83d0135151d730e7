//! A command of the tool in the background, followed by the events that `--progress json` tells, and ended from outside.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A command that runs.
pub struct Background {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Background {
    /// Starts a command that tells its progress as JSON.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr"));
        Self { child, stderr }
    }

    /// Waits until an event of this kind is told, and gives it.
    pub fn tells(&mut self, kind: &str) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stderr.read_line(&mut line).expect("a line");
            assert_ne!(read, 0, "it ended before `{kind}`");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Sends a signal, and waits for the end, as [`Background::end`] does.
    pub fn end_with(self, signal: Signal) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
        self.end()
    }

    /// Waits for the end: the exit code, none when a signal was the end, and what was said from now on.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("stderr");
        (self.child.wait().expect("its end").code(), said)
    }
}

/// What a test leaves behind when it fails may be endless.
impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
