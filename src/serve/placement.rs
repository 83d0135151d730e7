//! Where the model works: on the event loops or on a thread of its own.
//!
//! Handing a request to another thread and its answer back costs more than a small network takes, so a quick model
//! works where the requests came in. A slow one would keep others waiting there (probes, new connections, requests that
//! are refused), so it gets a thread. Which of the two a model is, is measured when it starts.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::predict::Predictor;

/// The longest that a batch may keep an event loop from its other connections.
const TURN: Duration = Duration::from_millis(1);
/// Times that a batch is tried: the quickest counts, because everything else on the machine only adds.
const TRIES: usize = 3;

/// Where the model works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On each event loop, with at most so many inputs at once.
    Loops {
        /// Inputs that go through the model at once.
        max_batch: usize,
    },
    /// On a thread of its own.
    Thread,
}

impl Placement {
    /// Measures the model, which has to be warm, and places it.
    ///
    /// # Errors
    ///
    /// When the model does not answer.
    pub fn measure(predictor: &Predictor, max_batch: usize) -> Result<Self> {
        let time = |rows: usize| -> Result<Duration> {
            let mut quickest = Duration::MAX;
            for _ in 0..TRIES {
                let inputs = vec![0.0; rows * predictor.encoded_width()];
                let begun = Instant::now();
                predictor.forward(inputs)?;
                quickest = quickest.min(begun.elapsed());
            }
            Ok(quickest)
        };
        let alone = time(1)?;
        if alone > TURN {
            return Ok(Self::Thread);
        }
        Ok(Self::choose(alone, time(max_batch)?, max_batch))
    }

    /// `alone` is the time of one input, `together` that of `max_batch`. A batch that is cut to fit the turn must be
    /// worth having: one that cannot grow to a quarter of what was asked for is better off on a thread.
    fn choose(alone: Duration, together: Duration, max_batch: usize) -> Self {
        if together <= TURN {
            return Self::Loops { max_batch };
        }
        let each = (together.saturating_sub(alone)).as_secs_f64() / (max_batch.max(2) - 1) as f64;
        let fits = ((TURN.saturating_sub(alone)).as_secs_f64() / each) as usize + 1;
        if fits >= max_batch.div_ceil(4) {
            Self::Loops { max_batch: fits }
        } else {
            Self::Thread
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_model_works_on_the_loops_and_a_slow_one_apart() {
        let choose =
            |alone, together| Placement::choose(Duration::from_micros(alone), Duration::from_micros(together), 64);
        assert_eq!(choose(5, 60), Placement::Loops { max_batch: 64 });
        assert_eq!(choose(20, 1910), Placement::Loops { max_batch: 33 });
        assert_eq!(choose(100, 6400), Placement::Thread);
        assert_eq!(choose(900, 6400), Placement::Thread);
    }
}
