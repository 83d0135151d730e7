//! The server: a bundle over HTTP.
//!
//! It serves one model behind a bounded queue. The main thread accepts connections and hears when to go; the event loops
//! (`event_loop`), one for each core, serve them. Each protocol is a file (`plain`, `v1`, `v2`) that turns its requests
//! into inputs for `worker` and the answers back; one that needs a port of its own is brought by who starts the server
//! ([`second_port`]). It knows nothing of clap, of projects and of deployments: how it is told
//! to run is [`Settings`], and what it has to say to a person goes through the caller's `log`.

mod access_log;
mod batcher;
pub mod cache;
mod closing;
mod connection;
mod datatype;
mod doors;
mod drain;
mod drift;
mod event_loop;
mod explain;
mod exposition;
mod front;
pub mod health;
mod image;
mod index;
mod inherit;
mod json_tensor;
pub mod keys;
mod listener;
pub mod metrics;
mod openapi;
mod payload;
mod placement;
mod places;
mod plain;
mod playground;
mod refusal;
mod reload;
mod request_id;
mod router;
pub mod second_port;
mod service;
pub mod settings;
mod shortage;
pub mod signature;
pub mod tensor;
mod timed;
mod tls;
mod v1;
mod v2;
mod worker;

pub use settings::{Request, Settings};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use doors::Doors;
use drain::Stop;
use event_loop::Loops;
use front::Front;
use inherit::Control;
use second_port::SecondPort;
use service::Service;
use shortage::Shortage;

/// Serves a bundle until it is told to go. `second` is what is spoken on the second port, where one is asked for. `log`
/// gets a line for each port when the server is ready (`listening on http://127.0.0.1:5000`, the last of them), when it is
/// told to go, and when it has gone.
///
/// # Errors
///
/// Why the bundle cannot be served, or the address not be listened on.
pub fn run(
    bundle: &Path,
    settings: &Settings,
    second: Option<&'static dyn SecondPort>,
    log: &dyn Fn(&str),
) -> Result<()> {
    settings.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let outcome = runtime.block_on(live(bundle, settings, second, log));
    // A client that did not finish in time is not waited for again.
    runtime.shutdown_background();
    outcome
}

async fn live(
    bundle: &Path,
    settings: &Settings,
    second: Option<&'static dyn SecondPort>,
    log: &dyn Fn(&str),
) -> Result<()> {
    let stop = Stop::watch()?;
    shortage::raise_limit();
    if !settings.inherit {
        let doors = Doors::bind(settings, second).await?;
        let mut control = None;
        return serve(bundle, settings, doors, &mut control, stop, log).await;
    }
    let (listener, control) = inherit::take()?;
    let mut control = Some(control);
    let outcome = serve(bundle, settings, Doors::shared(listener), &mut control, stop, log).await;
    if let (Err(error), Some(control)) = (&outcome, control) {
        control.failed(error).await;
    }
    outcome
}

/// Serves, and meanwhile has files read again that have changed.
async fn serve(
    bundle: &Path,
    settings: &Settings,
    doors: Doors,
    control: &mut Option<Control>,
    stop: Stop,
    log: &dyn Fn(&str),
) -> Result<()> {
    let front = Arc::new(Front::open(settings)?);
    let outcome = tokio::select! {
        outcome = serve_behind(&front, bundle, settings, doors, control, stop, log) => outcome,
        never = front.watch(log) => match never {},
    };
    if let Some(line) = front.end() {
        log(&line);
    }
    outcome
}

/// From the bundle to the end. `control` is taken when the server is ready, before which no connection is let in: the
/// kernel holds them, or gives them to the others on a shared socket.
async fn serve_behind(
    front: &Arc<Front>,
    bundle: &Path,
    settings: &Settings,
    doors: Doors,
    control: &mut Option<Control>,
    mut stop: Stop,
    log: &dyn Fn(&str),
) -> Result<()> {
    let (address, second) = (doors.address()?, doors.second()?);
    if let Some(warning) = front.warning(address) {
        log(&format!("warning: {warning}"));
    }
    let (service, loops) = tokio::select! {
        started = start(bundle.to_owned(), settings.clone(), Arc::clone(front)) => started?,
        _ = stop.told() => return Ok(()),
    };
    if let Some(control) = control.take() {
        stop.watch_supervisor(control.ready(Arc::clone(&service)).await);
    }
    if let Some((address, name)) = second {
        log(&format!("{name} on {}://{address}", front.scheme()));
    }
    log(&format!("listening on {}://{address}", front.scheme()));
    let mut shortage = Shortage::default();
    let reason = loop {
        tokio::select! {
            accepted = doors.accept() => match accepted {
                Ok(stream) => loops.serve(stream),
                Err(error) => shortage.cope(&error, &loops, log).await,
            },
            reason = stop.told() => break reason,
        }
    };
    log(&format!("{reason}: finishing what is in flight"));
    match drain::drain(doors, &loops, &service, settings, stop, log).await {
        0 => log("all connections are closed"),
        1 => log("1 connection was open still when the time was over"),
        open => log(&format!("{open} connections were open still when the time was over")),
    }
    Ok(())
}

/// Loads the model away from the thread that hears when to go, and starts the event loops.
async fn start(bundle: PathBuf, settings: Settings, front: Arc<Front>) -> Result<(Arc<Service>, Loops)> {
    let loading = tokio::task::spawn_blocking(move || {
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let (service, workers) = Service::start(&bundle, &settings, threads)?;
        Ok((service, Loops::start(workers, &front)?))
    });
    loading.await.context("loading the model ended")?
}
