//! Which of what is held may run because its source is gone: its pod was seen to end, or a person says so. Pure.
//!
//! The register that would say `commit` or `abort` is gone with the source, so all that is known is what others hold. What is held is
//! promoted only where nothing that could contradict it is left: every other node was asked, none of them has the service, none
//! holds a later try to move it, and its source had not given the move up as far as anybody knows. A person may say that a node
//! which is silent has nothing, and that what is out of date is better than nothing; that two copies run nobody can say.

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

impl Told {
    /// As [`holder`].
    pub fn holder(&self, service: &ServiceName) -> Option<(&NodeName, &NodeName)> {
        holder(&self.arriving, service)
    }
}

/// A node at which a service stands restored or that has taken it over, and the node that it came from.
pub fn holder<'a>(
    arriving: &'a BTreeMap<NodeName, Vec<Arriving>>,
    service: &ServiceName,
) -> Option<(&'a NodeName, &'a NodeName)> {
    let good = |one: &&Arriving| one.order.service == *service && (one.standing || one.holding.owns());
    arriving.iter().find_map(|(node, all)| Some((node, &all.iter().find(good)?.order.from)))
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
    /// Its source answers, and knows of the move.
    Decides(NodeName),
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
            Self::Decides(source) => {
                write!(f, "`{source}` answers and knows of the move: it decides by itself")
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
            let late = undone.contains(&arriving.order.id) || is_late(&arriving.order, end.seen);
            let verdict = judge(told, holder, arriving, late, Outdated::Never);
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

/// What has not finished coming in of services that left a node which a person says is gone for good.
#[derive(Debug, Clone, PartialEq)]
pub struct Leftover {
    /// The node that holds it.
    pub holder: NodeName,
    /// What it holds.
    pub arriving: Arriving,
    /// Whether it may run. What runs already may.
    pub verdict: Verdict,
}

/// Whether what is held may run although its source is known to have run on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outdated {
    /// It may not.
    Never,
    /// It may, where nothing newer stands anywhere: somebody would rather have that than nothing.
    BetterThanNothing,
}

/// What is known of the moves of a node that a person says is gone, beside what the others hold.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Those that are known to have been undone.
    pub undone: BTreeSet<MigrationId>,
    /// Those of which an agent under its name knows: that node is not gone. One that was made anew, and lost what it knew, knows of
    /// none.
    pub there: BTreeSet<MigrationId>,
}

/// What the others hold or run of services that were on their way from `gone`, with a verdict each, on somebody's word that it is
/// gone for good.
pub fn on_word(told: &Told, gone: &NodeName, known: &Known, outdated: Outdated) -> Vec<Leftover> {
    let mut found = Vec::new();
    for (holder, all) in told.arriving.iter().filter(|(holder, _)| *holder != gone) {
        for arriving in all.iter().filter(|one| one.order.from == *gone) {
            let id = &arriving.order.id;
            let verdict = match arriving.holding {
                Holding::Held | Holding::Released if known.there.contains(id) => {
                    Verdict::Decides(gone.clone())
                }
                Holding::Held => judge(told, holder, arriving, known.undone.contains(id), outdated),
                Holding::Released => Verdict::Promote,
                Holding::Finished | Holding::Discarded => continue,
            };
            found.push(Leftover { holder: holder.clone(), arriving: arriving.clone(), verdict });
        }
    }
    found
}

fn judge(told: &Told, holder: &NodeName, held: &Arriving, late: bool, outdated: Outdated) -> Verdict {
    let Order { id, service, .. } = &held.order;
    if let Some(node) = owner(told, service) {
        return Verdict::Elsewhere(node.clone());
    }
    let counts = |one: &&Arriving| outdated == Outdated::Never || one.standing;
    let later = told.arriving.values().flatten().filter(counts).map(|one| &one.order);
    let later = later.filter(|order| order.service == *service && order.id > *id).map(|order| order.id).max();
    if let Some(later) = later {
        return Verdict::Older(later);
    }
    if !held.standing {
        return Verdict::Incomplete;
    }
    if late && outdated == Outdated::Never {
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

    /// What is left of services from `a`, on somebody's word.
    fn left(told: &Told, undone: &[MigrationId], outdated: Outdated) -> Vec<(NodeName, Verdict)> {
        let known = Known { undone: undone.iter().copied().collect(), ..Known::default() };
        let found = on_word(told, &"a".into(), &known, outdated);
        found.into_iter().map(|one| (one.holder, one.verdict)).collect()
    }

    #[test]
    fn on_a_word_the_latest_copy_runs_where_all_were_asked() {
        let mut told = told(held());
        assert_eq!(left(&told, &[], Outdated::Never), [("b".into(), Verdict::Promote)]);
        told.silent.insert("d".into());
        assert_eq!(left(&told, &[], Outdated::Never), [("b".into(), Verdict::Waits(["d".into()].into()))]);
        told.silent.clear();

        let later = Arriving { order: Order::example(), ..held() };
        let id = later.order.id;
        told.arriving.insert("c".into(), vec![later]);
        let expected = [("b".into(), Verdict::Older(id)), ("c".into(), Verdict::Promote)];
        for outdated in [Outdated::Never, Outdated::BetterThanNothing] {
            assert_eq!(left(&told, &[], outdated), expected);
        }
        // One of another node's service, or of a node that is not the one which is gone.
        assert_eq!(on_word(&told, &"x".into(), &Known::default(), Outdated::Never), []);
    }

    #[test]
    fn on_a_word_nothing_runs_twice_but_what_runs_already_is_told() {
        let mut told = told(held());
        told.services.insert("c".into(), vec![facts("redis", true)]);
        assert_eq!(
            left(&told, &[], Outdated::BetterThanNothing),
            [("b".into(), Verdict::Elsewhere("c".into()))]
        );
        let told = self::told(Arriving { holding: Holding::Released, ..held() });
        assert_eq!(left(&told, &[], Outdated::Never), [("b".into(), Verdict::Promote)]);
    }

    #[test]
    fn what_stands_anywhere_is_known_to_be_held() {
        let (b, a) = ("b".into(), "a".into());
        let expected = Some((&b, &a));
        assert_eq!(told(held()).holder(&"redis".into()), expected);
        assert_eq!(told(held()).holder(&"another".into()), None);
        let broken = Arriving { standing: false, ..held() };
        assert_eq!(told(broken.clone()).holder(&"redis".into()), None);
        let owned = Arriving { holding: Holding::Released, ..broken };
        assert_eq!(told(owned).holder(&"redis".into()), expected);
    }

    #[test]
    fn a_source_that_answers_decides_by_itself_unless_it_has_lost_what_it_knew() {
        for holding in [Holding::Held, Holding::Released] {
            let held = Arriving { holding, ..held() };
            let known = Known { there: [held.order.id].into(), ..Known::default() };
            let verdict = |known: &Known| {
                let found = on_word(&told(held.clone()), &"a".into(), known, Outdated::BetterThanNothing);
                found.into_iter().map(|one| one.verdict).collect::<Vec<_>>()
            };
            assert_eq!(verdict(&known), [Verdict::Decides("a".into())]);
            assert_eq!(verdict(&Known::default()), [Verdict::Promote]);
        }
    }

    #[test]
    fn what_is_out_of_date_runs_only_where_somebody_says_so_and_nothing_newer_stands() {
        let (first, mut told) = (held(), told(held()));
        let id = first.order.id;
        told.arriving.insert("b".into(), vec![first]);
        assert_eq!(left(&told, &[id], Outdated::Never), [("b".into(), Verdict::Late)]);
        assert_eq!(left(&told, &[id], Outdated::BetterThanNothing), [("b".into(), Verdict::Promote)]);

        let broken = Arriving { order: Order::example(), standing: false, ..held() };
        let later = broken.order.id;
        told.arriving.insert("c".into(), vec![broken]);
        let expected = [("b".into(), Verdict::Older(later)), ("c".into(), Verdict::Incomplete)];
        assert_eq!(left(&told, &[], Outdated::Never), expected);
        let expected = [("b".into(), Verdict::Promote), ("c".into(), Verdict::Incomplete)];
        assert_eq!(left(&told, &[], Outdated::BetterThanNothing), expected);
    }

    proptest::proptest! {
        /// Whatever agents say, what follows from a word makes no second copy.
        #[test]
        fn a_word_never_makes_a_second_copy(
            tries in proptest::collection::vec((0_usize..3, proptest::bool::ANY, proptest::bool::ANY), 0..6),
            owner in proptest::option::of(0_usize..3),
            silent in proptest::option::of(0_usize..3),
            undone in proptest::collection::vec(proptest::bool::ANY, 6),
            better in proptest::bool::ANY,
        ) {
            let nodes: [NodeName; 3] = ["b".into(), "c".into(), "d".into()];
            let mut told = Told::default();
            let mut known = Known::default();
            for (number, (at, standing, from_gone)) in tries.into_iter().enumerate() {
                let from = if from_gone { "a" } else { "x" };
                let order = Order { from: from.into(), ..Order::example() };
                if undone[number] {
                    known.undone.insert(order.id);
                }
                told.arriving.entry(nodes[at].clone()).or_default().push(Arriving { order, standing, ..held() });
            }
            if let Some(at) = owner {
                told.services.insert(nodes[at].clone(), vec![facts("redis", true)]);
            }
            if let Some(at) = silent {
                told.arriving.remove(&nodes[at]);
                told.services.remove(&nodes[at]);
                told.silent.insert(nodes[at].clone());
            }
            let outdated = if better { Outdated::BetterThanNothing } else { Outdated::Never };
            let found = on_word(&told, &"a".into(), &known, outdated);
            let run: Vec<_> = found.iter().filter(|one| one.verdict == Verdict::Promote).collect();
            proptest::prop_assert!(run.len() <= 1, "{run:?}");
            if let Some(one) = run.first() {
                proptest::prop_assert!(told.services.is_empty() && one.arriving.standing);
                proptest::prop_assert!(told.silent.iter().all(|node| *node == one.holder));
                let newer = |other: &Arriving| other.standing && other.order.id > one.arriving.order.id;
                proptest::prop_assert!(!told.arriving.values().flatten().any(newer));
                proptest::prop_assert!(better || !known.undone.contains(&one.arriving.order.id));
            }
        }
    }
}
