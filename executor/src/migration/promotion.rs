//! Which of what is held may run because the pod of its source has ended. Pure.
//!
//! The register that would say `commit` or `abort` ended with the pod, so all that is known is what others hold. What is held is
//! promoted only where nothing that could contradict it is left: every other node was asked, none of them has the service, none
//! holds a later try to move it, and its source had not given the move up as far as anybody knows. Otherwise a person has to say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sterna_core::continuum::{NodeName, ServiceName};

use super::holding::Holding;
use super::order::{MigrationId, Order};
use super::pod_end::PodEnd;
use crate::node::api::{Arriving, ServiceFacts};

/// What the agents of a continuum say, each of itself.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What has not finished coming in, by the node that holds it.
    pub arriving: BTreeMap<NodeName, Vec<Arriving>>,
    /// What the nodes have.
    pub services: BTreeMap<NodeName, Vec<ServiceFacts>>,
    /// Nodes that could not be asked and may have services.
    pub silent: BTreeSet<NodeName>,
}

/// What is held of a service whose source's pod has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The end of the pod.
    pub end: PodEnd,
    /// The node that holds it.
    pub holder: NodeName,
    /// What it holds.
    pub arriving: Arriving,
    /// Whether it may run.
    pub verdict: Verdict,
}

/// Whether what is held may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Promote,
    /// Not before these nodes have answered: one of them may have it.
    Waits(BTreeSet<NodeName>),
    /// Another node has it.
    Elsewhere(NodeName),
    /// It had not come in whole.
    Incomplete,
    /// There was a later try to move it, before which its source went on running it.
    Older(MigrationId),
    /// Its source had undone the move by then, or tried to hand over what nobody took: it may have gone on running it.
    Late,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Promote => f.write_str("it may run there"),
            Self::Waits(nodes) => {
                let names: Vec<_> = nodes.iter().map(|node| format!("`{node}`")).collect();
                write!(f, "{} must answer first, since the service may be there", names.join(", "))
            }
            Self::Elsewhere(node) => write!(f, "`{node}` has the service"),
            Self::Incomplete => f.write_str("it had not come in whole"),
            Self::Older(later) => {
                write!(f, "migration {later} is later, and was not begun before this one was undone")
            }
            Self::Late => {
                f.write_str("its source had undone the move by then and ran on, as far as is known")
            }
        }
    }
}

/// What is held of services that left those pods, with a verdict each. `undone` are migrations that are known to have been undone.
pub fn candidates(told: &Told, ends: &[PodEnd], undone: &BTreeSet<MigrationId>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (holder, all) in &told.arriving {
        for arriving in all.iter().filter(|one| one.holding == Holding::Held) {
            let left =
                |end: &&PodEnd| arriving.pod.as_ref() == Some(&end.uid) && arriving.order.from == end.node;
            let Some(end) = ends.iter().find(left) else { continue };
            let verdict = judge(told, holder, arriving, end, undone);
            found.push(Candidate {
                end: end.clone(),
                holder: holder.clone(),
                arriving: arriving.clone(),
                verdict,
            });
        }
    }
    found
}

fn judge(
    told: &Told,
    holder: &NodeName,
    held: &Arriving,
    end: &PodEnd,
    undone: &BTreeSet<MigrationId>,
) -> Verdict {
    let Order { id, service, .. } = &held.order;
    if let Some(node) = owner(told, service) {
        return Verdict::Elsewhere(node.clone());
    }
    let later = told.arriving.values().flatten().map(|one| &one.order);
    let later = later.filter(|order| order.service == *service && order.id > *id).map(|order| order.id).max();
    if let Some(later) = later {
        return Verdict::Older(later);
    }
    if !held.standing {
        return Verdict::Incomplete;
    }
    if undone.contains(id) || is_late(&held.order, end.seen) {
        return Verdict::Late;
    }
    let silent: BTreeSet<NodeName> = told.silent.iter().filter(|node| *node != holder).cloned().collect();
    if silent.is_empty() { Verdict::Promote } else { Verdict::Waits(silent) }
}

/// The node that has a service, running or not.
fn owner<'t>(told: &'t Told, service: &ServiceName) -> Option<&'t NodeName> {
    let has = |all: &Vec<ServiceFacts>| all.iter().any(|one| one.service == *service);
    let came =
        |all: &Vec<Arriving>| all.iter().any(|one| one.order.service == *service && one.holding.owns());
    let by_facts = told.services.iter().find(|(_, all)| has(all)).map(|(node, _)| node);
    by_facts.or_else(|| told.arriving.iter().find(|(_, all)| came(all)).map(|(node, _)| node))
}

/// Whether the source's agent had decided by a moment, if it lived: after deadline and freeze lease it has.
fn is_late(order: &Order, moment: Timestamp) -> bool {
    let Some(made) = order.id.made() else { return true };
    let lasts = order.deadline.saturating_add(order.freeze_lease).to_duration();
    SignedDuration::try_from(lasts).is_ok_and(|lasts| moment.duration_since(made) > lasts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_policies::quantity::Bytes;

    fn end(seen: Timestamp) -> PodEnd {
        PodEnd { seen, ..PodEnd::example() }
    }

    fn held() -> Arriving {
        let end = PodEnd::example();
        Arriving {
            order: Order::example(),
            epoch: 3,
            image: "sha256:0".into(),
            holding: Holding::Held,
            standing: true,
            pod: Some(end.uid),
        }
    }

    fn told(arriving: Arriving) -> Told {
        let services = [("b".into(), vec![]), ("c".into(), vec![])].into();
        Told { arriving: [("b".into(), vec![arriving])].into(), services, silent: BTreeSet::new() }
    }

    fn verdict(told: &Told) -> Option<Verdict> {
        let ends = [end(Timestamp::now())];
        candidates(told, &ends, &BTreeSet::new()).into_iter().next().map(|one| one.verdict)
    }

    fn facts(service: &str, running: bool) -> ServiceFacts {
        ServiceFacts {
            service: service.into(),
            container: "c".to_owned(),
            image: "i".to_owned(),
            running,
            ended: None,
            frozen: false,
            memory: Bytes::ZERO,
            epoch: 4,
            leaving_for: None,
            committed: None,
        }
    }

    #[test]
    fn what_stands_held_is_promoted_where_everybody_was_asked_and_nobody_has_it() {
        assert_eq!(verdict(&told(held())), Some(Verdict::Promote));
        let mut other = told(held());
        other.services.insert("c".into(), vec![facts("another", true)]);
        assert_eq!(verdict(&other), Some(Verdict::Promote));
    }

    #[test]
    fn what_left_another_pod_or_no_pod_is_no_candidate() {
        for pod in [None, Some("another".to_owned())] {
            assert_eq!(verdict(&told(Arriving { pod, ..held() })), None);
        }
        // A UID alone does not make another node's service one of this pod.
        let order = Order { from: "x".into(), ..Order::example() };
        assert_eq!(verdict(&told(Arriving { order, ..held() })), None);
        for holding in [Holding::Released, Holding::Finished, Holding::Discarded] {
            assert_eq!(verdict(&told(Arriving { holding, ..held() })), None);
        }
    }

    #[test]
    fn nothing_is_promoted_beside_an_owner_or_before_all_have_answered() {
        for running in [true, false] {
            let mut elsewhere = told(held());
            elsewhere.services.insert("c".into(), vec![facts("redis", running)]);
            assert_eq!(verdict(&elsewhere), Some(Verdict::Elsewhere("c".into())));
        }
        let mut owned = told(held());
        owned.arriving.insert("c".into(), vec![Arriving { holding: Holding::Released, ..held() }]);
        assert_eq!(verdict(&owned), Some(Verdict::Elsewhere("c".into())));

        let mut silent = told(held());
        silent.silent.insert("c".into());
        assert_eq!(verdict(&silent), Some(Verdict::Waits(["c".into()].into())));
    }

    #[test]
    fn what_is_of_the_past_is_not_promoted() {
        assert_eq!(verdict(&told(Arriving { standing: false, ..held() })), Some(Verdict::Incomplete));

        let earlier = held();
        let later = Arriving { order: Order::example(), ..held() };
        let id = later.order.id;
        let mut both = told(earlier.clone());
        both.arriving.insert("c".into(), vec![later]);
        assert_eq!(verdict(&both), Some(Verdict::Older(id)));
        // Also where what is later did not come in whole.
        let incomplete = Arriving { order: Order::example(), standing: false, ..held() };
        both.arriving.insert("c".into(), vec![incomplete]);
        assert!(matches!(verdict(&both), Some(Verdict::Older(_))));

        let undone = [earlier.order.id].into();
        let ends = [end(Timestamp::now())];
        assert_eq!(candidates(&told(earlier.clone()), &ends, &undone)[0].verdict, Verdict::Late);
        let order = &earlier.order;
        let limit = order.deadline.saturating_add(order.freeze_lease).to_duration();
        for (after, expected) in [(-1_i32, Verdict::Promote), (1, Verdict::Late)] {
            let at = order.id.made().unwrap() + limit + SignedDuration::from_secs(after.into());
            let ends = [end(at)];
            assert_eq!(candidates(&told(earlier.clone()), &ends, &BTreeSet::new())[0].verdict, expected);
        }
    }
}
