//! `emberline serve`: the server of the image, in the foreground of this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::error::Failure;
use crate::bundle::Store;
use crate::second_port;
use crate::serve::cache::Size;
use crate::serve::settings::seconds;
use crate::serve::{self, Settings};

/// Serve a bundle over HTTP on this machine.
///
/// Serves until it gets SIGTERM or Ctrl-C, then finishes what is in flight and ends with code 0. The image runs the
/// same server as `emberline-server`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline serve digits --port 8080")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    project: PathBuf,
    /// Version or directory of the bundle; the newest of the project by default
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    bundle: Option<String>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", env = "EMBERLINE_HOST")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 5000, env = "EMBERLINE_PORT")]
    port: u16,
    /// Speak gRPC as well, on this port; 0 takes a free one
    #[arg(long, value_name = "PORT", env = "EMBERLINE_GRPC_PORT")]
    grpc_port: Option<u16>,
    /// Listen beyond this machine, though without --keys anyone who reaches the port is answered
    #[arg(long, env = "EMBERLINE_ALLOW_PUBLIC")]
    allow_public: bool,
    /// Let in who has a key of this file, which `emberline keys add` writes; changes need no restart
    #[arg(long, value_name = "FILE", env = "EMBERLINE_KEYS")]
    keys: Option<PathBuf>,
    /// Speak TLS with the certificate in this PEM file, its own first; changes need no restart
    #[arg(long, value_name = "FILE", env = "EMBERLINE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in a PEM file
    #[arg(long, value_name = "FILE", env = "EMBERLINE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Write a line of JSON for each request on stdout, or on stderr with --inherit
    #[arg(long, env = "EMBERLINE_ACCESS_LOG")]
    access_log: bool,
    /// Largest body of a request; a larger one is answered with 413
    #[arg(long, value_name = "BYTES", default_value_t = 16_777_216, env = "EMBERLINE_MAX_BODY")]
    max_body: usize,
    /// Requests that wait for the model before more are answered with 429
    #[arg(long, value_name = "REQUESTS", default_value_t = 256, env = "EMBERLINE_QUEUE")]
    queue: usize,
    /// Inputs that go through the model at once when requests have gathered
    #[arg(long, value_name = "INPUTS", default_value_t = 64, env = "EMBERLINE_MAX_BATCH")]
    max_batch: usize,
    /// Keep so many answers to give them again: `lru:10000` drops the longest unused, `lfu:10000` the least often asked for
    #[arg(long, value_name = "POLICY:ENTRIES", env = "EMBERLINE_CACHE")]
    cache: Option<Size>,
    /// Window that drift is measured over; it is longer while it holds too little to say anything
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds, env = "EMBERLINE_DRIFT_WINDOW")]
    drift_window: Duration,
    /// Threads that serve connections; 0 takes one for each core
    #[arg(long, value_name = "COUNT", default_value_t = 0, env = "EMBERLINE_THREADS")]
    threads: usize,
    /// After SIGTERM go on accepting for so long, with readiness 503, while load balancers look away; up to 10 s more while
    /// they do not
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds, env = "EMBERLINE_DRAIN")]
    drain: Duration,
    /// After SIGTERM leave idle connections open for so long, so that a request on its way is answered
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, env = "EMBERLINE_IDLE_GRACE")]
    idle_grace: Duration,
    /// After SIGTERM let requests in flight take up to so long
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds, env = "EMBERLINE_GRACE")]
    grace: Duration,
    /// For supervisors: accept from the listening socket on stdin, and speak the control protocol on stdout
    #[arg(long, env = "EMBERLINE_INHERIT")]
    inherit: bool,
}

/// Serves until told to go. There is no report: what there is to say is said while it runs.
///
/// # Errors
///
/// Why the bundle cannot be served, or the address not be listened on.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let store = Store::of_project(&args.project);
    let path = match &args.bundle {
        // The server opens it, so that a supervisor hears of what is wrong with it.
        Some(path) if args.inherit || Path::new(&path).is_dir() => PathBuf::from(path),
        Some(reference) => store.open(reference)?.path().to_owned(),
        None => store.latest()?.path().to_owned(),
    };
    let settings = Settings {
        host: args.host.clone(),
        port: args.port,
        grpc_port: args.grpc_port,
        allow_public: args.allow_public,
        keys: args.keys.clone(),
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        access_log: args.access_log,
        inherit: args.inherit,
        drain: args.drain,
        idle_grace: args.idle_grace,
        grace: args.grace,
        max_body: args.max_body,
        queue: args.queue,
        cache: args.cache,
        drift_window: args.drift_window,
        threads: args.threads,
        max_batch: args.max_batch,
    };
    // What clap lets through, and the server does not.
    settings.check().map_err(|error| {
        let text = error.to_string();
        error.context(Failure::Usage(text))
    })?;
    serve::run(&path, &settings, second_port::GRPC, &|line| context.output.note(line))
}

#[cfg(test)]
mod tests {
    use crate::serve::settings::FLAGS;

    #[test]
    fn the_flags_are_those_of_the_server() {
        let tree = super::super::command();
        let serve = tree.find_subcommand("serve").expect("serve");
        for flag in &FLAGS {
            let argument = serve
                .get_arguments()
                .find(|argument| argument.get_long() == Some(flag.name))
                .unwrap_or_else(|| panic!("--{}", flag.name));
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(variable, Some(flag.variable()));
            let help = argument.get_help().map(ToString::to_string);
            assert_eq!(help.as_deref(), Some(flag.help), "--{}", flag.name);
            if !flag.default.is_empty() {
                assert_eq!(argument.get_default_values(), [flag.default], "--{}", flag.name);
            }
        }
        let known = |name: &str| name == "bundle" || FLAGS.iter().any(|flag| flag.name == name);
        let others: Vec<&str> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(others.iter().all(|name| known(name)), "{others:?}");
    }
}
