//! Stopping the loop.

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
pub struct Stop(watch::Receiver<Urgency>);

/// Both ends.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Urgency::No);
    (Stopper(sender), Stop(receiver))
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
    /// What is asked for.
    pub fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    /// Waits until at least `urgency` is asked for; for ever where nobody can ask any more.
    pub async fn at_least(&self, urgency: Urgency) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|asked| *asked >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
