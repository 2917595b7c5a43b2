//! How one migration goes, once its move has been predicted.
//!
//! The prediction is the decision's own ([`MoveCost`]): planning and simulation share one model. What is added here is what the
//! executor does around it: the service runs at the source until it is frozen, and at the destination from its release on;
//! a freeze that outlives the lease, or a migration that outlives the deadline, is undone, and one that would stand still for longer
//! than it may is given up before.

use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_policies::policy::Migration;
use sterna_policies::quantity::{Bytes, Millis};

/// The course of one migration. Spans count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// When the service is frozen; not before `ends` where it is undone before that.
    pub freezes: Millis,
    /// When it is over: the service runs at the destination, or goes on at the source.
    pub ends: Millis,
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
            return Self { freezes, ends: whole, outcome: Outcome::Moved, bytes: predicted.bytes };
        }
        // The transfer is taken to be even over the migration.
        let micros = |span: Millis| u128::from(u64::try_from(span.as_micros()).unwrap_or(0));
        let share = u128::from(predicted.bytes.0) * micros(limit) / micros(whole).max(1);
        let bytes = Bytes(u64::try_from(share).unwrap_or(u64::MAX));
        Self { freezes: freezes.min(limit), ends: limit, outcome: Outcome::RolledBack, bytes }
    }

    /// How long the service stands still.
    pub fn downtime(&self) -> Millis {
        self.ends.saturating_sub(self.freezes)
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
    fn the_deadline_may_come_before_the_freeze() {
        let course = course("2s", "40s", "5s", "10s");
        assert_eq!(
            (course.ends, course.downtime(), course.outcome),
            (ms("10s"), Millis::ZERO, Outcome::RolledBack)
        );
    }
}
