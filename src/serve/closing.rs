//! How connections are told to close: all of them when the server goes, or those that are there when it has no room.

use tokio::sync::watch;

/// What connections that come later are told, too.
const ALL: u64 = u64::MAX;

/// Tells connections to close as soon as their requests are answered.
#[derive(Clone, Debug)]
pub struct Closer(watch::Sender<u64>);

/// Hears when a connection is to close.
#[derive(Debug)]
pub struct Closing {
    asked: watch::Receiver<u64>,
    since: u64,
}

impl Closer {
    /// Nobody is told anything yet.
    pub fn new() -> Self {
        Self(watch::channel(0).0)
    }

    /// For a connection that begins now.
    pub fn subscribe(&self) -> Closing {
        let asked = self.0.subscribe();
        let since = *asked.borrow();
        Closing { asked, since }
    }

    /// Tells every connection, and those that are yet to come.
    pub fn all(&self) {
        self.0.send_replace(ALL);
    }

    /// Tells those that are there.
    pub fn present(&self) {
        self.0.send_modify(|asked| *asked = asked.saturating_add(1));
    }

    /// Waits until no connection listens.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Closing {
    /// Waits until the connection is to close.
    pub async fn told(&mut self) {
        let since = self.since;
        // Without anybody who could tell, the server has gone.
        let _ = self.asked.wait_for(|asked| *asked == ALL || *asked != since).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    async fn is_told(closing: &mut Closing) -> bool {
        let mut told = pin!(closing.told());
        poll_fn(|context| Poll::Ready(told.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn those_who_are_there_are_told_and_at_the_end_everyone() {
        let closer = Closer::new();
        let mut first = closer.subscribe();
        assert!(!is_told(&mut first).await);
        closer.present();
        let mut second = closer.subscribe();
        assert!(is_told(&mut first).await);
        assert!(!is_told(&mut second).await);
        closer.all();
        assert!(is_told(&mut second).await);
        assert!(is_told(&mut closer.subscribe()).await);
    }
}
