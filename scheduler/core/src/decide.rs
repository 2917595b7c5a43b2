//! The one function that ties everything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_policies::policy::{Mode, OnMissing, Policy};
use sterna_policies::quantity::Millis;

use crate::assignment::exact::{Effort, Engine, MICROLP_COLUMNS};
use crate::assignment::model::Model;
use crate::assignment::order::Step;
use crate::assignment::problem::Problem;
use crate::assignment::stages::{self, Means, Staged};
use crate::assignment::state::State;
use crate::checker;
use crate::continuum::ServiceName;
use crate::history::History;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::model;
use crate::placement::numbers::on_missing;
use crate::placement::room::Room;
use crate::plan::Plan;
use crate::planning::{self, Way};
use crate::report::{
    Decision, Exclusion, Gain, Hold, NodeOption, Reached, Report, ServiceReport, SolverReport, Verdict,
};
use crate::state;
use crate::{gain, gate};

/// Seconds for exact answers. Reaching them makes an answer depend on the machine's speed; the report then says that the answer
/// is not proved.
const SECONDS: f64 = 10.0;
/// The largest program that the solver is given, in columns. In the machine reassignment challenge HiGHS comes close to the best
/// with 12,000, and with 52,000 finds no improvement in five minutes.
const LARGEST: usize = 20_000;
/// The largest that it is given without a search before, in columns.
const SMALL: usize = 2_000;
/// Searches side by side, and proposals of each for each objective: some seconds.
const SEARCH: (u32, u64) = (2, 4_000_000);
/// Numbers that are looked at to bound each objective: about a second.
const BOUNDING: u64 = 1 << 28;
/// So many places without a way to them are given up one by one.
const BARRED: usize = 16;

/// Decides what to move, and says why.
///
/// The same arguments give the same bytes, in the simulator as in production, unless the solver's time runs out. On other
/// machines too where nothing is searched; a search takes logarithms, whose last digit is the platform's. Of the policy's modes only
/// [`Mode::Off`] makes a difference here; how far a plan may go is its carrier's to honour. Every plan has passed the
/// [`checker`].
pub fn decide(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
    seed: u64,
) -> Decision {
    decide_with(observation, policy, history, now, seed, Engine::built_in())
}

/// [`decide`] with a solver of choice.
pub fn decide_with(
    observation: &Observation,
    policy: &Policy,
    history: &History,
    now: Timestamp,
    seed: u64,
    engine: Engine,
) -> Decision {
    let evaluator = Evaluator::new(observation, policy);
    let mut round = Round {
        observation,
        policy,
        history,
        now,
        rules: Rules::new(observation, policy, &evaluator),
        room: Room::new(&evaluator, policy),
        evaluator: &evaluator,
        held: BTreeMap::new(),
        waiting: BTreeSet::new(),
        ideal: evaluator.now.clone(),
        solver: None,
    };
    if policy.mode == Mode::Off {
        return round.conclude(Outcome::Held(Hold::PolicyOff));
    }
    let outcome = round.place(engine, seed);
    round.conclude(outcome)
}

/// What placement and planning came to.
enum Outcome {
    /// A rule holds the whole decision.
    Held(Hold),
    /// An assignment and the way to it.
    Waves(Vec<usize>, Vec<Vec<Step>>),
}

struct Round<'a> {
    observation: &'a Observation,
    policy: &'a Policy,
    history: &'a History,
    now: Timestamp,
    evaluator: &'a Evaluator<'a>,
    rules: Rules<'a>,
    room: Room,
    /// Rules that hold single services, by number.
    held: BTreeMap<usize, Vec<Hold>>,
    /// Services for which there was no way to where they should go.
    waiting: BTreeSet<usize>,
    /// The best placement before rules of time, gain and order.
    ideal: Vec<usize>,
    solver: Option<SolverReport>,
}

impl Round<'_> {
    /// The services of the policy that may move as far as the observation goes. Notes why others may not.
    fn movable(&mut self) -> Result<BTreeSet<usize>, Hold> {
        let evaluator = self.evaluator;
        let mut movable = BTreeSet::new();
        for (service, (name, about)) in evaluator.services.iter().enumerate() {
            if !self.policy.select.has_service(name.as_str()) {
                continue;
            }
            let on = evaluator.now[service];
            if self.observation.under_way.iter().any(|moving| moving.service == **name) {
                self.held.entry(service).or_default().push(Hold::UnderWay);
            } else if !self.rules.reachable(on) {
                self.held.entry(service).or_default().push(Hold::NotRunning);
            } else if !about.pinned {
                if let Some(hold) = self.blind(service)? {
                    self.held.entry(service).or_default().push(hold);
                } else {
                    movable.insert(service);
                }
            }
        }
        Ok(movable)
    }

    /// What is missing for a service: `Err` where it holds the whole decision, `Ok(Some)` where it holds this service.
    fn blind(&self, service: usize) -> Result<Option<Hold>, Hold> {
        let here = self.evaluator.now[service];
        let mut hold = None;
        for node in 0..self.evaluator.nodes.len() {
            let missing = self.evaluator.missing(service, node);
            let by_rule = |rule: &Exclusion| !matches!(rule, Exclusion::MetricMissing { .. });
            if missing.is_empty()
                || (node != here && self.rules.exclusions(service, node).iter().any(by_rule))
            {
                continue;
            }
            for metric in missing {
                let found = Hold::MetricsMissing { metric: *metric };
                match on_missing(self.policy, *metric) {
                    OnMissing::Hold | OnMissing::Modelled => return Err(found),
                    // It can't be moved to; without its value here, no gain can be told either.
                    OnMissing::ExcludeSite if node == here => hold = Some(found),
                    OnMissing::ExcludeSite => {}
                }
            }
        }
        Ok(hold)
    }

    /// Solves, gates and orders; what a rule holds is fixed where it is, places without a way to them are given up, and the
    /// rest is solved again.
    fn place(&mut self, engine: Engine, seed: u64) -> Outcome {
        let mut free = match self.movable() {
            Ok(movable) => movable,
            Err(hold) => return Outcome::Held(hold),
        };
        let evaluator = self.evaluator;
        let width = self.width();
        let mut barred = BTreeSet::new();
        loop {
            let model = model::model(evaluator, &self.rules, &self.room, self.policy, &free, &barred);
            let failed =
                |error: &dyn std::error::Error| Outcome::Held(Hold::Solver { message: error.to_string() });
            let problem = match Problem::new(&model) {
                Ok(problem) => problem,
                Err(invalid) => return failed(&invalid),
            };
            let staged = match stages::minimise(&model, &problem, means(engine, seed)) {
                Ok(staged) => staged,
                Err(error) => return failed(&error),
            };
            let services = &staged.at[..evaluator.services.len()];
            let target: Vec<usize> = services.iter().map(|node| *node as usize).collect();
            if self.solver.is_none() {
                self.ideal.clone_from(&target);
            }
            self.solver = Some(found(engine, &model, &staged, self.solver.as_ref()));
            let mut holds = self.holds(&target);
            if holds.is_empty() && width == 0 {
                let limit = self.policy.budget.concurrent;
                holds =
                    self.moved(&target).map(|service| (service, vec![Hold::Concurrent { limit }])).collect();
            }
            if holds.is_empty() {
                // What it costs to let a service go once more than needed.
                let takes = |(service, to): (usize, &usize)| self.takes(service, *to).as_micros();
                let costs: Vec<i64> = target.iter().enumerate().map(takes).collect();
                let Way { waves, unreachable } = match planning::way(&model, &target, &costs, width) {
                    Ok(way) => way,
                    Err(invalid) => return failed(&invalid),
                };
                if unreachable.is_empty() {
                    return Outcome::Waves(target, waves);
                }
                self.waiting.extend(unreachable.iter().map(|(service, _)| *service));
                if barred.len() < BARRED {
                    barred.extend(least_worth(&problem, &staged.at, &unreachable));
                    continue;
                }
                holds = unreachable.iter().map(|(service, _)| (*service, vec![Hold::NoRoom])).collect();
            }
            // At least one service less is free in the next turn.
            for (service, holds) in holds {
                free.remove(&service);
                self.held.entry(service).or_default().extend(holds);
            }
        }
    }

    /// How many moves may be under way at one time, those that are under way already left aside.
    fn width(&self) -> usize {
        let concurrent = usize::try_from(self.policy.budget.concurrent).unwrap_or(usize::MAX);
        concurrent.saturating_sub(self.observation.under_way.len())
    }

    /// The services that a placement moves.
    fn moved<'t>(&'t self, target: &'t [usize]) -> impl Iterator<Item = usize> + 't {
        (0..target.len()).filter(|service| target[*service] != self.evaluator.now[*service])
    }

    /// The rules of time and gain that hold services that a placement moves.
    fn holds(&self, target: &[usize]) -> BTreeMap<usize, Vec<Hold>> {
        let evaluator = self.evaluator;
        let mut holds: BTreeMap<usize, Vec<Hold>> = BTreeMap::new();
        for service in self.moved(target) {
            let (name, on) = (evaluator.services[service].0, evaluator.nodes[evaluator.now[service]].0);
            let resting = gate::resting(self.history, self.policy, name, on, self.now);
            if !resting.is_empty() {
                holds.insert(service, resting);
            }
        }
        if holds.is_empty() {
            let gains = self.gains(target);
            holds = gate::too_weak(evaluator, &self.rules, &self.room, self.policy, target, &gains);
        }
        holds
    }

    /// What a placement's moves gain.
    fn gains(&self, target: &[usize]) -> BTreeMap<usize, Gain> {
        gain::gains(self.observation, self.evaluator, self.policy, target)
    }

    /// How long it is predicted to take to move a service from where it is to a node.
    fn takes(&self, service: usize, to: usize) -> Millis {
        let ends = (self.evaluator.now[service], to);
        planning::cost(self.observation, self.evaluator, self.policy, service, ends).duration
    }

    fn conclude(mut self, outcome: Outcome) -> Decision {
        let evaluator = self.evaluator;
        let before = evaluator.effect(&evaluator.now);
        let mut plan = Plan {
            state: state::hash(self.observation),
            moves: Vec::new(),
            before,
            after: before,
            placement: self.observation.placement.clone(),
        };
        let mut of_all = None;
        let mut target = evaluator.now.clone();
        match outcome {
            Outcome::Held(hold) => of_all = Some(hold),
            Outcome::Waves(assignment, waves) => {
                let candidate = Plan {
                    moves: planning::moves(self.observation, evaluator, self.policy, &waves),
                    after: evaluator.effect(&assignment),
                    placement: evaluator.placement(self.observation, &assignment),
                    ..plan.clone()
                };
                match checker::check(self.observation, self.policy, &candidate) {
                    Ok(()) => {
                        plan = candidate;
                        target = assignment;
                        self.note_infeasible(&target);
                    }
                    Err(finding) => of_all = Some(Hold::Checker { finding: finding.to_string() }),
                }
            }
        }
        for service in std::mem::take(&mut self.waiting) {
            if target[service] == evaluator.now[service] {
                let holds = self.held.entry(service).or_default();
                if !holds.contains(&Hold::NoRoom) {
                    holds.push(Hold::NoRoom);
                }
            }
        }
        let makespan = (!plan.moves.is_empty()).then(|| {
            let step = |service: usize| {
                let (from, to) = (evaluator.now[service] as u32, target[service] as u32);
                Step { item: service as u32, from, to, parks: false }
            };
            let direct: Vec<Step> = self.moved(&target).map(step).collect();
            planning::makespan(&plan.moves, &direct, self.width(), |service, to| self.takes(service, to))
        });
        let services = self.services(&target);
        let mut by: Vec<Hold> = of_all.into_iter().collect();
        for hold in services.iter().flat_map(|service| &service.held_by) {
            if !by.contains(hold) {
                by.push(hold.clone());
            }
        }
        let verdict = match (plan.moves.is_empty(), by.is_empty()) {
            (false, _) => Verdict::Move,
            (true, true) => Verdict::Stay,
            (true, false) => Verdict::Held { by },
        };
        let mut unknown = self.observation.unknown.clone();
        unknown.extend(evaluator.unknown.iter().cloned());
        Decision {
            plan,
            report: Report {
                policy: self.policy.name.clone(),
                verdict,
                services,
                solver: self.solver,
                makespan,
                unknown,
            },
        }
    }

    /// Notes the services that stay although they break a rule where they are.
    fn note_infeasible(&mut self, target: &[usize]) {
        for (service, (name, about)) in self.evaluator.services.iter().enumerate() {
            let on = self.evaluator.now[service];
            let ours = self.policy.select.has_service(name.as_str()) && !about.pinned;
            if ours
                && target[service] == on
                && !self.held.contains_key(&service)
                && self.rules.broken(service, on) > 0
            {
                self.held.insert(service, vec![Hold::Infeasible]);
            }
        }
    }

    fn services(&self, target: &[usize]) -> Vec<ServiceReport> {
        if self.policy.mode == Mode::Off {
            return Vec::new();
        }
        let (planned, ideal) = (self.gains(target), self.gains(&self.ideal));
        let selected = self
            .observation
            .continuum
            .services
            .keys()
            .filter(|name| self.policy.select.has_service(name.as_str()));
        selected.map(|name| self.service(name, target, [&planned, &ideal])).collect()
    }

    fn service(
        &self,
        name: &ServiceName,
        target: &[usize],
        [planned, ideal]: [&BTreeMap<usize, Gain>; 2],
    ) -> ServiceReport {
        let evaluator = self.evaluator;
        let Some(service) = evaluator.services.iter().position(|(other, _)| *other == name) else {
            return ServiceReport {
                service: name.clone(),
                on: self.observation.placement.get(name).cloned(),
                best: None,
                gain: None,
                held_by: vec![Hold::NotRunning],
                options: Vec::new(),
            };
        };
        let on = evaluator.now[service];
        // Where it goes, or where it would go but for the rules that hold it.
        let (best, gains) = match self.held.contains_key(&service) {
            true => (self.ideal[service], ideal),
            false => (target[service], planned),
        };
        let options = (0..evaluator.nodes.len())
            .map(|node| {
                let mut excluded_by = self.rules.all(service, node, &self.room);
                if node == best && node != on {
                    // Room is made by another move.
                    excluded_by.retain(|rule| *rule != Exclusion::Capacity);
                }
                NodeOption {
                    node: evaluator.nodes[node].0.clone(),
                    effect: evaluator.effect_on(service, node),
                    modelled: evaluator.modelled(service, node).iter().copied().collect(),
                    excluded_by,
                }
            })
            .collect();
        ServiceReport {
            service: name.clone(),
            on: Some(evaluator.nodes[on].0.clone()),
            best: Some(evaluator.nodes[best].0.clone()),
            gain: gains.get(&service).copied(),
            held_by: self.held.get(&service).cloned().unwrap_or_default(),
            options,
        }
    }
}

fn means(engine: Engine, seed: u64) -> Means {
    let largest = if engine == Engine::Microlp { MICROLP_COLUMNS } else { LARGEST };
    let effort = Effort { engine, seed, seconds: SECONDS };
    Means { effort, largest, small: SMALL, searches: SEARCH.0, proposals: SEARCH.1, bounding: BOUNDING }
}

/// Of services without a way to where they should go the one that loses least by staying, with that place.
fn least_worth(problem: &Problem, target: &[u32], unreachable: &[(usize, usize)]) -> Option<(usize, usize)> {
    let mut state = State::new(problem, target);
    let mut without = |service: usize| {
        state.go(service, problem.now[service]);
        let values = state.values().to_vec();
        state.go(service, target[service]);
        values
    };
    unreachable.iter().copied().min_by_key(|(service, _)| without(*service))
}

/// How a placement was found, after those that were found before it.
fn found(engine: Engine, model: &Model, staged: &Staged, before: Option<&SolverReport>) -> SolverReport {
    let (solved, searched) = (
        staged.stages.iter().any(|stage| stage.program.is_some()),
        staged.stages.iter().any(|stage| stage.searched),
    );
    let by = [solved.then(|| engine.to_string()), searched.then(|| "search".to_owned())];
    let by: Vec<String> = by.into_iter().flatten().collect();
    let of_now = if by.is_empty() { "none".to_owned() } else { by.join(" and ") };
    let (columns, rows) = staged.stages.iter().rev().find_map(|stage| stage.program).unwrap_or_default();
    let models = staged.stages.iter().filter(|stage| stage.program.is_some() || stage.searched).count();
    let proved = staged.stages.iter().all(stages::Stage::proved);
    let reached = model.objectives.iter().zip(&staged.stages).map(|(objective, stage)| Reached {
        name: objective.name.clone(),
        value: stage.value,
        bound: i64::try_from(stage.bound).unwrap_or(i64::MIN).min(stage.value),
    });
    SolverReport {
        engine: before.map_or(of_now, |before| before.engine.clone()),
        columns: before.map_or(columns, |before| before.columns),
        rows: before.map_or(rows, |before| before.rows),
        models: models + before.map_or(0, |before| before.models),
        proved: proved && before.is_none_or(|before| before.proved),
        objectives: reached.collect(),
    }
}
