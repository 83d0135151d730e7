//! The load generator: one request, rendered once, sent again and again over connections that stay open.
//!
//! It shares the machine with the servers that it measures, so it does as little as can be: a system call to send, one to
//! receive, and a search for the end of the head. It holds answers to their status and their length only; that they
//! are right is checked before, by its user.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

/// How long after the end of an open loop its last answers may come; later ones are lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request to a server.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Head and body.
    pub request: Vec<u8>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends the next as soon as the last is answered.
    Closed,
    /// Whether or not the last are answered. Latencies count from when a request was due, not from when a connection was
    /// free to send it, so that a server which stalls cannot hide it.
    Open {
        /// Requests in a second.
        rate: f64,
        /// How far their pace may be off: the generator sleeps so long rather than spin on a core that the server needs.
        nap: Duration,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Seconds in which requests were sent.
    pub seconds: f64,
    /// Requests that were sent.
    pub sent: usize,
    /// Seconds until each 200, in order of size.
    pub latencies: Vec<f32>,
    /// Those of them that came while requests were sent.
    pub in_time: usize,
    /// Answers with 429.
    pub refused: usize,
    /// Those of them that say when to try again.
    pub retry_after: usize,
    /// Answers with any other status.
    pub failed: usize,
    /// Requests without an answer: closed connections, and what took longer than [`PATIENCE`].
    pub lost: usize,
    /// Seconds of processor time that the generator took.
    pub processor: f64,
}

impl Outcome {
    /// Answers with 200 in a second.
    pub fn rate(&self) -> f64 {
        self.in_time as f64 / self.seconds
    }

    /// The latency in seconds that a share of the answers does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        self.latencies
            .get(place)
            .map_or(f64::NAN, |seconds| f64::from(*seconds))
    }

    /// Whether every request was answered with 200.
    pub fn is_clean(&self) -> bool {
        !self.latencies.is_empty() && self.refused + self.failed + self.lost == 0
    }

    fn add(&mut self, other: Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.sent += other.sent;
        self.latencies.extend(other.latencies);
        self.in_time += other.in_time;
        self.refused += other.refused;
        self.retry_after += other.retry_after;
        self.failed += other.failed;
        self.lost += other.lost;
        self.processor += other.processor;
    }
}

/// Sends requests over `connections` connections for `time`, on as many threads as there are cores at most.
///
/// # Errors
///
/// When the server cannot be connected to. What goes wrong after that is counted.
pub fn offer(target: &Target, connections: usize, pace: Pace, time: Duration) -> io::Result<Outcome> {
    let cores = thread::available_parallelism()?.get();
    // A sender at a fixed pace is one, so that requests are evenly apart; it is idle most of the time.
    let threads = match pace {
        Pace::Closed => cores.min(connections),
        Pace::Open { .. } => 1,
    };
    let loops: Vec<Loop> = (0..threads)
        .map(|index| Loop::new(target, (connections + index) / threads))
        .collect::<io::Result<_>>()?;
    let mut whole = Outcome::default();
    thread::scope(|scope| {
        let running: Vec<_> = loops
            .into_iter()
            .map(|each| scope.spawn(move || each.run(pace, time)))
            .collect();
        for each in running {
            whole.add(each.join().expect("the generator does not fail")?);
        }
        Ok::<(), io::Error>(())
    })?;
    whole.latencies.sort_by(f32::total_cmp);
    Ok(whole)
}

/// Seconds of processor time that a process has taken, all its threads together.
pub fn processor_time(process: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return f64::NAN;
    };
    let nanoseconds: u64 = threads
        .flatten()
        .map(|thread| running_time(&thread.path().join("schedstat").to_string_lossy()))
        .sum();
    nanoseconds as f64 / 1e9
}

fn running_time(schedstat: &str) -> u64 {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.unwrap_or(0)
}

/// One thread of the generator.
struct Loop<'a> {
    target: &'a Target,
    poll: Poll,
    wires: Vec<Wire>,
    /// Connections without a request.
    idle: VecDeque<usize>,
    outcome: Outcome,
}

/// A connection, and the request that it carries.
struct Wire {
    stream: mio::net::TcpStream,
    /// When the request was due; none while there is none.
    due: Option<Instant>,
    unsent: usize,
    received: Vec<u8>,
}

/// A whole answer.
struct Answer {
    status: [u8; 3],
    retry_after: bool,
}

impl<'a> Loop<'a> {
    fn new(target: &'a Target, connections: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let wires = (0..connections)
            .map(|index| Wire::open(target.address, &poll, index))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            target,
            poll,
            wires,
            idle: (0..connections).collect(),
            outcome: Outcome::default(),
        })
    }

    fn run(mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        let processor = running_time("/proc/thread-self/schedstat");
        let start = Instant::now();
        match pace {
            Pace::Closed => self.run_closed(start + time)?,
            Pace::Open { rate, nap } => self.run_open(rate, nap, start, start + time)?,
        }
        self.outcome.seconds = time.as_secs_f64();
        self.outcome.processor = (running_time("/proc/thread-self/schedstat") - processor) as f64 / 1e9;
        Ok(self.outcome)
    }

    /// What is unanswered at the end is given up, and neither sent nor lost.
    fn run_closed(&mut self, end: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now >= end {
                self.outcome.sent -= self.wires.len() - self.idle.len();
                return Ok(());
            }
            while let Some(index) = self.idle.pop_front() {
                self.send(index, Instant::now())?;
            }
            self.receive(&mut events, end - now, end)?;
        }
    }

    /// All that was due until the end is sent, if late, and waited for.
    fn run_open(&mut self, rate: f64, nap: Duration, start: Instant, end: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let wanted = ((end - start).as_secs_f64() * rate) as usize;
        let due = |number: usize| start + Duration::from_secs_f64(number as f64 / rate);
        let give_up = end + PATIENCE;
        loop {
            let now = Instant::now();
            while self.outcome.sent < wanted
                && due(self.outcome.sent) <= now
                && let Some(index) = self.idle.pop_front()
            {
                self.send(index, due(self.outcome.sent))?;
            }
            let all_sent = self.outcome.sent == wanted;
            if (all_sent && self.idle.len() == self.wires.len()) || now >= give_up {
                self.outcome.lost += wanted - self.outcome.sent + self.wires.len() - self.idle.len();
                self.outcome.sent = wanted;
                return Ok(());
            }
            if !self.receive(&mut events, Duration::ZERO, end)? {
                thread::sleep(nap);
            }
        }
    }

    fn send(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let wire = &mut self.wires[index];
        wire.due = Some(due);
        wire.unsent = self.target.request.len();
        self.outcome.sent += 1;
        if wire.write(&self.target.request).is_err() {
            self.replace(index)?;
        }
        Ok(())
    }

    /// Handles what has come. Gives whether anything has.
    fn receive(&mut self, events: &mut Events, timeout: Duration, end: Instant) -> io::Result<bool> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            polled => polled?,
        }
        for event in events.iter() {
            let Token(index) = event.token();
            let wire = &mut self.wires[index];
            let received = wire.write(&self.target.request).and_then(|()| wire.read());
            match received {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    let now = Instant::now();
                    let Some(due) = wire.due.take() else { continue };
                    match &answer.status {
                        b"200" => {
                            self.outcome.latencies.push(now.duration_since(due).as_secs_f32());
                            self.outcome.in_time += usize::from(now <= end);
                        }
                        b"429" => {
                            self.outcome.refused += 1;
                            self.outcome.retry_after += usize::from(answer.retry_after);
                        }
                        _ => self.outcome.failed += 1,
                    }
                    self.idle.push_back(index);
                }
                Err(_) => self.replace(index)?,
            }
        }
        Ok(!events.is_empty())
    }

    /// A new connection in place of one that has broken.
    fn replace(&mut self, index: usize) -> io::Result<()> {
        if self.wires[index].due.is_some() {
            self.outcome.lost += 1;
            self.idle.push_back(index);
        }
        self.wires[index] = Wire::open(self.target.address, &self.poll, index)?;
        Ok(())
    }
}

impl Wire {
    fn open(address: SocketAddr, poll: &Poll, index: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        Ok(Self {
            stream,
            due: None,
            unsent: 0,
            received: Vec::with_capacity(16 << 10),
        })
    }

    fn write(&mut self, request: &[u8]) -> io::Result<()> {
        while self.unsent > 0 {
            match self.stream.write(&request[request.len() - self.unsent..]) {
                Ok(written) => self.unsent -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is. An answer that is whole is given; one that closes the connection is an error after it, which
    /// the next use finds.
    fn read(&mut self) -> io::Result<Option<Answer>> {
        let mut buffer = [0; 4 << 10];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            self.received.extend_from_slice(&buffer[..count]);
            if let Some(answer) = whole(&self.received)? {
                self.received.clear();
                return Ok(Some(answer));
            }
            // A buffer that was not filled was all there is: the next event comes with the next bytes.
            if count < buffer.len() {
                return Ok(None);
            }
        }
    }
}

/// The answer that `bytes` are, once they are all of it.
fn whole(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (mut length, mut retry_after) = (None, false);
    let mut lines = bytes[..head].split(|byte| *byte == b'\n');
    let status = lines.next().and_then(|line| line.get(9..12)?.try_into().ok());
    for line in lines {
        let line = line.trim_ascii_end();
        if let Some(value) = header(line, b"content-length: ") {
            length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.parse::<usize>().ok());
        }
        retry_after |= header(line, b"retry-after: ").is_some();
    }
    let (Some(status), Some(length)) = (status, length) else {
        return Err(ErrorKind::InvalidData.into());
    };
    let missing = bytes.len() < head + 4 + length;
    Ok((!missing).then_some(Answer { status, retry_after }))
}

fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then_some(value)
}
