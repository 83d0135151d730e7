//! The server: a bundle over HTTP.
//!
//! It serves one model, on one thread of its own behind a bounded queue; everything else is asynchronous and never
//! waits for it. Each protocol is a file (`plain`, `v1`, `v2`) that turns its requests into inputs for [`service`] and
//! the answers back. It knows nothing of clap, of projects and of deployments: how it is told to run is [`Settings`],
//! and what it has to say to a person goes through the caller's `log`.

mod batcher;
mod connection;
mod drain;
mod exposition;
pub mod health;
mod inherit;
mod listener;
pub mod metrics;
mod payload;
mod plain;
mod refusal;
mod router;
mod service;
pub mod settings;
mod tensor;
mod v1;
mod v2;

pub use settings::{Request, Settings};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use connection::Connections;
use drain::Stop;
use inherit::Control;
use listener::Listener;
use service::{Phase, Service};

/// Serves a bundle until it is told to go. `log` gets a line when the server is ready
/// (`listening on http://127.0.0.1:5000`), when it is told to go, and when it has gone.
///
/// # Errors
///
/// Why the bundle cannot be served, or the address not be listened on.
pub fn run(bundle: &Path, settings: &Settings, log: &dyn Fn(&str)) -> Result<()> {
    settings.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let outcome = runtime.block_on(live(bundle, settings, log));
    // A client that did not finish in time is not waited for again.
    runtime.shutdown_background();
    outcome
}

async fn live(bundle: &Path, settings: &Settings, log: &dyn Fn(&str)) -> Result<()> {
    let stop = Stop::watch()?;
    if !settings.inherit {
        let listener = Listener::bind(settings).await?;
        let mut control = None;
        return serve(bundle, settings, listener, &mut control, stop, log).await;
    }
    let (listener, control) = inherit::take()?;
    let mut control = Some(control);
    let outcome = serve(bundle, settings, listener, &mut control, stop, log).await;
    if let (Err(error), Some(control)) = (&outcome, control) {
        control.failed(error).await;
    }
    outcome
}

/// From the bundle to the end. `control` is taken when the server is ready.
async fn serve(
    bundle: &Path,
    settings: &Settings,
    listener: Listener,
    control: &mut Option<Control>,
    mut stop: Stop,
    log: &dyn Fn(&str),
) -> Result<()> {
    let address = listener.address().context("cannot tell the address of the socket")?;
    let (service, mut golden) = tokio::select! {
        started = start(bundle.to_owned(), settings.clone()) => started?,
        _ = stop.told() => return Ok(()),
    };
    let connections = Connections::new(router::router(Arc::clone(&service)));
    let mut ready = false;
    let reason = loop {
        tokio::select! {
            // Until it is ready, a server with a socket of its own answers that it is not; on a shared one it leaves
            // the connections to those that are.
            stream = listener.accept(), if ready || !listener.is_shared() => connections.serve(stream),
            checked = &mut golden, if !ready => {
                checked.context("the model's thread has ended")??;
                ready = true;
                service.enter(Phase::Ready);
                if let Some(control) = control.take() {
                    stop.watch_supervisor(control.ready(Arc::clone(&service)).await);
                }
                log(&format!("listening on http://{address}"));
            }
            reason = stop.told() => break reason,
        }
    };
    log(&format!("{reason}: finishing what is in flight"));
    match drain::drain(listener, &connections, &service, settings, stop).await {
        0 => log("all connections are closed"),
        open => log(&format!("{open} connections were open still when the time was over")),
    }
    Ok(())
}

/// Loads the model away from the threads that serve.
async fn start(bundle: PathBuf, settings: Settings) -> Result<(Arc<Service>, oneshot::Receiver<Result<()>>)> {
    tokio::task::spawn_blocking(move || Service::start(&bundle, &settings))
        .await
        .context("loading the model ended")?
}
