//! A project of its own name with images in the engine, and what the engine has of it. Nothing of it is left at the end of
//! a test, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::digits_bundle;
use crate::fixture::port;
use crate::running::{Connection, version_of, wait};
use crate::tool::{Ran, emberline, found, ran, skipped};

/// Whether there is an engine to test with, and the nginx that holds the address.
#[track_caller]
pub fn engine() -> bool {
    if !(found("docker", "apt-get install docker.io") && found("nginx", "apt-get install nginx-light")) {
        return false;
    }
    let answers = Command::new("docker").arg("version").output();
    let answers = answers.is_ok_and(|output| output.status.success());
    if !answers {
        skipped::for_want_of("container engine that answers", "sudo systemctl start docker");
    }
    answers
}

/// A project, its containers and its images.
pub struct Service {
    folder: TempDir,
    pub name: String,
    pub port: u16,
}

impl Service {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("emberline-test-{}-{number}", std::process::id()))
    }

    pub fn named(name: &str) -> Self {
        let service = Self {
            folder: tempfile::tempdir().expect("a folder"),
            name: name.to_owned(),
            port: port::free(),
        };
        service.configure("");
        service
    }

    /// Writes the project file, with more keys of `deploy`.
    pub fn configure(&self, deploy: &str) {
        let Self { name, port, .. } = self;
        let text = format!(
            "name: {name}\ndata: {{source: synthetic-digits}}\ndeploy:\n  target: docker\n  port: {port}\n{deploy}"
        );
        fs::write(self.path().join("emberline.yaml"), text).expect("a project");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".emberline/docker")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        with_environment(emberline(self.path(), arguments))
    }

    /// Runs commands of a guide, for a bundle whose gate nobody has asked.
    pub fn shell(&self, commands: &str) -> Ran {
        let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut bash = Command::new("bash");
        bash.args(["-euxo", "pipefail", "-c", commands])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", path)
            .env("EMBERLINE_ALLOW_UNGATED", "1");
        ran(&mut with_environment(bash))
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Runs a command that must succeed, and gives its report.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["-o", "json"]].concat()).success().json()
    }

    /// `deploy` that must succeed.
    #[track_caller]
    pub fn deploy(&self, more: &[&str]) -> Value {
        self.ok(&[&["deploy", "--allow-ungated"], more].concat())
    }

    /// Packages the bundle at `path` and loads its image into the engine; gives the bundle's version.
    pub fn load(&self, path: &Path) -> String {
        let bundle = path.to_str().expect("a path");
        let report = self.ok(&["package", "--allow-ungated", "--output", "tar", "--bundle", bundle]);
        let tar = self.path().join(report["path"].as_str().expect("a path"));
        docker(&["load", "--quiet", "--input", tar.to_str().expect("a path")]);
        version_of(path)
    }

    /// A new bundle with its image in the engine; gives its version.
    pub fn bundle(&self) -> String {
        self.load(&digits_bundle(self.path()))
    }

    /// The reference of a version's image.
    pub fn image(&self, version: &str) -> String {
        format!("{}:{version}", self.name)
    }

    /// An image of the same bundle whose server listens where nobody asks it, and so never is ready.
    pub fn silent_image(&self, version: &str) -> String {
        let (image, silent) = (self.image(version), self.image("silent"));
        let context = self.path().join("silent");
        fs::create_dir(&context).expect("a folder");
        fs::write(
            context.join("Dockerfile"),
            format!("FROM {image}\nENV EMBERLINE_PORT=5001\n"),
        )
        .expect("written");
        docker(&["build", "--quiet", "--tag", &silent, context.to_str().expect("a path")]);
        silent
    }

    /// Ids of the containers, running or not, in the order of their names.
    pub fn containers(&self) -> Vec<String> {
        let label = format!("label=app.kubernetes.io/name={}", self.name);
        let listed = docker(&[
            "ps",
            "--all",
            "--no-trunc",
            "--filter",
            &label,
            "--format",
            "{{.Names}} {{.ID}}",
        ]);
        let mut found: Vec<&str> = listed.lines().collect();
        found.sort_unstable();
        found
            .iter()
            .filter_map(|line| line.split(' ').nth(1))
            .map(str::to_owned)
            .collect()
    }

    pub fn status(&self) -> Value {
        self.ok(&["status"])
    }

    /// Waits until the status is as `wanted`.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        wait(what, || {
            status = self.status();
            wanted(&status)
        });
        status
    }

    /// A prediction over a new connection: the version that answered.
    pub fn ask(&self) -> std::io::Result<String> {
        Connection::open(self.port)?.predict(true)
    }

    /// nginx's master process.
    pub fn nginx(&self) -> u32 {
        let text = fs::read_to_string(self.state().join("nginx/nginx.pid")).expect("a pid file");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for destination in [&[][..], &["--destination", "staging"]] {
            let _ = self.run(&[&["delete", "--yes"], destination].concat());
        }
        let left = self.containers();
        if !left.is_empty() {
            let ids: Vec<&str> = left.iter().map(String::as_str).collect();
            docker(&[&["rm", "--force"], &ids[..]].concat());
        }
        let images = docker(&["images", "--quiet", "--filter", &format!("reference={}:*", self.name)]);
        for image in images.lines() {
            // By its id, which another test that packaged the same bundle cannot have.
            let _ = Command::new("docker").args(["rmi", "--force", image]).output();
        }
        if !std::thread::panicking() {
            assert_eq!(left, Vec::<String>::new(), "containers of {} were left", self.name);
            let images = docker(&["images", "--quiet", "--filter", &format!("reference={}:*", self.name)]);
            assert_eq!(images, "", "images of {} are left", self.name);
        }
    }
}

/// What an engine and the building of a runtime need of the environment.
fn with_environment(mut command: Command) -> Command {
    for name in ["DOCKER_HOST", "EMBERLINE_RUNTIME", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// What `docker` says; it must succeed.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// What the engine knows of a container.
pub fn inspect(id: &str) -> Value {
    let found: Value = serde_json::from_str(&docker(&["inspect", id])).expect("JSON");
    found[0].clone()
}
