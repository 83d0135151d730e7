//! A project whose image nobody else has, the engine that is asked about it, and a registry.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use emberline::bundle::{Bundle, Evaluation, Verdict};
use emberline::project::GateConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture;
use crate::fixture::http::get;
use crate::fixture::process::until;
use crate::tool::{Ran, emberline, found, ran, skipped};

/// Whether there is an engine to test with.
#[track_caller]
pub fn engine() -> bool {
    if !found("docker", "apt-get install docker.io") {
        return false;
    }
    let answers = docker(&["version"]).code == Some(0);
    if !answers {
        skipped::for_want_of("a container engine that answers", "sudo systemctl start docker");
    }
    answers
}

pub fn docker(arguments: &[&str]) -> Ran {
    ran(Command::new("docker").args(arguments))
}

/// What `docker inspect` shows of an image or a container.
pub fn inspect(name: &str) -> Value {
    docker(&["inspect", name]).success().json()[0].take()
}

/// A project with one bundle, whose gate has passed, and a runtime that is like no other, so that the engine shares no
/// layer, and no step of a build, between two tests.
pub struct Project {
    folder: TempDir,
    pub bundle: Bundle,
    pub repository: String,
}

impl Project {
    pub fn new(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().expect("a folder");
        let config = "name: digits\ndata: {source: synthetic-digits}\n";
        fs::write(folder.path().join("emberline.yaml"), config).expect("a project");
        let project = Self {
            bundle: passed_bundle(folder.path()),
            repository: format!(
                "emberline-{test}-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
            folder,
        };
        project.change_runtime();
        project
    }

    /// Gives it another runtime, that does the same.
    pub fn change_runtime(&self) {
        let mut bytes = runtime().to_vec();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
        bytes.extend(format!("{} {now:?}", self.repository).into_bytes());
        fs::write(self.path().join("runtime"), bytes).expect("a runtime");
    }

    /// Gives it another bundle, which is then the newest.
    pub fn change_model(&mut self) {
        self.bundle = passed_bundle(self.path());
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.bundle.version())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = emberline(self.path(), &["package"]);
        command
            .args(arguments)
            .env("EMBERLINE_RUNTIME", self.path().join("runtime"))
            .env("EMBERLINE_REPOSITORY", &self.repository);
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    pub fn package(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    pub fn package_json(&self, arguments: &[&str]) -> Value {
        self.package(&[&["-o", "json"], arguments].concat()).success().json()
    }

    /// Removes what the engine has of this project, and asserts that nothing is left there.
    pub fn finish(self) {
        let images = self.images();
        let steps: Vec<String> = images
            .iter()
            .flat_map(|image| ids(&docker(&["history", "-q", "--no-trunc", image])))
            .filter(|id| id.starts_with("sha256:"))
            .collect();
        self.remove();
        assert_eq!(self.images(), [""; 0], "an image is left");
        for step in steps {
            assert_ne!(docker(&["image", "inspect", &step]).code, Some(0), "{step} is left");
        }
    }

    fn images(&self) -> Vec<String> {
        let all = docker(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]).stdout;
        let named = all.lines().filter(|line| line.contains(&self.repository));
        let named: Vec<String> = named
            .map(|line| line[..line.find(' ').unwrap_or(0)].to_owned())
            .collect();
        // By the bundle as well: an image that has lost its name is found by nothing else.
        let label = format!("label=emberline.bundle.digest={}", self.bundle.digest());
        let labelled = docker(&["images", "-q", "--no-trunc", "--filter", &label]);
        let mut images = [named, ids(&labelled)].concat();
        images.sort();
        images.dedup();
        images
    }

    fn remove(&self) {
        let images = self.images();
        if !images.is_empty() {
            let mut arguments = vec!["rmi", "--force"];
            arguments.extend(images.iter().map(String::as_str));
            docker(&arguments);
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if Command::new("docker").arg("--version").output().is_ok() {
            self.remove();
        }
    }
}

fn ids(ran: &Ran) -> Vec<String> {
    ran.stdout.split_whitespace().map(str::to_owned).collect()
}

fn passed_bundle(project: &Path) -> Bundle {
    let bundle = Bundle::open(&fixture::digits_bundle(project)).expect("a bundle");
    let report = json!({ "accuracy": 0.97, "gate": { "thresholds": GateConfig::default() } });
    Evaluation::new(&bundle, Verdict::Pass, report)
        .write(&bundle)
        .expect("an evaluation");
    bundle
}

/// The static runtime: that of `EMBERLINE_RUNTIME`, or what `emberline package` finds or builds.
fn runtime() -> &'static [u8] {
    static RUNTIME: OnceLock<Vec<u8>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        if let Some(path) = std::env::var_os("EMBERLINE_RUNTIME") {
            return fs::read(path).expect("the runtime of EMBERLINE_RUNTIME");
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(
            folder.path().join("emberline.yaml"),
            "name: digits\ndata: {source: synthetic-digits}\n",
        )
        .expect("a project");
        passed_bundle(folder.path());
        let mut command = emberline(folder.path(), &["package", "--builder", "oci", "-o", "json"]);
        // For cargo, which may have to build it.
        for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let report = ran(&mut command).success().json();
        let digest = report["layers"][0]["digest"].as_str().expect("a digest");
        let layout = folder.path().join(report["path"].as_str().expect("a path"));
        let layer = fs::read(layout.join("blobs").join(digest.replace(':', "/"))).expect("a layer");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
        let mut bytes = Vec::new();
        let mut entries = archive.entries().expect("an archive");
        let mut server = entries.next().expect("a file").expect("a file");
        server.read_to_end(&mut bytes).expect("the runtime");
        bytes
    })
}

/// A container, removed at the end of the test, however it ends.
pub struct Container(pub String);

impl Container {
    /// Runs an image as a service of a careful host would run it, on a free port.
    pub fn run(image: &str) -> Self {
        let run = "run --detach --read-only --cap-drop ALL --security-opt no-new-privileges --publish 127.0.0.1::5000";
        let mut arguments: Vec<&str> = run.split(' ').collect();
        arguments.push(image);
        Self(docker(&arguments).success().stdout.trim().to_owned())
    }

    pub fn address(&self) -> SocketAddr {
        let ports = docker(&["port", &self.0, "5000/tcp"]).success().stdout;
        ports.lines().next().expect("a port").parse().expect("an address")
    }

    /// Waits until the engine's own health check says that it is well.
    pub fn healthy(&self) {
        until("the container is healthy", || {
            inspect(&self.0)["State"]["Health"]["Status"] == "healthy"
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

/// A registry of this test on a free port.
pub struct Registry {
    process: Child,
    _folder: TempDir,
    pub host: String,
}

/// bcrypt of `right`.
const PASSWORD: &str = "reader:$2b$04$GvxeIdvsWJlQzNrbsTpvu.jwwaLDvf35UoHWJHX3S2H/uVixqwVOy\n";

impl Registry {
    /// One that takes anything from anyone; none, which is then said, where there is no registry to start.
    #[track_caller]
    pub fn open() -> Option<Self> {
        found("docker-registry", "apt-get install docker-registry").then(|| Self::start(""))
    }

    /// One that wants the password `right` of the user `reader`.
    #[track_caller]
    pub fn with_password() -> Option<Self> {
        let users = "auth: {htpasswd: {realm: test, path: users}}\n";
        found("docker-registry", "apt-get install docker-registry").then(|| Self::start(users))
    }

    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = nobody();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n\
             http: {{addr: '{address}'}}\n{more}"
        );
        fs::write(folder.path().join("config.yml"), config).expect("a configuration");
        fs::write(folder.path().join("users"), PASSWORD).expect("users");
        let process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry starts");
        let mut registry = Self {
            process,
            _folder: folder,
            host: address.to_string(),
        };
        // Its log would fill the pipe, and end it, if nobody read it.
        let log = BufReader::new(registry.process.stderr.take().expect("stderr"));
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        until("the registry answers", || std::net::TcpStream::connect(address).is_ok());
        assert!([200, 401].contains(&get(address, "/v2/").status));
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], fixture::port::free()))
}
