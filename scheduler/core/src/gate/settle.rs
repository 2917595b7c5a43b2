//! Numbers that a migration has disturbed: it loads processors and links at both ends itself, and what is measured there
//! meanwhile and shortly after speaks of the migration and not of the place.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_policies::policy::{Metric, Policy};
use sterna_policies::quantity::Millis;

use crate::continuum::{NodeName, SiteName};
use crate::history::{History, Outcome, left};
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::room::Room;
use crate::report::{Exclusion, Hold};

/// The sites whose numbers decide nothing now, with the time for which that goes on; `None` while a migration is under way there.
pub fn disturbed(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
) -> BTreeMap<SiteName, Option<Millis>> {
    let settle = policy.trigger.settle;
    let mut disturbed = BTreeMap::new();
    // Prices, and what the grid emits, a migration doesn't change.
    let measured = [Metric::UserLatency, Metric::CpuUse, Metric::Power];
    if settle == Millis::ZERO || !measured.iter().any(|metric| policy.metrics.contains_key(metric)) {
        return disturbed;
    }
    let site = |node: &NodeName| observation.continuum.nodes.get(node).map(|node| node.site.clone());
    // What was refused has touched nothing.
    let past = history.migrations.values().flatten().filter(|past| past.outcome != Outcome::Refused);
    for past in past {
        let Some(left) = left(past.ended, settle, now) else { continue };
        for site in [&past.from, &past.to].into_iter().filter_map(site) {
            let longest = disturbed.entry(site).or_insert(Some(left));
            *longest = (*longest).max(Some(left));
        }
    }
    for moving in observation.counted() {
        disturbed.extend([&moving.from, &moving.to].into_iter().filter_map(site).map(|site| (site, None)));
    }
    disturbed
}

/// The services that would leave or reach a [disturbed] site, of those that an assignment moves. What can be told without the
/// numbers is mended all the same: drained nodes, wrong tiers and regions, nodes beyond their limits, and places where too many of a group are.
pub fn settling(
    evaluator: &Evaluator<'_>,
    (rules, room): (&Rules<'_>, &Room),
    disturbed: &BTreeMap<SiteName, Option<Millis>>,
    target: &[usize],
    mending: &BTreeSet<usize>,
) -> BTreeMap<usize, Hold> {
    let unmeasured =
        |rule: &Exclusion| matches!(rule, Exclusion::Draining | Exclusion::Tier | Exclusion::Region);
    let mends = |service: usize| {
        let here = evaluator.now[service];
        mending.contains(&service)
            && (room.is_beyond(here)
                || rules.exclusions(service, here).iter().any(unmeasured)
                || !rules.spreads.crowded(rules.spreads.now(), service, here).is_empty())
    };
    let hold = |service: usize| {
        let ends = [evaluator.now[service], target[service]];
        let sites = ends.map(|node| &evaluator.nodes[node].1.site);
        let (site, left) = sites.into_iter().find_map(|site| disturbed.get_key_value(site))?;
        Some((service, Hold::Settling { site: site.clone(), left: *left }))
    };
    let moved = (0..target.len()).filter(|service| target[*service] != evaluator.now[*service]);
    moved.filter(|service| !mends(*service)).filter_map(hold).collect()
}
