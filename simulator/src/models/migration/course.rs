//! How one migration goes, once its move has been predicted.
//!
//! The prediction is the decision's own ([`MoveCost`]): planning and simulation share one model. What is added here is what the
//! executor does around it: the service runs at the source until it is frozen, and at the destination from its release on;
//! a freeze that outlives the lease, or a migration that outlives the deadline, is undone, and one that would stand still for longer
//! than it may is given up before. A service whose moves follow another model goes [along](Course::along) that model's passage
//! within the same limits.

use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_policies::policy::Migration;
use sterna_policies::quantity::{Bytes, Millis};

use super::failure::{Fault, Leg, OnFailure, failing};
use super::passage::{Passage, Span, Work};

/// The course of one migration. Spans count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// When the service is frozen; not before `ends` where it is undone before that.
    pub freezes: Millis,
    /// When it runs again, at whichever end: before `ends` only where it then still fetches its memory.
    pub resumes: Millis,
    /// When it is over: the service runs at the destination, or goes on at the source.
    pub ends: Millis,
    /// From when on there is only forward: `ends` where all before it can be undone.
    pub commits: Millis,
    /// What going on at the source takes once it stands still: a process that was stopped is started anew.
    pub back: Millis,
    /// For how long it stood still after it had resumed.
    pub stalled: Millis,
    /// What comes of it.
    pub outcome: Outcome,
    /// What crosses the link.
    pub bytes: Bytes,
}

impl Course {
    /// Follows a predicted move through the policy's limits.
    pub fn of(predicted: &MoveCost, limits: &Migration) -> Self {
        let whole = predicted.duration.max(predicted.downtime).max(Millis::ZERO);
        let freezes = whole.saturating_sub(predicted.downtime.max(Millis::ZERO));
        // A service that would stand still for too long is not frozen.
        let frozen = limits.max_downtime.is_none_or(|most| predicted.downtime <= most);
        let thaws = if frozen { freezes.saturating_add(limits.freeze_lease) } else { freezes };
        let limit = thaws.min(limits.deadline);
        if frozen && whole <= limit {
            return Self::whole(freezes, whole, Outcome::Moved, predicted.bytes);
        }
        // The transfer is taken to be even over the migration.
        let micros = |span: Millis| u128::from(u64::try_from(span.as_micros()).unwrap_or(0));
        let share = u128::from(predicted.bytes.0) * micros(limit) / micros(whole).max(1);
        let bytes = Bytes(u64::try_from(share).unwrap_or(u64::MAX));
        Self::whole(freezes.min(limit), limit, Outcome::RolledBack, bytes)
    }

    /// Follows a model's passage through the policy's limits. `back` is what going on at the source takes once it stands still.
    ///
    /// The executor commits at the end, whatever the model. Only a service that runs before all of its memory is there has no way
    /// back from then on, and so no limit.
    pub fn along(passage: &Passage, back: Millis, limits: &Migration) -> Self {
        let ends = passage.duration();
        let Span { from: freezes, to: resumes } =
            passage.standstill().unwrap_or(Span { from: ends, to: ends });
        let commits = passage.no_return.filter(|_| resumes < ends).unwrap_or(ends);
        let frozen = limits.max_downtime.is_none_or(|most| passage.downtime() <= most);
        let thaws = if frozen { freezes.saturating_add(limits.freeze_lease) } else { freezes };
        let limit = thaws.min(limits.deadline);
        if frozen && commits <= limit {
            let whole = Self::whole(freezes, ends, Outcome::Moved, passage.bytes());
            return Self { resumes, commits, back, ..whole };
        }
        let over = if limit > freezes { limit.saturating_add(back) } else { limit };
        let undone = Self::whole(freezes.min(limit), over, Outcome::RolledBack, passage.sent_by(limit));
        Self { back, ..undone }
    }

    /// One that is over when the service runs again.
    const fn whole(freezes: Millis, ends: Millis, outcome: Outcome, bytes: Bytes) -> Self {
        let (back, stalled) = (Millis::ZERO, Millis::ZERO);
        Self { freezes, resumes: ends, ends, commits: ends, back, stalled, outcome, bytes }
    }

    /// One that is refused before anything is touched.
    pub const fn refused() -> Self {
        Self::whole(Millis::ZERO, Millis::ZERO, Outcome::Refused, Bytes::ZERO)
    }

    /// Whether there is only forward, so long after it began.
    pub fn is_committed(&self, after: Millis) -> bool {
        self.resumes < self.ends && after >= self.commits
    }

    /// The same, when it can't go on for a while after its commit. The service stands still for as long.
    pub fn delayed(&self, by: Millis, arrived: bool) -> Self {
        let later = |at: Millis| at.saturating_add(by);
        if arrived {
            return Self { ends: later(self.ends), stalled: later(self.stalled), ..*self };
        }
        Self { resumes: later(self.resumes), ends: later(self.ends), ..*self }
    }

    /// The same, when what it needs fails after a while: before the commit, which is at its end, so everything is undone. A source
    /// that is frozen goes on when it thaws by itself.
    pub fn broken(&self, after: Millis, thaws: Millis) -> Self {
        let back = |thaws| OnFailure::Back { thaws, discards: true };
        let micros = |span: Millis| u128::from(span.as_micros().unsigned_abs());
        let ahead = u128::from(self.bytes.0) * micros(self.freezes) / micros(self.ends).max(1);
        let ahead = Bytes(u64::try_from(ahead).unwrap_or(u64::MAX).min(self.bytes.0));
        let leg = |phase: &str, took, sent, runs| Leg {
            phase: phase.to_owned(),
            work: if runs { Work::Prepare } else { Work::Send },
            took,
            sent,
            runs,
            on_failure: back(!runs),
        };
        let legs = [
            leg("frozen", self.freezes, ahead, true),
            leg("verified", self.downtime(), Bytes(self.bytes.0 - ahead.0), false),
        ];
        // What breaks at the very instant of the freeze comes before it.
        let is_frozen = after > self.freezes && self.downtime() > Millis::ZERO;
        let fault = Fault {
            phase: if is_frozen { "verified" } else { "frozen" },
            after: if is_frozen { after.saturating_sub(self.freezes) } else { after },
            lasts: Millis::ZERO,
            thaw: thaws.saturating_sub(after).max(Millis::ZERO).saturating_add(self.back),
            discard: Millis::ZERO,
        };
        let Some((passage, outcome)) = failing(&legs, &fault) else { return *self };
        let ends = passage.duration();
        Self { back: self.back, ..Self::whole(self.freezes.min(ends), ends, outcome, passage.bytes()) }
    }

    /// How long the service stands still.
    pub fn downtime(&self) -> Millis {
        self.resumes.saturating_sub(self.freezes).saturating_add(self.stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_policies::policy::{Memory, Method};

    fn ms(text: &str) -> Millis {
        text.parse().unwrap()
    }

    fn course(downtime: &str, duration: &str, lease: &str, deadline: &str) -> Course {
        let predicted =
            MoveCost { downtime: ms(downtime), duration: ms(duration), bytes: Bytes::from_mib(100) };
        Course::of(&predicted, &limits(lease, deadline))
    }

    fn limits(lease: &str, deadline: &str) -> Migration {
        Migration {
            method: Method::Checkpoint,
            memory: Memory::Ahead,
            max_downtime: None,
            bandwidth: None,
            deadline: ms(deadline),
            freeze_lease: ms(lease),
        }
    }

    #[test]
    fn within_its_limits_a_move_goes_as_predicted() {
        let course = course("2s", "10s", "30s", "1m");
        assert_eq!((course.freezes, course.ends, course.outcome), (ms("8s"), ms("10s"), Outcome::Moved));
        assert_eq!((course.downtime(), course.bytes), (ms("2s"), Bytes::from_mib(100)));
    }

    #[test]
    fn the_lease_thaws_the_source() {
        let course = course("20s", "40s", "5s", "1m");
        assert_eq!((course.ends, course.downtime()), (ms("25s"), ms("5s")));
        assert_eq!(course.outcome, Outcome::RolledBack);
        assert_eq!(course.bytes, Bytes(Bytes::from_mib(100).0 * 25 / 40));
    }

    #[test]
    fn what_would_stand_still_for_too_long_is_not_frozen() {
        let predicted = MoveCost { downtime: ms("2s"), duration: ms("10s"), bytes: Bytes::from_mib(100) };
        let of =
            |most| Course::of(&predicted, &Migration { max_downtime: Some(ms(most)), ..limits("30s", "1m") });
        assert_eq!(of("2s").outcome, Outcome::Moved);
        let held = of("1s");
        assert_eq!((held.ends, held.downtime(), held.outcome), (ms("8s"), Millis::ZERO, Outcome::RolledBack));
        assert_eq!(held.bytes, Bytes(Bytes::from_mib(100).0 * 8 / 10));
    }

    #[test]
    fn what_fails_on_the_way_is_undone_and_the_source_thaws_by_itself() {
        let whole = course("2s", "10s", "5s", "1m");
        let ahead = whole.broken(ms("4s"), ms("13s"));
        assert_eq!(
            (ahead.ends, ahead.downtime(), ahead.outcome),
            (ms("4s"), Millis::ZERO, Outcome::RolledBack)
        );
        assert_eq!(ahead.bytes, Bytes::from_mib(40));
        let frozen = whole.broken(ms("9s"), ms("13s"));
        assert_eq!(
            (frozen.ends, frozen.downtime(), frozen.outcome),
            (ms("13s"), ms("5s"), Outcome::RolledBack)
        );
        assert_eq!(frozen.bytes, Bytes::from_mib(90));
        // The source itself is gone.
        assert_eq!(whole.broken(ms("9s"), ms("9s")).downtime(), ms("1s"));
    }

    #[test]
    fn large_memories_are_sent_evenly_too() {
        let predicted = MoveCost { downtime: ms("20s"), duration: ms("100s"), bytes: Bytes::from_mib(4000) };
        let whole = Course::of(&predicted, &limits("1m", "10m"));
        assert_eq!(whole.broken(ms("40s"), ms("140s")).bytes, Bytes::from_mib(1600));
        assert_eq!(whole.broken(ms("90s"), ms("140s")).bytes, Bytes::from_mib(3600));
    }

    #[test]
    fn the_deadline_may_come_before_the_freeze() {
        let course = course("2s", "40s", "5s", "10s");
        assert_eq!(
            (course.ends, course.downtime(), course.outcome),
            (ms("10s"), Millis::ZERO, Outcome::RolledBack)
        );
    }
}
