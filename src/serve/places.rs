//! How many requests may wait for the model, counted over all queues of a server. What they wait with is `batcher`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The places for requests that wait, which all queues of a server share.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    /// With those that nobody waits for any more, and that the model has not come to yet.
    queued: AtomicUsize,
    capacity: usize,
}

/// For each place, requests that may be in the queues, those whose clients have gone among them: each is memory.
pub const MOST_GONE: usize = 4;

/// The place of one request. It is free again as soon as the model takes the request, or nobody waits for it any more.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    is_free: AtomicBool,
}

/// Frees a place when nobody waits any more.
#[derive(Debug)]
pub struct Waiting(Arc<Place>);

/// Counts a request in a queue, and frees its place when it leaves.
#[derive(Debug)]
pub struct Queued(Arc<Place>);

impl Places {
    /// Room for `capacity` requests.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            capacity,
        })
    }

    /// Requests that wait.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Requests that can wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether another request may wait.
    pub fn has_one(&self) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        self.taken() < self.capacity && queued < self.capacity.saturating_mul(MOST_GONE)
    }

    /// A place for one request: what whoever waits for its answer holds, and what the request in the queue does. None when
    /// there is no room.
    pub fn take(self: &Arc<Self>) -> Option<(Waiting, Queued)> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.capacity {
            if self.queued.fetch_add(1, Ordering::Relaxed) < self.capacity.saturating_mul(MOST_GONE) {
                let place = Arc::new(Place {
                    places: Arc::clone(self),
                    is_free: AtomicBool::new(false),
                });
                return Some((Waiting(Arc::clone(&place)), Queued(place)));
            }
            self.queued.fetch_sub(1, Ordering::Relaxed);
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Place {
    fn free(&self) {
        if !self.is_free.swap(true, Ordering::Relaxed) {
            self.places.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.free();
        self.0.places.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
