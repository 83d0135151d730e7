//! When each request is due: a thread of its own, because the event loop's timer counts in milliseconds, and a wait for the
//! next one must not depend on what became of the last.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The shortest wait: what is due meanwhile is sent together.
const GRAIN: Duration = Duration::from_micros(100);

/// A row of requests at a steady rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the first one is due.
    pub start: Instant,
    /// Requests in a second.
    pub rate: f64,
    /// How many.
    pub total: u64,
}

impl Pace {
    /// When a request is due.
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// Gives the number of each request when it is due. The thread ends with the last one, or when nobody listens any more.
    pub fn begin(self) -> UnboundedReceiver<u64> {
        let (tell, numbers) = unbounded_channel();
        thread::spawn(move || {
            for number in 0..self.total {
                let wait = self.due(number).saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    thread::sleep(wait.max(GRAIN));
                }
                if tell.send(number).is_err() {
                    return;
                }
            }
        });
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_comes_before_it_is_due_and_none_is_left_out() {
        let pace = Pace {
            start: Instant::now(),
            rate: 2000.0,
            total: 200,
        };
        let mut numbers = pace.begin();
        let mut next = 0;
        while let Some(number) = numbers.blocking_recv() {
            assert_eq!(number, next);
            assert!(Instant::now() >= pace.due(number));
            next += 1;
        }
        assert_eq!(next, 200);
        assert!(pace.start.elapsed() >= Duration::from_millis(99));
    }
}
