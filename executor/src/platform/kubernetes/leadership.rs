//! Whether this scheduler leads now: kept by a task, asked wherever something is about to be done.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::lease::{Contender, LeaseError, Standing, Steady};

/// Rounds within a term. Two thirds of the term are its leader's own, so it may fail some.
const ROUNDS: u32 = 8;

/// Whether it leads.
#[derive(Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Duration>>,
    clock: Steady,
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership").field("until", &*self.until.borrow()).finish()
    }
}

impl Leadership {
    /// It leads until what was sent last, by that clock.
    pub const fn new(until: watch::Receiver<Option<Duration>>, clock: Steady) -> Self {
        Self { until, clock }
    }

    /// Whether it leads. Its term is looked at each time, so one that slept too long knows at once.
    pub fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|until| (self.clock)() < until)
    }

    /// Waits until it leads; for ever where nobody contends any more.
    pub async fn gained(&self) {
        let mut until = self.until.clone();
        while !self.holds() {
            if until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it leads no more.
    pub async fn lost(&self) {
        let mut receiver = self.until.clone();
        loop {
            let Some(until) = *receiver.borrow_and_update() else { return };
            let left = until.saturating_sub((self.clock)());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left) => {}
                changed = receiver.changed() => if changed.is_err() {
                    // Nobody renews it any more.
                    sleep(until.saturating_sub((self.clock)())).await;
                    return;
                }
            }
        }
    }
}

/// What is told of a contender.
#[derive(Debug)]
pub enum Told<'t> {
    /// It leads, as it did not before.
    Leads,
    /// Another one leads, as it was not known before.
    Follows(&'t str),
    /// A round failed, as the one before did not.
    Failed(&'t LeaseError),
}

/// Contends for the lease round by round until `ended`, then gives it up. The leadership is known by the first answer.
pub fn contend(
    contender: Contender,
    ended: impl Future<Output = ()> + Send + 'static,
    tell: impl Fn(Told<'_>) + Send + Sync + 'static,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let (sender, until) = watch::channel(None);
    let leadership = Leadership::new(until, contender.clock());
    (leadership, tokio::spawn(rounds(contender, sender, ended, tell)))
}

async fn rounds(
    mut contender: Contender,
    until: watch::Sender<Option<Duration>>,
    ended: impl Future<Output = ()> + Send,
    tell: impl Fn(Told<'_>) + Send + Sync,
) {
    let pause = contender.candidate().term() / ROUNDS;
    let mut ended = std::pin::pin!(ended);
    let mut before: Option<Result<Standing, ()>> = None;
    loop {
        let went = tokio::select! {
            biased;
            () = &mut ended => break,
            went = timeout(pause * 2, contender.round()) => went,
        };
        let went = went.unwrap_or_else(|_| Err(LeaseError::Silent(contender.place().clone())));
        until.send_replace(contender.candidate().until());
        let now = went.map_err(|error| {
            if before != Some(Err(())) {
                tell(Told::Failed(&error));
            }
        });
        if before.as_ref() != Some(&now) {
            match &now {
                Ok(Standing::Leads) => tell(Told::Leads),
                // Only that somebody was faster is no news.
                Ok(Standing::Follows { leader: Some(leader) }) => tell(Told::Follows(leader)),
                Ok(Standing::Follows { leader: None }) | Err(()) => {}
            }
        }
        before = Some(now);
        tokio::select! {
            () = &mut ended => break,
            () = sleep(pause) => {}
        }
    }
    until.send_replace(None);
    if let Err(error) = contender.give_up().await {
        tracing::warn!(%error, "the lease is not given up; another scheduler waits for the end of its term");
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::steady;
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn it_is_lost_when_its_term_ends_and_nobody_says_so() {
        let (sender, until) = watch::channel(None);
        let leadership = Leadership::new(until, steady());
        assert!(!leadership.holds());
        leadership.lost().await;
        sender.send_replace(Some(LONG));
        leadership.gained().await;
        assert!(leadership.holds());
        assert!(timeout(LONG - Duration::from_millis(10), leadership.lost()).await.is_err());
        assert!(timeout(Duration::from_millis(20), leadership.lost()).await.is_ok());
        assert!(!leadership.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_where_it_is_renewed_and_ends_where_another_is_seen() {
        let (sender, until) = watch::channel(Some(LONG));
        let leadership = Leadership::new(until, steady());
        let lost = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.lost().await }
        });
        sleep(LONG / 2).await;
        sender.send_replace(Some(LONG * 2));
        sleep(LONG).await;
        assert!(leadership.holds() && !lost.is_finished());
        sender.send_replace(None);
        assert!(timeout(Duration::from_millis(20), lost).await.is_ok());
        // Nor does it last where nobody renews it any more.
        sender.send_replace(Some(LONG * 2));
        drop(sender);
        assert!(timeout(LONG, leadership.lost()).await.is_ok());
    }
}
