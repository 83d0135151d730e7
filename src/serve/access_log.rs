//! The access log: a line of JSON for each request that was answered, and nothing of what was in it.
//!
//! The server never waits for whoever reads it. Lines go through a bounded channel to a thread that writes them; when the
//! channel is full they are lost, and the log says how many. When nobody reads any more, nothing is written any more.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::clock;

/// Lines that wait to be written before more are lost.
const WAITING: usize = 8192;
/// Bytes that are written at once.
const BATCH: usize = 64 << 10;
/// After each writing, lines gather for so long: a thread that is woken for each of them costs more than the line.
const GATHER: Duration = Duration::from_millis(5);
/// How long the last lines may take when the server ends.
const LAST: Duration = Duration::from_secs(1);
/// Letters of a path and of a user agent; a client chooses how long they are.
const LONGEST: usize = 512;

/// A request that was answered.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// What it is called.
    pub request_id: &'a str,
    /// Where it came from; none on a socket that has no addresses.
    pub client: Option<SocketAddr>,
    /// Name of the key that it showed; none where none is asked for, or none of those that there are was shown.
    pub key: Option<&'a str>,
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// Without its query.
    pub path: &'a str,
    /// As in the metrics: `plain`, `v1`, `v2`, `grpc`, `explain`, `other`.
    pub protocol: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// From its head to its answer.
    pub duration_seconds: f64,
    /// Bytes of its body, as it was announced; none when it came in chunks, or when there was none.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
}

/// An entry as it is written.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

/// What is written when lines were lost.
#[derive(Serialize)]
struct Lost {
    time: String,
    lost_lines: u64,
}

/// Where the loops leave their lines.
#[derive(Debug)]
pub struct AccessLog {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    /// Lines that wait, or are being written.
    waiting: Arc<AtomicU64>,
    done: Mutex<Receiver<()>>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Nothing of interest comes any more.
    End,
}

impl AccessLog {
    /// Begins a log that is written to `out` by a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system has no thread for it.
    pub fn begin(out: impl Write + Send + 'static) -> Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let (tell, done) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let left = Arc::new(AtomicU64::new(0));
        let (counted, written) = (Arc::clone(&lost), Arc::clone(&left));
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                // Whoever reads it has gone, or the disk is full: the server goes on without, and counts what is lost.
                let _ = write(&waiting, out, &counted, &written);
                drop(waiting);
                let _ = tell.send(());
            })
            .context("cannot start the thread of the access log")?;
        Ok(Self {
            lines,
            lost,
            waiting: left,
            done: Mutex::new(done),
        })
    }

    /// Writes an entry, or loses it.
    pub fn write(&self, entry: &Entry) {
        let entry = Entry {
            path: short(entry.path),
            user_agent: entry.user_agent.map(short),
            ..*entry
        };
        let mut line = Vec::with_capacity(512);
        let time = clock::utc_millis(clock::since_1970());
        // Neither a map nor anything else that cannot be JSON is in it.
        let _ = serde_json::to_writer(
            &mut line,
            &Line {
                time: &time,
                entry: &entry,
            },
        );
        line.push(b'\n');
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that nobody will read.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was left is written, but not for a reader that does not read; gives the lines that are left then.
    pub fn end(&self) -> u64 {
        let end = Instant::now() + LAST;
        // The channel may be full of lines that are about to be written.
        while let Err(TrySendError::Full(_)) = self.lines.try_send(Message::End) {
            if Instant::now() >= end {
                return self.waiting.load(Ordering::Relaxed);
            }
            thread::sleep(GATHER);
        }
        if let Ok(done) = self.done.lock() {
            let _ = done.recv_timeout(LAST);
        }
        self.waiting.load(Ordering::Relaxed)
    }
}

fn write(lines: &Receiver<Message>, mut out: impl Write, lost: &AtomicU64, waiting: &AtomicU64) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut told = 0;
    let mut end = false;
    while !end {
        let mut next = lines.recv().unwrap_or(Message::End);
        let mut taken = 0;
        loop {
            match next {
                Message::Line(line) => {
                    taken += 1;
                    batch.extend_from_slice(&line);
                }
                Message::End => end = true,
            }
            if end || batch.len() >= BATCH {
                break;
            }
            match lines.try_recv() {
                Ok(message) => next = message,
                Err(_) => break,
            }
        }
        let missing = lost.load(Ordering::Relaxed) - told;
        if missing > 0 {
            told += missing;
            let time = clock::utc_millis(clock::since_1970());
            serde_json::to_writer(
                &mut batch,
                &Lost {
                    time,
                    lost_lines: missing,
                },
            )?;
            batch.push(b'\n');
        }
        out.write_all(&batch)?;
        waiting.fetch_sub(taken, Ordering::Relaxed);
        batch.clear();
        if !end {
            thread::sleep(GATHER);
        }
    }
    out.flush()
}

/// The first letters of a text.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use serde_json::Value;

    use super::*;

    fn entry(path: &str) -> Entry<'_> {
        Entry {
            request_id: "a-1",
            client: Some(([127, 0, 0, 1], 7).into()),
            key: Some("phone"),
            method: "POST",
            path,
            protocol: "v2",
            status: 200,
            duration_seconds: 0.25,
            bytes_in: Some(3),
            bytes_out: 5,
            user_agent: None,
        }
    }

    /// What was written; writing waits while it is held.
    #[derive(Clone, Default)]
    struct Page(Arc<Held>);

    #[derive(Default)]
    struct Held {
        state: Mutex<(bool, Vec<u8>)>,
        released: Condvar,
    }

    impl Page {
        fn hold(&self, held: bool) {
            self.0.state.lock().expect("page").0 = held;
            self.0.released.notify_all();
        }

        fn lines(&self) -> Vec<Value> {
            let page = self.0.state.lock().expect("page");
            let text = std::str::from_utf8(&page.1).expect("UTF-8");
            text.lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let page = self.0.state.lock().expect("page");
            let mut page = self.0.released.wait_while(page, |(held, _)| *held).expect("page");
            page.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_client_sent() {
        let page = Page::default();
        let log = AccessLog::begin(page.clone()).expect("a log");
        let nasty = "/\"\n\u{1b}[31m\\é";
        let agent = "é".repeat(1000);
        log.write(&Entry {
            user_agent: Some(&agent),
            ..entry(nasty)
        });
        log.write(&entry(&"x".repeat(10_000)));
        log.end();
        let lines = page.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["path"], nasty);
        assert_eq!(lines[0]["client"], "127.0.0.1:7");
        assert_eq!(lines[0]["status"], 200);
        assert!(lines[0]["time"].as_str().expect("a time").ends_with('Z'));
        assert_eq!(lines[0]["user_agent"].as_str().expect("a text").len(), LONGEST);
        assert_eq!(lines[1]["path"].as_str().expect("a path").len(), LONGEST);
        assert_eq!(lines[1]["user_agent"], Value::Null);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed() {
        let page = Page::default();
        page.hold(true);
        let log = AccessLog::begin(page.clone()).expect("a log");
        let began = Instant::now();
        let many = 2 * WAITING + 4 * BATCH;
        let mut sent = 0;
        while log.lost() < 100 {
            assert!(sent < many, "nothing is lost");
            log.write(&entry("/"));
            sent += 1;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(log.end() > 0, "nobody reads");
        page.hold(false);
        log.end();
        let lines = page.lines();
        let missed: u64 = lines.iter().filter_map(|line| line["lost_lines"].as_u64()).sum();
        assert_eq!(missed, log.lost());
        let written = lines.iter().filter(|line| line["path"] == "/").count();
        assert_eq!(written as u64 + missed, sent as u64);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_end_of_the_server() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::begin(Gone).expect("a log");
        let end = Instant::now() + Duration::from_secs(30);
        while log.lost() == 0 {
            assert!(Instant::now() < end, "nothing is lost");
            log.write(&entry("/"));
            thread::yield_now();
        }
        log.end();
    }
}
