//! A migration that fails on the way to a phase.
//!
//! What is to be done then stands in the executor's table of phases and nowhere else; it comes in here as data, one [`Leg`] per row.
//! Before the commit everything is undone and the same process goes on where it was; after it there is only forward.

use sterna_core::history::Outcome;
use sterna_policies::quantity::{Bytes, Millis};

use super::passage::{Passage, Service, Span, Stages, Work};

/// What the failure of a phase calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The source goes on.
    Back {
        /// It has been frozen, or may have been, and has to be thawed. Comes first.
        thaws: bool,
        /// The destination holds something that it has to give up.
        discards: bool,
    },
    /// It is tried again, for ever.
    Forward,
}

/// The way to one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The phase that it leads to.
    pub phase: String,
    /// What is done on it.
    pub work: Work,
    /// How long it takes where nothing fails.
    pub took: Millis,
    /// What crosses the link meanwhile.
    pub sent: Bytes,
    /// Whether the service runs meanwhile, at whichever end.
    pub runs: bool,
    /// What its failure calls for.
    pub on_failure: OnFailure,
}

/// A failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// On the way to which phase.
    pub phase: &'a str,
    /// How long after that way began; not later than its end.
    pub after: Millis,
    /// How long it lasts where there is only forward; what was done of the way is done again.
    pub lasts: Millis,
    /// What thawing takes.
    pub thaw: Millis,
    /// What giving up takes at the destination.
    pub discard: Millis,
}

/// How it goes, and what comes of it. `None` where there is no way to such a phase.
pub fn failing(legs: &[Leg], fault: &Fault<'_>) -> Option<(Passage, Outcome)> {
    let at = legs.iter().position(|leg| leg.phase == fault.phase)?;
    let mut stages = Stages::default();
    let (mut held, mut no_return) = (None, None);
    for (place, leg) in legs.iter().enumerate() {
        let service = if leg.runs { Service::Runs } else { Service::Stands };
        match leg.on_failure {
            OnFailure::Back { discards: true, .. } => held = held.or(Some(stages.now())),
            OnFailure::Back { .. } => {}
            OnFailure::Forward => no_return = no_return.or(Some(stages.now())),
        }
        if place == at {
            let after = fault.after.max(Millis::ZERO).min(leg.took);
            let sent = part(leg.sent, after, leg.took);
            stages.then(leg.work, after, sent, service);
            match leg.on_failure {
                OnFailure::Back { thaws, discards } => {
                    // Where the source was not frozen yet, thawing is done and needs no time of it.
                    if thaws {
                        stages.then(Work::Undo, fault.thaw, Bytes::ZERO, service);
                    }
                    if discards {
                        stages.then(Work::Undo, fault.discard, Bytes::ZERO, Service::Runs);
                    }
                    let end = stages.now();
                    let passage = Passage {
                        source: Span { from: Millis::ZERO, to: end },
                        destination: Span { from: held.unwrap_or(end), to: end },
                        image: None,
                        no_return: None,
                        stages: stages.stages(),
                    };
                    return Some((passage, Outcome::RolledBack));
                }
                OnFailure::Forward => {
                    stages.then(leg.work, fault.lasts, Bytes::ZERO, service);
                }
            }
        }
        stages.then(leg.work, leg.took, leg.sent, service);
    }
    let end = stages.now();
    let passage = Passage {
        source: Span { from: Millis::ZERO, to: end },
        destination: Span { from: held.unwrap_or(end), to: end },
        image: None,
        no_return,
        stages: stages.stages(),
    };
    Some((passage, Outcome::Moved))
}

/// What was sent after a part of the time.
fn part(bytes: Bytes, after: Millis, whole: Millis) -> Bytes {
    let nanos = |span: Millis| u128::try_from(span.as_micros()).unwrap_or(0);
    let sent = u128::from(bytes.0) * nanos(after) / nanos(whole).max(1);
    Bytes(u64::try_from(sent).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::passage::checks::sound;
    use super::*;

    fn leg(phase: &str, took: &str, mib: u64, runs: bool, on_failure: OnFailure) -> Leg {
        let work = if runs { Work::Prepare } else { Work::Send };
        let (took, sent) = (took.parse().unwrap(), Bytes::from_mib(mib));
        Leg { phase: phase.into(), work, took, sent, runs, on_failure }
    }

    /// A migration with the least that tells everything apart.
    fn legs() -> Vec<Leg> {
        let back = |thaws, discards| OnFailure::Back { thaws, discards };
        vec![
            leg("look", "100ms", 0, true, back(false, false)),
            leg("ahead", "1s", 100, true, back(false, true)),
            leg("freeze", "50ms", 0, true, back(true, true)),
            leg("send", "500ms", 10, false, back(true, true)),
            leg("release", "10ms", 0, false, OnFailure::Forward),
            leg("clean", "200ms", 0, true, OnFailure::Forward),
        ]
    }

    fn fault(phase: &str, after: &str) -> Fault<'static> {
        let phase =
            ["look", "ahead", "freeze", "send", "release", "clean"].into_iter().find(|one| *one == phase);
        Fault {
            phase: phase.unwrap(),
            after: after.parse().unwrap(),
            lasts: "30s".parse().unwrap(),
            thaw: "20ms".parse().unwrap(),
            discard: "300ms".parse().unwrap(),
        }
    }

    #[test]
    fn before_the_commit_it_is_undone_and_the_source_goes_on() {
        let of = |phase, after| {
            let (passage, outcome) = failing(&legs(), &fault(phase, after)).unwrap();
            sound(&passage);
            assert_eq!((outcome, passage.no_return), (Outcome::RolledBack, None));
            let [downtime, duration] = [passage.downtime(), passage.duration()].map(|span| span.as_f64());
            (downtime, duration, passage.bytes(), passage.doubled().map(|both| both.length().as_f64()))
        };
        assert_eq!(of("look", "40ms"), (0.0, 40.0, Bytes::ZERO, None));
        assert_eq!(of("ahead", "250ms"), (0.0, 650.0, Bytes::from_mib(25), Some(550.0)));
        assert_eq!(of("freeze", "50ms"), (0.0, 1470.0, Bytes::from_mib(100), Some(1370.0)));
        assert_eq!(of("send", "250ms"), (270.0, 1720.0, Bytes::from_mib(105), Some(1620.0)));
        // A failure after the end of the way is one at its end.
        assert_eq!(of("send", "1h"), of("send", "500ms"));
    }

    #[test]
    fn after_it_there_is_only_forward() {
        let whole: f64 = legs().iter().map(|leg| leg.took.as_f64()).sum();
        let of = |phase| {
            let (passage, outcome) = failing(&legs(), &fault(phase, "10ms")).unwrap();
            sound(&passage);
            assert_eq!((outcome, passage.bytes()), (Outcome::Moved, Bytes::from_mib(110)));
            assert_eq!(passage.no_return, Some("1650ms".parse().unwrap()));
            assert_eq!(passage.duration().as_f64(), whole + 10.0 + 30_000.0);
            passage.downtime().as_f64()
        };
        assert_eq!(of("release"), 510.0 + 10.0 + 30_000.0, "nothing runs until the destination can be told");
        assert_eq!(of("clean"), 510.0, "it runs at the destination already");
    }

    #[test]
    fn a_phase_that_is_not_there_can_not_fail() {
        assert_eq!(failing(&legs(), &Fault { phase: "verify", ..fault("look", "0ms") }), None);
    }
}
