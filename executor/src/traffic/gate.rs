//! The gate before one service: who may send to it now, who waits, and whether anything is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::place::Place;
use super::telemetry::Meters;

/// What may pass the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Everything, to this place.
    Open(Arc<Place>),
    /// What belongs to something that is under way there.
    Closing(Arc<Place>),
    /// Nothing.
    Shut,
}

impl Phase {
    /// The place that everything may be sent to.
    pub fn open(&self) -> Option<&Arc<Place>> {
        match self {
            Self::Open(place) => Some(place),
            Self::Closing(_) | Self::Shut => None,
        }
    }
}

/// Why something is not held any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// As many are held as may be.
    #[error("{0} connections and requests are held already, as many as may be")]
    TooMany(usize),
    /// It was held for as long as may be.
    #[error("it was held for {} ms, and the service still takes no connections", .0.as_millis())]
    TooLong(Duration),
}

/// How much is held, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Most that are held at once.
    pub held: usize,
    /// Longest time.
    pub hold: Duration,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    held: usize,
}

/// A gate.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    meters: Meters,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
    quiet: Notify,
    ends: AtomicBool,
}

impl Gate {
    /// A gate that is shut.
    pub fn new(limits: GateLimits, meters: Meters) -> Arc<Self> {
        Arc::new(Self {
            limits,
            meters,
            state: Mutex::new(State { under_way: 0, held: 0 }),
            phase: watch::Sender::new(Phase::Shut),
            quiet: Notify::new(),
            ends: AtomicBool::new(false),
        })
    }

    /// What is counted of the service.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Longest time that something is held.
    pub fn longest(&self) -> Duration {
        self.limits.hold
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets through what this phase lets through, from now on.
    pub fn set(&self, phase: Phase) {
        // Under the lock, so that nobody is admitted by the old phase after this.
        let _state = self.lock();
        self.phase.send_if_modified(|now| {
            let changes = *now != phase;
            *now = phase;
            changes
        });
    }

    /// As [`Gate::set`], but only where the phase is still the other one.
    pub fn set_after(&self, before: &Phase, phase: Phase) {
        let _state = self.lock();
        self.phase.send_if_modified(|now| {
            let changes = now == before && *now != phase;
            if changes {
                *now = phase;
            }
            changes
        });
    }

    /// What may pass now.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Told of each change.
    pub fn changes(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The front is about to end: whoever serves a client closes its connection between two requests. Told as a change.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Release);
        self.phase.send_modify(|_| {});
    }

    /// Whether the front is about to end.
    pub fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }

    /// Done when the front is about to end.
    pub async fn ending(&self) {
        let mut changes = self.changes();
        while !self.ends() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lets something pass if the gate is open.
    pub fn try_admit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.lock();
        let place = self.phase.borrow().open().cloned()?;
        state.under_way += 1;
        Some(Permit { gate: Arc::clone(self), place })
    }

    /// Lets something pass, at the latest after the longest hold since `since`. Where it has to wait, it is held by the guard
    /// that it has, or gets.
    ///
    /// # Errors
    /// When too many are held, or for too long.
    pub async fn admit(
        self: &Arc<Self>,
        since: Instant,
        held: &mut Option<HeldHere>,
    ) -> Result<Permit, Refused> {
        if let Some(permit) = self.try_admit() {
            return Ok(permit);
        }
        if held.is_none() {
            *held = Some(self.hold()?);
        }
        let mut changes = self.changes();
        let admitted = async {
            loop {
                changes.borrow_and_update();
                if let Some(permit) = self.try_admit() {
                    return permit;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let until = since + self.limits.hold;
        tokio::time::timeout_at(until, admitted).await.map_err(|_| self.too_long())
    }

    /// It was held for as long as may be.
    pub fn too_long(&self) -> Refused {
        self.meters.refused.inc();
        Refused::TooLong(self.limits.hold)
    }

    /// Counts something that is held from now until the guard is dropped.
    ///
    /// # Errors
    /// When too many are.
    pub fn hold(self: &Arc<Self>) -> Result<HeldHere, Refused> {
        let mut state = self.lock();
        if state.held >= self.limits.held {
            self.meters.refused.inc();
            return Err(Refused::TooMany(self.limits.held));
        }
        state.held += 1;
        self.meters.held_now.inc();
        self.meters.held.inc();
        Ok(HeldHere { gate: Arc::clone(self), since: Instant::now() })
    }

    /// Done when nothing is under way, or after so long. Whether nothing was.
    pub async fn quiet(&self, limit: Duration) -> bool {
        let quiet = async {
            loop {
                let told = self.quiet.notified();
                if self.lock().under_way == 0 {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(limit, quiet).await.is_ok()
    }

    /// Done when everything is sent to another place than this.
    pub async fn moved_from(&self, place: &Place) {
        let mut changes = self.changes();
        loop {
            if changes.borrow_and_update().open().is_some_and(|open| **open != *place) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Something is under way to a place until this is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    place: Arc<Place>,
}

impl Permit {
    /// The place.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            self.gate.quiet.notify_waiters();
        }
    }
}

/// Something is held until this is dropped.
#[derive(Debug)]
pub struct HeldHere {
    gate: Arc<Gate>,
    since: Instant,
}

impl HeldHere {
    /// When that is too long.
    pub fn until(&self) -> Instant {
        self.since + self.gate.limits.hold
    }
}

impl Drop for HeldHere {
    fn drop(&mut self) {
        self.gate.lock().held -= 1;
        self.gate.meters.held_now.dec();
        self.gate.meters.hold.observe(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits { held: 2, hold: Duration::from_secs(30) };

    fn gate() -> Arc<Gate> {
        Gate::new(LIMITS, Meters::default())
    }

    fn place(node: &str) -> Arc<Place> {
        Arc::new(Place { node: node.into(), epoch: 1, address: ([127, 0, 0, 1], 1).into() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_goes_to_the_new_place() {
        let gate = gate();
        let held = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(Instant::now(), &mut None).await.map(|permit| permit.place().node.clone()) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(gate.meters().held_now.get(), 1);
        gate.set(Phase::Closing(place("a")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!held.is_finished(), "nothing new goes to a place that is left");
        gate.set(Phase::Open(place("b")));
        assert_eq!(held.await.unwrap(), Ok("b".into()));
        assert_eq!(gate.meters().held_now.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_limited_in_number_and_time() {
        let gate = gate();
        let admit = || {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.admit(Instant::now(), &mut None).await.map(drop) })
        };
        let (first, second) = (admit(), admit());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(admit().await.unwrap(), Err(Refused::TooMany(2)));
        assert_eq!(gate.meters().held.get(), 2);
        for held in [first, second] {
            assert_eq!(held.await.unwrap(), Err(Refused::TooLong(LIMITS.hold)));
        }
        assert_eq!(gate.meters().held_now.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_the_last_permit_is_given_back() {
        let gate = gate();
        gate.set(Phase::Open(place("a")));
        let permits = (gate.try_admit().unwrap(), gate.try_admit().unwrap());
        gate.set(Phase::Closing(place("a")));
        assert!(gate.try_admit().is_none());
        assert!(!gate.quiet(Duration::from_millis(80)).await);
        let waits = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.quiet(Duration::from_secs(60)).await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(permits);
        assert!(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_was_overtaken_is_not_set() {
        let gate = gate();
        let closing = Phase::Closing(place("a"));
        gate.set(closing.clone());
        gate.set(Phase::Open(place("b")));
        gate.set_after(&closing, Phase::Shut);
        assert_eq!(gate.phase(), Phase::Open(place("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn going_back_to_the_same_place_is_no_move() {
        let gate = gate();
        gate.set(Phase::Shut);
        let moved = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.moved_from(&place("a")).await }
        });
        gate.set(Phase::Open(place("a")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!moved.is_finished());
        gate.set(Phase::Open(place("b")));
        moved.await.unwrap();
    }
}
