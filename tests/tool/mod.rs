//! The real binary, run and looked at. Nothing of the environment reaches it but PATH and what a test sets: a developer's
//! EMBERLINE_ variables change no result.

#![allow(dead_code)] // each test file uses its part of it

pub mod background;
pub mod certificate;
pub mod skipped;
pub mod trained;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What provides the tests with programs from npm; npm takes away what one line does not name. The last versions that run
/// on Node 18.
pub const NPM_INSTALL: &str = "npm install --no-save --prefix target/npm gitlab-ci-local@4.65.1 puppeteer-core@24.43.1";

/// What provides the tests with other people's clients.
pub const PIP_INSTALL: &str =
    "python3 -m venv target/python && target/python/bin/pip install -r tests/clients/requirements.txt";

/// How a run of the tool ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// `emberline` with these arguments, to be run in `folder`.
pub fn emberline<S: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Runs the tool in `folder`.
pub fn run<S: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: &[S]) -> Ran {
    ran(&mut emberline(folder, arguments))
}

/// Runs a command.
pub fn ran(command: &mut Command) -> Ran {
    Ran::from(command.output().expect("the binary runs"))
}

/// Runs a command with `input` on its stdin.
pub fn fed(command: &mut Command, input: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    child.stdin.take().expect("stdin").write_all(input).expect("written");
    Ran::from(child.wait_with_output().expect("its end"))
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }
}

impl Ran {
    /// Asserts that it ended with code 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts that nothing was printed on stdout, and that stderr holds each of `texts`.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        assert_eq!(self.stdout, "");
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in:\n{}", self.stderr);
        }
        self
    }

    /// The one JSON value that stdout is.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

/// Whether a program that a test needs is there. Where it is not, the test is skipped, which is said at the end of the run;
/// in CI it fails.
#[track_caller]
pub fn found(program: &str, provided_by: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if !found {
        skipped::for_want_of(program, provided_by);
    }
    found
}
