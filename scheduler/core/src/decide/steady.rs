//! How long a decision goes on being the same by itself.

use jiff::Timestamp;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};

use crate::budget::{DAY, HOUR};
use crate::history::{History, Outcome};

/// Until when a decision to move nothing would be made again, held by the same rules, for as long as the same is observed and no
/// migration ends: what its rules say is left of their times gets less, and nothing else changes. Nothing where time alone may
/// change it at any instant.
pub fn steady_until(policy: &Policy, history: &History, now: Timestamp) -> Option<Timestamp> {
    let hysteresis = &policy.hysteresis;
    let lasts = policy.trigger.any.is_some()
        || hysteresis.gain_lasts > Millis::ZERO
        || hysteresis.regret > Percent::ZERO;
    let mut past = history.migrations.values().flatten();
    let fails = policy.breaker.failures > 0 && past.any(|past| past.outcome == Outcome::RolledBack);
    if lasts || fails || !policy.windows.is_empty() {
        return None;
    }
    // Every rule about time counts from the end of a migration, for one of these.
    let spans = [
        hysteresis.min_residency,
        hysteresis.cooldown,
        hysteresis.no_return_within,
        policy.trigger.settle,
        HOUR,
        DAY,
    ];
    let ends = history.migrations.values().flatten().flat_map(|past| {
        spans.iter().map(|span| past.ended.checked_add(span.to_duration()).unwrap_or(Timestamp::MAX))
    });
    Some(ends.filter(|end| *end > now).min().unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuum::ServiceName;
    use crate::history::PastMigration;
    use sterna_policies::policy::Policy;
    use sterna_policies::quantity::Bytes;

    fn policy(more: &str) -> Policy {
        let text = format!(
            "schema_version = 1\nname = \"one\"\n[[objective.term]]\nmetric = \"cost_rate\"\n[trigger]\ninterval = \"1m\"\n\
             [hysteresis]\nmin_residency = \"20m\"\ncooldown = \"5m\"\n{more}"
        );
        sterna_policies::load::policy("one.toml", &text).unwrap().value
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-03-02T{text}Z").parse().unwrap()
    }

    fn history(outcome: Outcome) -> History {
        let mut history = History::default();
        let past = PastMigration {
            ended: at("10:00:00"),
            from: "a".into(),
            to: "b".into(),
            outcome,
            downtime: Millis::ZERO,
            bytes: Bytes::ZERO,
            duration: Millis::ZERO,
        };
        history.record(ServiceName::from("web"), past);
        history
    }

    #[test]
    fn it_ends_with_the_next_time_of_a_rule() {
        let until = |history: &History, now| steady_until(&policy(""), history, at(now));
        assert_eq!(until(&History::default(), "10:00:00"), Some(Timestamp::MAX));
        let history = history(Outcome::Moved);
        let day = "2026-03-03T10:00:00Z".parse().unwrap();
        let ends = ["10:01:00", "10:05:00", "10:20:00", "10:30:00", "11:00:00"];
        let ends = ends.map(|now| until(&history, now).unwrap());
        // Cooldown, residency, return, and the budgets of an hour and of a day.
        assert_eq!(ends, [at("10:05:00"), at("10:20:00"), at("10:30:00"), at("11:00:00"), day]);
    }

    #[test]
    fn what_must_last_may_be_another_at_any_time() {
        let of = |more: &str, outcome| steady_until(&policy(more), &history(outcome), at("10:01:00"));
        assert!(of("", Outcome::Moved).is_some());
        assert_eq!(of("gain_lasts = \"10m\"", Outcome::Moved), None);
        assert_eq!(of("regret = \"50%\"", Outcome::Moved), None);
        assert_eq!(of("[breaker]\nfailures = 2\n", Outcome::RolledBack), None);
        assert!(of("[breaker]\nfailures = 2\n", Outcome::Moved).is_some());
    }
}
