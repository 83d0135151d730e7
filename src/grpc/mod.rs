//! The Open Inference Protocol (version 2 of `KServe`) over gRPC, on the server's second port, with gRPC's health checks.
//!
//! It stands above the server, whose first port does not know it. What a request holds is read by the same code as over
//! REST, and answered or refused in the same words: here are the messages (`messages`), the ways from them to tensors and
//! back (`infer`), what is done for every call (`calls`), and HTTP/2 (`connection`). Streams of requests, the control of
//! models, shared memory and compression are not offered.

mod calls;
mod connection;
mod infer;
mod messages;
mod status;

use crate::serve::second_port::{Connection, SecondPort, Serving};

/// The protocol, to be spoken on a second port.
#[derive(Clone, Copy, Debug)]
pub struct Grpc;

impl SecondPort for Grpc {
    fn name(&self) -> &'static str {
        "gRPC"
    }

    fn serve(&self, connection: Connection) -> Serving {
        Box::pin(connection::serve(connection))
    }
}
