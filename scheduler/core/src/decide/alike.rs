//! What policies have in common that want and allow the same of one observation, and differ in how soon, how often and for how
//! much gain they let services move: everything is read, placed, gained, ordered and judged once for all of them.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sterna_policies::policy::{OnMissing, Policy};

use super::solving::means;
use super::{Asked, Telling};
use crate::assignment::model::Model;
use crate::assignment::problem::Problem;
use crate::assignment::stages::{self, Staged};
use crate::assignment::validity::Invalid;
use crate::checker;
use crate::gain;
use crate::gate;
use crate::observation::Observation;
use crate::placement::evaluate::Evaluator;
use crate::placement::exclude::Rules;
use crate::placement::model::Question;
use crate::placement::numbers::{needed, on_missing};
use crate::placement::room::Room;
use crate::plan::{Effect, Plan};
use crate::planning::abreast::Abreast;
use crate::planning::{self, Way};
use crate::report::{Exclusion, Gain, Hold};
use crate::state;

/// Services that may move, by number, and why others may not.
pub(super) type Movable = (BTreeSet<usize>, BTreeMap<usize, Hold>);

/// Places that are out of reach, by service and node.
pub(super) type Out = BTreeSet<(usize, usize)>;

/// Services that may move, and places that are out of reach.
type Posed = (BTreeSet<usize>, Out);

pub(super) struct Alike<'a> {
    pub(super) observation: &'a Observation,
    pub(super) evaluator: &'a Evaluator<'a>,
    pub(super) rules: &'a Rules<'a>,
    pub(super) room: Room,
    pub(super) abreast: Abreast<'a>,
    pub(super) asked: Asked<'a>,
    /// What everything is worth as it is.
    pub(super) before: Effect,
    /// One of them: in all that is read of it here they are alike.
    policy: &'a Policy,
    movable: OnceCell<Result<Movable, Hold>>,
    question: OnceCell<Question<'a>>,
    placed: RefCell<BTreeMap<Posed, Rc<Placed>>>,
    state: OnceCell<String>,
}

/// A placement of the services that may move, and what comes of it whoever asks.
pub(super) struct Placed {
    pub(super) model: Model,
    pub(super) staged: Staged,
    /// The node of each service.
    pub(super) target: Vec<usize>,
    pub(super) gains: BTreeMap<usize, Gain>,
    /// Services whose moves mend what is broken.
    pub(super) mending: BTreeSet<usize>,
    way: OnceCell<Result<Way, Invalid>>,
    judged: OnceCell<(Plan, Option<Hold>)>,
}

/// Whether two policies want and allow the same, so that both ask for the same placements of what they see.
pub(super) fn are_alike(one: &Policy, other: &Policy) -> bool {
    one.select == other.select
        && one.objective == other.objective
        && one.constraints == other.constraints
        && one.budget == other.budget
        && one.metrics == other.metrics
        && one.migration == other.migration
        && needed(one) == needed(other)
}

impl<'a> Alike<'a> {
    pub(super) fn new(
        observation: &'a Observation,
        policy: &'a Policy,
        (evaluator, rules): (&'a Evaluator<'a>, &'a Rules<'a>),
        asked: Asked<'a>,
    ) -> Self {
        Self {
            observation,
            evaluator,
            rules,
            room: Room::new(evaluator, policy),
            abreast: Abreast::new(observation, evaluator, &policy.budget),
            asked,
            before: evaluator.effect(&evaluator.now),
            policy,
            movable: OnceCell::new(),
            question: OnceCell::new(),
            placed: RefCell::default(),
            state: OnceCell::new(),
        }
    }

    /// The hash of the state that plans are made from.
    pub(super) fn state(&self) -> String {
        self.state.get_or_init(|| state::hash(self.observation)).clone()
    }

    /// The services of the policy that may move as far as the observation goes, and why others may not; or why nothing may.
    pub(super) fn movable(&self) -> Result<&Movable, Hold> {
        self.movable.get_or_init(|| self.find_movable()).as_ref().map_err(Clone::clone)
    }

    fn find_movable(&self) -> Result<Movable, Hold> {
        let (mut movable, mut held) = (BTreeSet::new(), BTreeMap::new());
        for service in 0..self.evaluator.services.len() {
            let hold = match self.rules.may_move(service) {
                Ok(false) => continue,
                Ok(true) => self.blind(service)?,
                Err(hold) => Some(hold),
            };
            if let Some(hold) = hold {
                held.insert(service, hold);
            } else {
                movable.insert(service);
            }
        }
        Ok((movable, held))
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

    /// The best placement of the services of `free`, with places out of reach.
    pub(super) fn placed(
        &self,
        free: &BTreeSet<usize>,
        out: &Out,
    ) -> Result<Rc<Placed>, Box<dyn std::error::Error>> {
        let key = (free.clone(), out.clone());
        if let Some(placed) = self.placed.borrow().get(&key) {
            return Ok(Rc::clone(placed));
        }
        let (evaluator, Asked { engine, seed, memo, .. }) = (self.evaluator, self.asked);
        let question = self.question.get_or_init(|| {
            // Nobody asks where nothing may move.
            let movable = self.movable().map(|(movable, _)| movable.clone()).unwrap_or_default();
            Question::new(evaluator, self.rules, &self.room, self.policy, &movable)
        });
        let model = question.model(free, out);
        let find = || -> Result<Staged, Box<dyn std::error::Error>> {
            let problem = Problem::new(&model)?;
            Ok(stages::minimise(&model, &problem, means(engine, seed))?)
        };
        let staged = match memo {
            Some(memo) => memo.placement(&model, seed, find)?,
            None => find()?,
        };
        let services = &staged.at[..evaluator.services.len()];
        let target: Vec<usize> = services.iter().map(|node| *node as usize).collect();
        let gains = self.gains(&target);
        let mending = gate::mending(evaluator, self.rules, &self.room, &target, &gains);
        let (way, judged) = (OnceCell::new(), OnceCell::new());
        let placed = Rc::new(Placed { model, staged, target, gains, mending, way, judged });
        self.placed.borrow_mut().insert(key, Rc::clone(&placed));
        Ok(placed)
    }

    /// What a placement's moves gain.
    pub(super) fn gains(&self, target: &[usize]) -> BTreeMap<usize, Gain> {
        gain::gains(self.observation, self.evaluator, self.policy, target)
    }

    /// The way to a placement.
    pub(super) fn way<'p>(&self, placed: &'p Placed) -> Result<&'p Way, Invalid> {
        let find = || {
            // What it costs to let a service go once more than needed. Nobody asks of those that stay.
            let takes = |(service, to): (usize, &usize)| {
                let ends = (self.evaluator.now[service], *to);
                if ends.0 == ends.1 {
                    return 0;
                }
                let cost = planning::cost(self.observation, self.evaluator, self.policy, service, ends);
                cost.duration.as_micros()
            };
            let costs: Vec<i64> = placed.target.iter().enumerate().map(takes).collect();
            planning::way(&placed.model, &placed.target, &costs, &self.abreast)
        };
        placed.way.get_or_init(find).as_ref().map_err(Clone::clone)
    }

    /// The plan of a placement's way, and what the judge has against it.
    pub(super) fn judged<'p>(&self, placed: &'p Placed, still: &Plan) -> &'p (Plan, Option<Hold>) {
        placed.judged.get_or_init(|| {
            let waves = placed.way.get().and_then(|way| way.as_ref().ok()).map(|way| way.waves.as_slice());
            let plan = Plan {
                moves: planning::moves(
                    self.observation,
                    self.evaluator,
                    self.policy,
                    waves.unwrap_or_default(),
                ),
                after: self.evaluator.effect(&placed.target),
                placement: self.evaluator.placement(self.observation, &placed.target),
                ..still.clone()
            };
            let check =
                if self.asked.telling == Telling::Everything { checker::check } else { checker::check_fresh };
            let finding = check(self.observation, self.policy, &plan).err();
            (plan, finding.map(|finding| Hold::Checker { finding: finding.to_string() }))
        })
    }
}
