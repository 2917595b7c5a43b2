//! How long a decision goes on being the same by itself.

use jiff::Timestamp;
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Millis, Percent};

use crate::history::{History, Outcome};

/// Until when a decision to move nothing would be made again, where the first rule about time that holds anything goes on for `eases`.
///
/// A rule about time that holds nothing now holds nothing later, as long as no migration ends; so nothing else changes before.
pub(super) fn until(
    policy: &Policy,
    history: &History,
    now: Timestamp,
    eases: Option<Millis>,
) -> Option<Timestamp> {
    let hysteresis = &policy.hysteresis;
    let lasts = policy.trigger.any.is_some()
        || hysteresis.gain_lasts > Millis::ZERO
        || hysteresis.regret > Percent::ZERO;
    let mut past = history.migrations.values().flatten();
    let fails = policy.breaker.failures > 0 && past.any(|past| past.outcome == Outcome::RolledBack);
    if lasts || fails || !policy.windows.is_empty() {
        return None;
    }
    let end = |left: Millis| now.checked_add(left.to_duration()).unwrap_or(Timestamp::MAX);
    Some(eases.map_or(Timestamp::MAX, end))
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
    fn it_ends_where_the_first_rule_eases() {
        let until = |eases| until(&policy(""), &history(Outcome::Moved), at("10:01:00"), eases);
        assert_eq!(until(None), Some(Timestamp::MAX));
        assert_eq!(until(Some("4m".parse().unwrap())), Some(at("10:05:00")));
        assert_eq!(
            until(Some(Millis::from_micros(1))),
            Some("2026-03-02T10:01:00.000000001Z".parse().unwrap())
        );
    }

    #[test]
    fn what_must_last_may_be_another_at_any_time() {
        let of = |more: &str, outcome| until(&policy(more), &history(outcome), at("10:01:00"), None);
        assert!(of("", Outcome::Moved).is_some());
        assert_eq!(of("gain_lasts = \"10m\"", Outcome::Moved), None);
        assert_eq!(of("regret = \"50%\"", Outcome::Moved), None);
        assert_eq!(of("[breaker]\nfailures = 2\n", Outcome::RolledBack), None);
        assert!(of("[breaker]\nfailures = 2\n", Outcome::Moved).is_some());
    }
}
