//! Life under a supervisor: `--inherit`.
//!
//! The supervisor starts several servers with the same listening socket as their stdin, so that a connection goes to
//! whichever is free and none is lost while one of them goes: what has not been accepted stays for the others. Their
//! stdout is one end of a UNIX socket pair, a control channel of lines:
//!
//! - the server writes `ready` when it has reproduced the golden outputs and begins to accept, or `failed REASON`;
//! - to `ping` it answers `pong REQUESTS IN_FLIGHT` (prediction requests answered so far, and at work now) after a
//!   golden input has gone through the queue and the model and come back right, or `failed REASON`;
//! - when the supervisor's end closes, the server finishes what is in flight and ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::listener::Listener;
use super::service::Service;
use crate::problem::Problem;

/// The server's end of the control channel.
#[derive(Debug)]
pub struct Control {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

/// Takes the listening socket from stdin and the control channel from stdout.
///
/// # Errors
///
/// When one of them is something else.
pub fn take() -> Result<(Listener, Control)> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let listens = rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false);
    if !listens {
        return Err(not_inherited("stdin is no listening socket"));
    }
    let listener = Listener::shared(socket.into()).context("cannot use the socket on stdin")?;
    let channel = StdUnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    if channel.peer_addr().is_err() {
        return Err(not_inherited("stdout is no UNIX socket"));
    }
    channel.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(channel)?.into_split();
    // The socket ends with the listener: while any descriptor of it is open, the kernel lets clients in to whom nobody
    // would ever listen.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).context("cannot let go of stdin")?;
    Ok((listener, Control { read, write }))
}

fn not_inherited(what: &str) -> anyhow::Error {
    Problem::new(format!("{what}, and `--inherit` needs one"))
        .hint("--inherit is for supervisors, such as `emberline deploy`; leave it out to serve by hand")
        .into()
}

impl Control {
    /// Tells the supervisor that the server accepts, and answers its pings from now on; the task ends when the
    /// supervisor's end closes.
    pub async fn ready(mut self, service: Arc<Service>) -> JoinHandle<()> {
        let told = tell(&mut self.write, "ready").await;
        tokio::spawn(async move {
            if told.is_ok() {
                // An error on the channel is its end.
                let _ = answer_pings(self, &service).await;
            }
        })
    }

    /// Tells the supervisor why the server does not come up.
    pub async fn failed(mut self, error: &anyhow::Error) {
        // A supervisor that has gone needs no telling.
        let _ = tell(&mut self.write, &failure(error)).await;
    }
}

async fn answer_pings(control: Control, service: &Service) -> io::Result<()> {
    let Control { read, mut write } = control;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.as_str() {
            "ping" => match service.check().await {
                Ok(()) => {
                    let metrics = service.metrics();
                    format!("pong {} {}", metrics.requests_total(), metrics.in_flight())
                }
                Err(error) => failure(&error),
            },
            other => format!("failed there is no command `{other}`, there is `ping`"),
        };
        tell(&mut write, &answer).await?;
    }
    Ok(())
}

async fn tell(write: &mut OwnedWriteHalf, line: &str) -> io::Result<()> {
    write.write_all(format!("{line}\n").as_bytes()).await
}

/// An error with its causes, on one line.
fn failure(error: &anyhow::Error) -> String {
    format!("failed {error:#}").replace(['\n', '\r'], " ")
}
