//! What is no longer as it was when a plan was made.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sterna_policies::policy::{Metric, Policy};

use crate::continuum::{Continuum, NodeName, ServiceName};
use crate::difference::{self, Difference};
use crate::directive::Ask;
use crate::observation::Observation;

/// Something that is no longer as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// A service runs elsewhere.
    Placement {
        /// The service.
        service: ServiceName,
        /// Where it ran; `None` where no node ran it.
        then: Option<NodeName>,
        /// Where it runs.
        now: Option<NodeName>,
    },
    /// A node answers again, or does not any more.
    Answers {
        /// The node.
        node: NodeName,
        /// Whether it answers now.
        now: bool,
    },
    /// A directive was given or taken back.
    Directive {
        /// What it asks for.
        ask: Ask,
        /// Whether it is in force now.
        now: bool,
    },
    /// The continuum is another.
    Continuum(Difference),
    /// The policy is another.
    Policy(Difference),
}

/// What changed from one time to another that a plan depends on: the placement, which nodes answer, directives, the
/// continuum, the policy.
///
/// What is measured changes all the time and makes no plan stale, also where it stands in the continuum: carbon intensities that
/// a policy has measured. Neither does the mode, which says who may carry plans out.
///
/// # Errors
/// When continuum or policy can't be compared.
pub fn changes(
    then: (&Observation, &Policy),
    now: (&Observation, &Policy),
) -> Result<Vec<Change>, serde_json::Error> {
    let (seen_then, seen_now) = (then.0, now.0);
    let mut changes = Vec::new();
    let services: BTreeSet<&ServiceName> =
        seen_then.placement.keys().chain(seen_now.placement.keys()).collect();
    for service in services {
        let (then, now) = (seen_then.placement.get(service), seen_now.placement.get(service));
        if then != now {
            let (service, then, now) = (service.clone(), then.cloned(), now.cloned());
            changes.push(Change::Placement { service, then, now });
        }
    }
    let [answered, answer] =
        [seen_then, seen_now].map(|seen| seen.reachable.iter().collect::<BTreeSet<&NodeName>>());
    for node in answered.symmetric_difference(&answer) {
        changes.push(Change::Answers { node: (*node).clone(), now: answer.contains(*node) });
    }
    let [asked, asks] = [seen_then, seen_now].map(|seen| seen.directives.asks().collect::<BTreeSet<&Ask>>());
    for ask in asked.symmetric_difference(&asks) {
        changes.push(Change::Directive { ask: (*ask).clone(), now: asks.contains(*ask) });
    }
    let measured = [then.1, now.1].iter().any(|policy| policy.metrics.contains_key(&Metric::CarbonRate));
    let continuum = |seen: &Observation| {
        let mut continuum = Continuum::clone(&seen.continuum);
        if measured {
            continuum.sites.values_mut().for_each(|site| site.carbon = None);
        }
        continuum
    };
    let differences = difference::between(&continuum(seen_then), &continuum(seen_now))?;
    changes.extend(differences.into_iter().map(Change::Continuum));
    let same_mode = Policy { mode: now.1.mode, ..then.1.clone() };
    changes.extend(difference::between(&same_mode, now.1)?.into_iter().map(Change::Policy));
    Ok(changes)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placement { service, then: Some(then), now: Some(now) } => {
                write!(f, "`{service}` ran on `{then}` and runs on `{now}`")
            }
            Self::Placement { service, then: Some(then), now: None } => {
                write!(f, "`{service}` ran on `{then}` and is not found on any node that answers")
            }
            Self::Placement { service, then: None, now } => {
                write!(f, "`{service}` was not found")?;
                now.as_ref().map_or(Ok(()), |now| write!(f, " and runs on `{now}`"))
            }
            Self::Answers { node, now: true } => write!(f, "`{node}` did not answer and does now"),
            Self::Answers { node, now: false } => write!(f, "`{node}` answered and does not any more"),
            Self::Directive { ask, now: true } => write!(f, "{ask} was asked for"),
            Self::Directive { ask, now: false } => write!(f, "{ask} was taken back"),
            Self::Continuum(difference) => write!(f, "continuum, {difference}"),
            Self::Policy(difference) => write!(f, "policy, {difference}"),
        }
    }
}
