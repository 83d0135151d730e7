//! One connection, in TLS or not: HTTP/1.1 until the client or the server is done with it, or what a second port speaks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::closing::Closing;
use super::doors::Speaks;
use super::front::Front;
use super::router;
use super::second_port::{Connection, Stream};
use super::timed::{Limits, Timed, Turn};
use super::tls;
use super::worker::Worker;

/// Serves a stream until it is closed, or told to close and its requests are answered.
pub async fn serve(stream: TcpStream, speaks: Speaks, worker: Arc<Worker>, front: Arc<Front>, mut closing: Closing) {
    // Answers are small and written at once: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let client = if front.logs() { stream.peer_addr().ok() } else { None };
    let Some(tls) = front.tls() else {
        return speak(stream, speaks, client, worker, front, closing).await;
    };
    let encrypted = tokio::select! {
        encrypted = tls::accept(tls, speaks.inside(), stream) => encrypted,
        () = closing.told() => None,
    };
    if let Some(stream) = encrypted {
        speak(stream, speaks, client, worker, front, closing).await;
    }
}

async fn speak<S: Stream + 'static>(
    stream: S,
    speaks: Speaks,
    client: Option<SocketAddr>,
    worker: Arc<Worker>,
    front: Arc<Front>,
    closing: Closing,
) {
    let port = match speaks {
        Speaks::Http => return http(stream, client, worker, front, closing).await,
        Speaks::Other(port) => port,
    };
    let stream = Box::new(stream);
    port.serve(Connection {
        stream,
        client,
        worker,
        front,
        closing,
    })
    .await;
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: Option<SocketAddr>,
    worker: Arc<Worker>,
    front: Arc<Front>,
    mut closing: Closing,
) {
    let turn = Turn::default();
    let io = TokioIo::new(Timed::new(stream, turn.clone(), Limits::DEFAULT));
    let service = service_fn(|request| {
        turn.next();
        let (turn, worker, front) = (turn.clone(), Arc::clone(&worker), Arc::clone(&front));
        async move {
            let answer = router::answer(&worker, &front, client, request).await;
            turn.next();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    // The stream has its own limits, which cost nothing on the way of a request.
    http.header_read_timeout(None);
    let mut connection = pin!(http.serve_connection(io, service));
    tokio::select! {
        biased;
        // How a connection ended is of no interest: clients go as they like.
        _ = connection.as_mut() => return,
        () = closing.told() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
