//! What holds of every decision, on small random continua.

#![allow(clippy::unwrap_used, clippy::panic, clippy::filter_map_bool_then, reason = "all of it is test code")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fixture::{exactly, migrated, ms, noon, policy, q, source, term};
use proptest::prelude::*;
use sterna_core::assignment::exact::{Effort, Engine};
use sterna_core::assignment::model::Model;
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::stages::{Means, Stage, minimise};
use sterna_core::checker;
use sterna_core::checker::assignment::{Judgement, judge};
use sterna_core::continuum::*;
use sterna_core::decide::decide_with;
use sterna_core::directive::{Ask, Directive, Directives, Place};
use sterna_core::history::{History, Outcome};
use sterna_core::observation::{Observation, Sample, Source, UnderWay};
use sterna_core::placement::evaluate::Evaluator;
use sterna_core::placement::exclude::Rules;
use sterna_core::placement::model::model;
use sterna_core::placement::room::Room;
use sterna_core::report::{Decision, Hold, Verdict};
use sterna_policies::policy::*;
use sterna_policies::quantity::*;

/// Draws small numbers from random bytes, so that a failing case shrinks.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn below(&mut self, n: u8) -> u8 {
        self.0.next().copied().unwrap_or(0) % n
    }
    fn one_in(&mut self, n: u8) -> bool {
        self.below(n) == n - 1
    }
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.below(of.len() as u8))].clone()
    }
}

fn sites(dice: &mut Dice<'_>) -> BTreeMap<SiteName, Site> {
    (0..=dice.below(3))
        .map(|n| {
            let site = Site {
                tier: dice.pick(&["edge", "fog", "cloud"]).into(),
                region: dice.pick(&["eu", "eu", "us"]).into(),
                price: Price {
                    node: q(dice.pick(&["0USD/h", "0.10USD/h", "0.25USD/h", "0.40USD/h"])),
                    core: q(dice.pick(&["0.01USD/h", "0.02USD/h"])),
                    gib: q(dice.pick(&["0USD/h", "0.005USD/h"])),
                },
                power: Power {
                    idle: q(dice.pick(&["0W", "20W", "60W"])),
                    full: q(dice.pick(&["60W", "100W"])),
                    off_when_empty: !dice.one_in(3),
                },
                carbon: (!dice.one_in(8)).then(|| q(dice.pick(&["50g/kWh", "400g/kWh"]))),
                labels: BTreeMap::new(),
                location: None,
            };
            (SiteName::from(format!("site-{n}")), site)
        })
        .collect()
}

fn world(dice: &mut Dice<'_>) -> Observation {
    let sites = sites(dice);
    let site_names: Vec<SiteName> = sites.keys().cloned().collect();
    let nodes: BTreeMap<NodeName, Node> = (0..=dice.below(4))
        .map(|n| {
            let node = Node {
                site: dice.pick(&site_names),
                cpu: q(dice.pick(&["2", "4"])),
                memory: q(dice.pick(&["2GiB", "4GiB"])),
                drain: dice.one_in(8),
                agent: None,
                kubernetes: None,
            };
            (NodeName::from(format!("node-{n}")), node)
        })
        .collect();
    let node_names: Vec<NodeName> = nodes.keys().cloned().collect();
    let services: BTreeMap<ServiceName, Service> = (0..=dice.below(4))
        .map(|n| {
            let service = Service {
                cpu: q(dice.pick(&["500m", "1", "2"])),
                memory: q(dice.pick(&["256MiB", "1GiB", "2GiB"])),
                pinned: dice.one_in(10),
                labels: BTreeMap::new(),
                run: None,
            };
            (ServiceName::from(format!("service-{n}")), service)
        })
        .collect();
    let users: BTreeMap<UsersName, Users> = (0..dice.below(3))
        .map(|n| {
            let rates = services.keys().filter(|_| !dice.one_in(4)).map(|s| (s.clone(), q("10/s"))).collect();
            let latency =
                site_names.iter().filter(|_| !dice.one_in(4)).map(|s| (s.clone(), q("25ms"))).collect();
            (UsersName::from(format!("users-{n}")), Users { rates, latency, probe: Vec::new() })
        })
        .collect();
    let latency = users
        .keys()
        .map(|name| {
            let mut by_site = BTreeMap::new();
            for site in &site_names {
                if !dice.one_in(24) {
                    by_site.insert(site.clone(), ms(f64::from(1 + dice.below(10)) * 10.0));
                }
            }
            (name.clone(), by_site)
        })
        .collect();
    let placement: Placement = services
        .keys()
        .filter_map(|name| (!dice.one_in(12)).then(|| (name.clone(), dice.pick(&node_names))))
        .collect();
    let under_way: Vec<UnderWay> = placement
        .iter()
        .filter_map(|(service, from)| {
            dice.one_in(10).then(|| UnderWay {
                service: service.clone(),
                from: from.clone(),
                to: dice.pick(&node_names),
            })
        })
        .collect();
    let power = site_names
        .iter()
        .filter_map(|site| {
            dice.one_in(4).then(|| {
                let value = q(dice.pick(&["30W", "80W"]));
                (site.clone(), Sample { value, age: Millis::ZERO, source: Source::Measured })
            })
        })
        .collect();
    let mut directives = Directives::default();
    let mut say = |ask| {
        directives.0.push(Directive { ask, by: "op".into(), at: noon(), reason: None });
    };
    for node in node_names.iter().filter(|_| dice.one_in(12)) {
        say(Ask::Cordon { place: Place::Node(node.clone()) });
    }
    for site in site_names.iter().filter(|_| dice.one_in(12)) {
        say(Ask::Drain { place: Place::Site(site.clone()) });
    }
    for service in services.keys().filter(|_| dice.one_in(12)) {
        say(Ask::OptOut { service: service.clone() });
    }
    if dice.one_in(24) {
        say(Ask::Pause);
    }
    let late = under_way.iter().filter(|_| dice.one_in(3));
    let overdue = late.map(|one| one.service.clone()).collect();
    Observation {
        at: noon(),
        reachable: node_names.iter().filter(|_| !dice.one_in(10)).cloned().collect(),
        continuum: Arc::new(Continuum {
            name: "random".into(),
            sites,
            nodes,
            links: Vec::new(),
            users,
            services,
        }),
        placement,
        latency,
        cpu_use: BTreeMap::new(),
        power,
        price: BTreeMap::new(),
        memory: BTreeMap::new(),
        under_way,
        overdue,
        unknown: Vec::new(),
        directives,
        costs: Default::default(),
    }
}

fn wanted(dice: &mut Dice<'_>) -> Policy {
    let mut metrics = vec![Metric::UserLatency, Metric::CostRate, Metric::Power, Metric::CarbonRate];
    let mut wanted = policy();
    let mut terms = Vec::new();
    for _ in 0..=dice.below(4) {
        let metric = metrics.remove(usize::from(dice.below(metrics.len() as u8)));
        let (level, satisfied) = match metric {
            Metric::UserLatency => (Level::UserLatency(q("10ms")), Level::UserLatency(q("30ms"))),
            Metric::CostRate => (Level::CostRate(q("0.05USD/h")), Level::CostRate(q("0.2USD/h"))),
            Metric::Power => (Level::Power(q("10W")), Level::Power(q("20W"))),
            Metric::CarbonRate | Metric::CpuUse => {
                (Level::CarbonRate(q("1g/h")), Level::CarbonRate(q("5g/h")))
            }
        };
        let tolerance = dice.pick(&[
            Tolerance::Relative(Percent::ZERO),
            Tolerance::Relative(q("10%")),
            Tolerance::Absolute(level),
        ]);
        terms.push(Term { satisfied_at: dice.one_in(4).then_some(satisfied), ..term(metric, tolerance) });
    }
    wanted.objective = if dice.one_in(4) {
        let price = |metric: Metric| q(if metric == Metric::UserLatency { "0.001USD/h" } else { "0.5USD/h" });
        let terms =
            terms.iter().map(|one| PricedTerm { metric: one.metric, price: price(one.metric) }).collect();
        Objective::Priced { terms }
    } else {
        Objective::Lexicographic { terms }
    };
    if dice.one_in(4) {
        wanted.constraints.max.insert(Metric::UserLatency, Level::UserLatency(q("40ms")));
    }
    if dice.one_in(6) {
        wanted.constraints.max.insert(Metric::CostRate, Level::CostRate(q("0.2USD/h")));
    }
    if dice.one_in(6) {
        wanted.constraints.tiers = vec!["edge".into(), "cloud".into()];
    }
    if dice.one_in(8) {
        wanted.constraints.regions = vec!["eu".into()];
    }
    if dice.one_in(4) {
        wanted.constraints.min_free = q("25%");
    }
    if dice.one_in(8) {
        wanted.select.exclude_sites = vec!["site-1".into()];
    }
    wanted.hysteresis.min_gain = q(dice.pick(&["0%", "0%", "10%", "40%"]));
    wanted.budget.concurrent = u32::from(1 + dice.below(3));
    let what = dice.pick(&[OnMissing::Hold, OnMissing::ExcludeSite, OnMissing::Modelled]);
    wanted.metrics.insert(Metric::UserLatency, source(SourceUnit::Seconds, what));
    if dice.one_in(4) {
        wanted.metrics.insert(Metric::Power, source(SourceUnit::Watts, what));
    }
    wanted
}

fn any_case() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 200)
}

fn case(bytes: &[u8]) -> (Observation, Policy, History) {
    let mut dice = Dice(bytes.iter());
    let observation = world(&mut dice);
    let wanted = wanted(&mut dice);
    let history = if dice.one_in(3) { migrated(30, "node-0", Outcome::Moved) } else { History::default() };
    (observation, wanted, history)
}

fn decided(bytes: &[u8]) -> (Observation, Policy, Decision) {
    let (observation, wanted, history) = case(bytes);
    let decision = sterna_core::decide(&observation, &wanted, &history, noon(), 1);
    (observation, wanted, decision)
}

/// Every way to put items on bins of their lists.
fn assignments(model: &Model) -> Vec<Vec<u32>> {
    model.items.iter().fold(vec![Vec::new()], |all, item| {
        let mut bins = item.bins.clone().unwrap_or_default();
        bins.push(item.now);
        bins.sort_unstable();
        bins.dedup();
        all.iter().flat_map(|start| bins.iter().map(|bin| [&start[..], &[*bin]].concat())).collect()
    })
}

fn agrees_with_brute_force(bytes: &[u8], engine: Engine) -> Result<(), TestCaseError> {
    let (observation, wanted, _) = case(bytes);
    let evaluator = Evaluator::new(&observation, &wanted);
    let rules = Rules::new(&observation, &wanted, &evaluator);
    let room = Room::new(&evaluator, &wanted);
    let all: BTreeSet<usize> = (0..evaluator.services.len()).collect();
    let model = model(&evaluator, &rules, &room, &wanted, &all, &BTreeSet::new());
    let problem = Problem::new(&model).unwrap();
    let effort = Effort { engine, seed: 1, work: u64::MAX, seconds: 10.0 };
    let means =
        Means { effort, largest: 300, small: 300, searches: 1, proposals: 100_000, bounding: 1 << 28 };
    let staged = minimise(&model, &problem, means).map_err(|error| TestCaseError::fail(error.to_string()))?;

    let judged = |at: Vec<u32>| (judge(&model, &at), at);
    let mut left: Vec<(Judgement, Vec<u32>)> = assignments(&model).into_iter().map(judged).collect();
    left.retain(|(judgement, _)| judgement.holds());
    prop_assert!(left.iter().any(|(_, at)| *at == model.now()), "staying is always possible");
    let mut best = Vec::new();
    for (number, objective) in model.objectives.iter().enumerate() {
        let least = left.iter().map(|(judgement, _)| judgement.values[number]).min().unwrap();
        let worst = objective.tolerance.worst(i64::try_from(least).unwrap());
        left.retain(|(judgement, _)| judgement.values[number] <= i128::from(worst));
        best.push(least);
    }
    let reached: Vec<i128> = staged.stages.iter().map(|stage| stage.value.into()).collect();
    prop_assert_eq!(&reached, &best);
    prop_assert!(left.iter().any(|(_, at)| *at == staged.at));
    prop_assert!(staged.stages.iter().all(Stage::proved));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Stage by stage the solver finds what trying every placement finds.
    #[test]
    fn the_solver_finds_the_best(bytes in any_case()) {
        agrees_with_brute_force(&bytes, Engine::built_in())?;
    }

    /// So does the solver for tiny models.
    #[test]
    fn microlp_finds_the_best(bytes in any_case()) {
        agrees_with_brute_force(&bytes, Engine::Microlp)?;
    }

    /// The checker finds nothing to object to in any plan: `decide` asks it, and it is asked again.
    #[test]
    fn every_plan_passes_the_checker(bytes in any_case()) {
        let (observation, wanted, decision) = decided(&bytes);
        if let Verdict::Held { by } = &decision.report.verdict {
            for hold in by {
                prop_assert!(!matches!(hold, Hold::Checker { .. } | Hold::Solver { .. }), "{hold}");
            }
        }
        prop_assert_eq!(checker::check(&observation, &wanted, &decision.plan), Ok(()));
        prop_assert_eq!(decision.plan.moves.is_empty(), decision.report.verdict != Verdict::Move);
    }

    /// The same inputs give the same bytes, and both solvers plans of the same worth.
    #[test]
    fn decisions_are_deterministic(bytes in any_case()) {
        let (observation, wanted, history) = case(&bytes);
        let text = |engine| {
            let decision = decide_with(&observation, &wanted, &history, noon(), 1, engine);
            serde_json::to_string(&decision).unwrap()
        };
        prop_assert_eq!(text(Engine::built_in()), text(Engine::built_in()));
    }

    /// The first term never gets worse but to mend a rule or to relieve a node, and a plan that is carried out leaves nothing to be done.
    #[test]
    fn plans_converge(bytes in any_case()) {
        let (mut observation, mut wanted, _) = case(&bytes);
        wanted.objective = fixture::lexicographic(vec![exactly(Metric::CostRate), exactly(Metric::Power)]);
        wanted.constraints.max.clear();
        observation.under_way.clear();
        observation.power.clear();
        observation.directives = Directives::default();
        let first = sterna_core::decide(&observation, &wanted, &History::default(), noon(), 1);
        let free = i128::from(wanted.constraints.min_free.as_micros());
        let beyond = observation.continuum.nodes.iter().any(|(name, node)| {
            let on = observation.placement.iter().filter(|(_, on)| *on == name);
            let (cpu, memory) = on
                .filter_map(|(service, _)| observation.continuum.services.get(service))
                .map(|it| (i128::from(it.cpu.as_micros()), i128::from(it.memory.0)))
                .fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
            let over = |used: i128, size: i128| used * 100_000_000 > size * (100_000_000 - free);
            over(cpu, node.cpu.as_micros().into()) || over(memory, node.memory.0.into())
        });
        let mends = beyond
            || observation.continuum.nodes.values().any(|node| node.drain)
            || !wanted.constraints.tiers.is_empty()
            || !wanted.constraints.regions.is_empty();
        if !mends {
            prop_assert!(first.plan.after.cost_rate <= first.plan.before.cost_rate);
        }
        let held = first.report.services.iter().any(|service| !service.held_by.is_empty());
        if !held {
            observation.placement = first.plan.placement.clone();
            let second = sterna_core::decide(&observation, &wanted, &History::default(), noon(), 1);
            prop_assert!(second.plan.moves.is_empty(), "{:?} then {:?}", first.plan.moves, second.plan.moves);
        }
    }

    /// Whatever is missing, there is an answer.
    #[test]
    fn missing_data_is_no_reason_to_panic(bytes in any_case(), gone in any::<u16>()) {
        let (mut observation, mut wanted, history) = case(&bytes);
        let is_gone = |bit: u16| gone & (1 << bit) != 0;
        if is_gone(0) { Arc::make_mut(&mut observation.continuum).sites.clear(); }
        if is_gone(1) { Arc::make_mut(&mut observation.continuum).nodes.clear(); }
        if is_gone(2) { Arc::make_mut(&mut observation.continuum).services.clear(); }
        if is_gone(3) { Arc::make_mut(&mut observation.continuum).users.clear(); }
        if is_gone(4) { observation.placement.clear(); }
        if is_gone(5) { observation.reachable.clear(); }
        if is_gone(6) { observation.latency.clear(); }
        if is_gone(7) { wanted.metrics.clear(); }
        if is_gone(8) { wanted.objective = Objective::Lexicographic { terms: Vec::new() }; }
        if is_gone(9) { wanted.budget.concurrent = 0; }
        if is_gone(10) { for node in Arc::make_mut(&mut observation.continuum).nodes.values_mut() { node.cpu = Cores::ZERO; } }
        if is_gone(11) { observation.placement.insert("nobody".into(), "nowhere".into()); }
        if is_gone(12) {
            for service in Arc::make_mut(&mut observation.continuum).services.values_mut() { service.memory = Bytes(u64::MAX); }
        }
        let decision = sterna_core::decide(&observation, &wanted, &history, noon(), 1);
        prop_assert!(!sterna_core::explain::text(&decision).is_empty());
        if let Verdict::Held { by } = &decision.report.verdict {
            prop_assert!(!by.iter().any(|hold| matches!(hold, Hold::Checker { .. })), "{by:?}");
        }
    }
}
