//! When each policy looks next, and what it said last.

use std::collections::BTreeMap;
use std::time::Duration;

use sterna_core::standing::Standing;
use sterna_policies::policy::Policy;
use tokio::time::Instant;

use super::LEAST;

/// The rounds of all policies in force.
#[derive(Debug, Default)]
pub struct Rounds {
    policies: BTreeMap<String, Round>,
}

/// What is kept of a policy from look to look.
#[derive(Debug)]
pub struct Round {
    due: Instant,
    /// The policy as it was when it was due last.
    policy: Policy,
    /// The headline of its last look.
    pub(super) said: Option<String>,
    /// What its last decision wants the next one to remember; `None` where only the history knows.
    pub(super) standing: Option<Standing>,
    /// The policy by which its last decision was made, as it was then.
    pub(super) decided_by: Option<Policy>,
    /// Whether its circuit breaker was open then.
    pub(super) broken: bool,
    /// Why its last look failed; `None` where it did not.
    pub(super) failed: Option<String>,
}

impl Round {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            due: Instant::now(),
            policy: policy.clone(),
            said: None,
            standing: None,
            decided_by: None,
            broken: false,
            failed: None,
        }
    }
}

impl Rounds {
    /// A cycle begins with these policies; new ones and those that were changed are due at once.
    pub(super) fn begin(&mut self, in_force: &[Policy]) {
        self.policies.retain(|name, _| in_force.iter().any(|policy| policy.name == *name));
        for policy in in_force {
            let round = self.policies.entry(policy.name.clone()).or_insert_with(|| Round::new(policy));
            if round.policy != *policy {
                round.policy = policy.clone();
                round.due = Instant::now();
            }
        }
    }

    /// What is kept of a policy that is to look in this cycle; then it is due again an interval later.
    pub(super) fn due(&mut self, policy: &Policy) -> Option<&mut Round> {
        let round = self.policies.get_mut(&policy.name)?;
        let now = Instant::now();
        if round.due > now {
            return None;
        }
        round.due = now + interval(policy);
        Some(round)
    }

    /// Everybody is due now.
    pub(super) fn all_look(&mut self) {
        let now = Instant::now();
        self.policies.values_mut().for_each(|round| round.due = now);
    }

    /// When the next look is due. Files are looked at by then as well, so not far from now even where nothing is in force.
    pub(super) fn next(&self) -> Instant {
        let due = self.policies.values().map(|round| round.due).min();
        due.unwrap_or_else(|| Instant::now() + Duration::from_secs(10))
    }

    /// The shortest time between two looks.
    pub(super) fn shortest(&self) -> Duration {
        let all = self.policies.values().map(|round| interval(&round.policy));
        all.min().unwrap_or(Duration::from_secs(10))
    }

    /// Whether the last look of each policy was complete, or why not.
    pub(super) fn works(&self) -> Result<(), String> {
        let failed = |(name, round): (&String, &Round)| {
            let reason = round.failed.as_ref()?;
            Some(if self.policies.len() > 1 { format!("policy {name}: {reason}") } else { reason.clone() })
        };
        self.policies.iter().find_map(failed).map_or(Ok(()), Err)
    }
}

/// Never a busy loop, whatever a policy says.
fn interval(policy: &Policy) -> Duration {
    policy.trigger.interval.to_duration().max(LEAST)
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
                if rounds.due(one).is_some() {
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
        assert!(rounds.due(&a).is_some() && rounds.due(&b).is_some());
        assert!(rounds.due(&a).is_none() && rounds.due(&b).is_none());
        rounds.all_look();
        assert!(rounds.due(&a).is_some());
        rounds.due(&b).unwrap().said = Some("stay".to_owned());
        rounds.begin(std::slice::from_ref(&a));
        assert!(rounds.due(&b).is_none());
        rounds.begin(&[a, b.clone()]);
        assert_eq!(rounds.due(&b).unwrap().said, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_was_changed_looks_at_once_and_goes_on_from_what_it_knew() {
        let (slow, fast) = (policy("a", "1h"), policy("a", "10s"));
        let mut rounds = Rounds::default();
        rounds.begin(std::slice::from_ref(&slow));
        rounds.due(&slow).unwrap().said = Some("stay".to_owned());
        rounds.begin(std::slice::from_ref(&slow));
        assert!(rounds.due(&slow).is_none());
        rounds.begin(std::slice::from_ref(&fast));
        assert_eq!(rounds.due(&fast).unwrap().said.as_deref(), Some("stay"));
        assert_eq!(rounds.next() - Instant::now(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_stays_until_that_very_policy_looks_well() {
        let (often, seldom) = (policy("often", "10s"), policy("seldom", "1h"));
        let mut rounds = Rounds::default();
        rounds.begin(&[often.clone(), seldom.clone()]);
        assert_eq!(rounds.shortest(), Duration::from_secs(10));
        rounds.due(&seldom).unwrap().failed = Some("the disk is full".to_owned());
        rounds.due(&often).unwrap().failed = None;
        assert_eq!(rounds.works(), Err("policy seldom: the disk is full".to_owned()));
        rounds.begin(std::slice::from_ref(&often));
        assert_eq!(rounds.works(), Ok(()));
    }
}
