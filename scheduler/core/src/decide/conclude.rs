//! What came of a decision, as a plan that has passed the judge, and a report on every service.

use std::collections::BTreeMap;

use sterna_policies::policy::Mode;

use super::Telling;
use super::round::{Outcome, Round};
use crate::assignment::order::Step;
use crate::checker;
use crate::continuum::ServiceName;
use crate::plan::Plan;
use crate::planning;
use crate::report::{Decision, Exclusion, Gain, Hold, NodeOption, Report, ServiceReport, Verdict};

impl Round<'_> {
    pub(super) fn conclude(mut self, outcome: Outcome) -> Decision {
        let evaluator = self.evaluator;
        let before = self.alike.before;
        let brief = self.telling != Telling::Everything;
        let mut plan = Plan {
            state: String::new(),
            moves: Vec::new(),
            before,
            after: before,
            placement: self.observation.placement.clone(),
        };
        let mut of_all = None;
        let mut target = evaluator.now.clone();
        let mut planned = BTreeMap::new();
        if !brief {
            plan.state = self.alike.state();
        }
        match outcome {
            Outcome::Held(hold) => of_all = Some(hold),
            Outcome::Still if brief => self.note_infeasible(&target),
            Outcome::Still => match checker::check(self.observation, self.policy, &plan) {
                Ok(()) => self.note_infeasible(&target),
                Err(finding) => of_all = Some(Hold::Checker { finding: finding.to_string() }),
            },
            Outcome::Way(placed) => match self.alike.judged(&placed, &plan) {
                (judged, None) => {
                    plan = judged.clone();
                    target.clone_from(&placed.target);
                    planned.clone_from(&placed.gains);
                    self.note_infeasible(&target);
                }
                (_, found) => of_all.clone_from(found),
            },
        }
        for (service, hold) in std::mem::take(&mut self.returning) {
            if target[service] == evaluator.now[service] {
                self.held.entry(service).or_default().push(hold);
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
        let makespan = (!plan.moves.is_empty() && !brief).then(|| {
            let step = |service: usize| {
                let (from, to) = (evaluator.now[service] as u32, target[service] as u32);
                Step { item: service as u32, from, to, parks: false }
            };
            let direct: Vec<Step> = self.moved(&target).map(step).collect();
            let width = self.alike.abreast.total;
            planning::makespan(&plan.moves, &direct, width, |service, to| self.takes(service, to))
        });
        let services = self.services(&target, &planned);
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
        let mut standing = std::mem::take(&mut self.standing);
        let placed = self.solver.is_some();
        standing.settle(self.before, evaluator, self.policy, placed);
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
            standing,
        }
    }

    /// Notes the services that stay although they break a rule where they are.
    fn note_infeasible(&mut self, target: &[usize]) {
        let crowds = self.rules.spreads.after(self.evaluator, target);
        for (service, (name, about)) in self.evaluator.services.iter().enumerate() {
            let on = self.evaluator.now[service];
            let ours = self.policy.select.has_service(name.as_str(), &about.labels) && !about.pinned;
            if ours
                && target[service] == on
                && !self.held.contains_key(&service)
                && (self.rules.broken(service, on) > 0
                    || !self.room.would_hold(self.evaluator, target, service, on)
                    || !self.rules.spreads.crowded(&crowds, service, on).is_empty())
            {
                self.held.insert(service, vec![Hold::Infeasible]);
            }
        }
    }

    fn services(&self, target: &[usize], planned: &BTreeMap<usize, Gain>) -> Vec<ServiceReport> {
        if self.policy.mode == Mode::Off {
            return Vec::new();
        }
        let brief = self.telling != Telling::Everything;
        let ideal = if brief { BTreeMap::new() } else { self.alike.gains(&self.ideal) };
        // Those that run have numbers in the same order.
        let mut running = self.evaluator.services.iter().enumerate().peekable();
        let numbered = self.observation.continuum.services.iter().map(|(name, about)| {
            let number =
                running.next_if(|(_, (other, _))| std::ptr::eq(*other, name)).map(|(number, _)| number);
            (name, about, number)
        });
        let quiet =
            |service| target[service] == self.evaluator.now[service] && !self.held.contains_key(&service);
        let told = numbered.filter(|(name, about, number)| {
            !(brief && number.is_some_and(quiet))
                && self.policy.select.has_service(name.as_str(), &about.labels)
        });
        told.map(|(name, _, number)| self.service((name, number), target, [planned, &ideal])).collect()
    }

    fn service(
        &self,
        (name, number): (&ServiceName, Option<usize>),
        target: &[usize],
        [planned, ideal]: [&BTreeMap<usize, Gain>; 2],
    ) -> ServiceReport {
        let evaluator = self.evaluator;
        let Some(service) = number else {
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
        let moves = target[service] != on;
        let told = |node: &usize| match self.telling {
            Telling::Everything => true,
            Telling::Changes => moves,
            Telling::Ends => moves && (*node == on || *node == best),
        };
        let options = (0..evaluator.nodes.len())
            .filter(told)
            .map(|node| {
                let mut excluded_by = self.rules.all(service, node, self.room);
                if node == best && node != on {
                    // Room is made by another move.
                    let made =
                        |rule: &Exclusion| matches!(rule, Exclusion::Capacity | Exclusion::Spread { .. });
                    excluded_by.retain(|rule| !made(rule));
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
