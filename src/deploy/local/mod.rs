//! `local`: replicas as processes of this machine, behind one port.
//!
//! A supervisor, which is this program again, holds the listening socket and outlives the terminal it was started from.
//! Replicas inherit the socket, so a connection that waits in its queue is answered by whichever replica is there. The
//! client and the supervisor talk through files alone: the client says what is wanted, the supervisor works towards it
//! and says what there is. Either may be killed at any time, and the other one carries on.

mod client;
mod converge;
mod listeners;
mod lock;
mod log;
mod plan;
mod replica;
mod state;
mod supervisor;

pub use client::Local;
pub use supervisor::supervise;
