//! When each policy looks next, and what it said last.

use std::collections::BTreeMap;
use std::time::Duration;

use sterna_policies::policy::Policy;
use tokio::time::Instant;

use super::LEAST;

/// The rounds of all policies in force.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    policies: BTreeMap<String, Round>,
}

#[derive(Debug)]
struct Round {
    due: Instant,
    /// The headline of its last look.
    last: Option<String>,
}

impl Rounds {
    /// A cycle begins with these policies; new ones are due at once.
    pub fn begin(&mut self, in_force: &[Policy]) {
        self.policies.retain(|name, _| in_force.iter().any(|policy| policy.name == *name));
        for policy in in_force {
            let new = || Round { due: Instant::now(), last: None };
            self.policies.entry(policy.name.clone()).or_insert_with(new);
        }
    }

    /// Whether a policy is to look in this cycle; then it is due again an interval later.
    pub fn is_due(&mut self, policy: &Policy) -> bool {
        let Some(round) = self.policies.get_mut(&policy.name) else { return false };
        let now = Instant::now();
        let due = round.due <= now;
        if due {
            // Never a busy loop, whatever a policy says.
            round.due = now + policy.trigger.interval.to_duration().max(LEAST);
        }
        due
    }

    /// What a policy said last.
    pub fn last_of(&mut self, policy: &Policy) -> &mut Option<String> {
        let new = || Round { due: Instant::now(), last: None };
        &mut self.policies.entry(policy.name.clone()).or_insert_with(new).last
    }

    /// Everybody is due now.
    pub fn all_look(&mut self) {
        let now = Instant::now();
        self.policies.values_mut().for_each(|round| round.due = now);
    }

    /// When the next look is due. Files are looked at by then as well, so not far from now even where nothing is in force.
    pub fn next(&self) -> Instant {
        let due = self.policies.values().map(|round| round.due).min();
        due.unwrap_or_else(|| Instant::now() + Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use sterna_policies::policy::Mode;

    use super::*;
    use crate::fixture;

    fn policy(name: &str, interval: &str) -> Policy {
        let mut policy = fixture::policy(Mode::Auto);
        policy.name = name.to_owned();
        policy.trigger.interval = interval.parse().unwrap();
        policy
    }

    #[tokio::test(start_paused = true)]
    async fn each_policy_looks_at_its_own_interval() {
        let (often, seldom) = (policy("often", "10s"), policy("seldom", "25s"));
        let mut rounds = Rounds::default();
        let mut looks = Vec::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            rounds.begin(&[often.clone(), seldom.clone()]);
            for one in [&often, &seldom] {
                if rounds.is_due(one) {
                    looks.push((began.elapsed().as_secs(), one.name.as_str()));
                }
            }
            tokio::time::sleep_until(rounds.next()).await;
        }
        let expected = [
            (0, "often"),
            (0, "seldom"),
            (10, "often"),
            (20, "often"),
            (25, "seldom"),
            (30, "often"),
            (40, "often"),
            (50, "often"),
            (50, "seldom"),
        ];
        assert_eq!(looks, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_is_for_all_and_what_is_gone_is_forgotten() {
        let (a, b) = (policy("a", "1m"), policy("b", "1h"));
        let mut rounds = Rounds::default();
        rounds.begin(&[a.clone(), b.clone()]);
        assert!(rounds.is_due(&a) && rounds.is_due(&b));
        assert!(!rounds.is_due(&a) && !rounds.is_due(&b));
        rounds.all_look();
        assert!(rounds.is_due(&a) && rounds.is_due(&b));
        *rounds.last_of(&b) = Some("stay".to_owned());
        rounds.begin(std::slice::from_ref(&a));
        assert!(!rounds.is_due(&b));
        rounds.begin(&[a, b.clone()]);
        assert!(rounds.is_due(&b));
        assert_eq!(*rounds.last_of(&b), None);
    }
}
