//! Stopping the loop.

use sterna_executor::platform::kubernetes::leadership::Leadership;
use tokio::sync::watch;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Go on.
    No,
    /// Begin nothing new; let running migrations end.
    WhenDone,
    /// End now; the agents finish or undo running migrations by themselves.
    Now,
}

/// Asks the loop to stop.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Urgency>);

/// Where the loop hears that it should stop.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: watch::Receiver<Urgency>,
    leadership: Option<Leadership>,
}

/// Both ends.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Urgency::No);
    (Stopper(sender), Stop { asked: receiver, leadership: None })
}

impl Stopper {
    /// Asks; a second time, more urgently. Gives what is asked for now.
    pub fn ask(&self) -> Urgency {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::No { Urgency::WhenDone } else { Urgency::Now };
        });
        *self.0.borrow()
    }

    /// Asks at each SIGINT and SIGTERM from now on, and calls `heard` with what is asked for then.
    ///
    /// # Errors
    /// When the signals can't be listened to.
    pub async fn ask_on_signals(&self, heard: impl Fn(Urgency)) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            heard(self.ask());
        }
    }
}

impl Stop {
    /// The same, that also asks to end now once the leadership is lost: with every question about the urgency the leader's
    /// term is looked at.
    #[must_use]
    pub fn only_while(self, leadership: Leadership) -> Self {
        Self { leadership: Some(leadership), ..self }
    }

    /// What is asked for.
    pub fn urgency(&self) -> Urgency {
        match &self.leadership {
            Some(leadership) if !leadership.holds() => Urgency::Now,
            _ => *self.asked.borrow(),
        }
    }

    /// Waits until at least `urgency` is asked for; for ever where nobody can ask any more.
    pub async fn at_least(&self, urgency: Urgency) {
        let asked = async {
            let mut receiver = self.asked.clone();
            if receiver.wait_for(|asked| *asked >= urgency).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let lost = async {
            match &self.leadership {
                Some(leadership) => leadership.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = asked => {}
            () = lost => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_that_leads_no_more_ends_now_also_where_it_slept_through_the_end_of_its_term() {
        let now = Arc::new(AtomicU64::new(0));
        let clock = {
            let now = Arc::clone(&now);
            move || Duration::from_secs(now.load(Ordering::Relaxed))
        };
        let (term, until) = watch::channel(Some(Duration::from_secs(10)));
        let (stopper, stop) = stop();
        let stop = stop.only_while(Leadership::new(until, Arc::new(clock)));
        assert_eq!(stop.urgency(), Urgency::No);
        now.store(11, Ordering::Relaxed);
        assert_eq!(stop.urgency(), Urgency::Now);
        stop.at_least(Urgency::Now).await;
        // Renewed, and asked by a person.
        term.send_replace(Some(Duration::from_secs(20)));
        assert_eq!(stop.urgency(), Urgency::No);
        assert_eq!(stopper.ask(), Urgency::WhenDone);
        assert_eq!(stop.urgency(), Urgency::WhenDone);
        stop.at_least(Urgency::WhenDone).await;
    }
}
