//! What moving brought over a time, from the history alone: predicted against measured, and what is not known left out.
//!
//! Every decision says what each service adds on each node at that moment. So what a move changed is told from the decisions
//! after it: what the service adds where it went, less what it would have added at the same moment where it was, times how long
//! that lasted. That compares two places and not two times, so other users or other prices than before the move do not count
//! as its merit. Services that moved together are compared one by one, all else as it was. Of several policies the one that
//! ordered a move tells what it changed; another that knows it does where that one says nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sterna_core::plan::{Effect, Move};
use sterna_core::report::{Decision, Verdict};
use sterna_policies::policy::Mode;
use sterna_policies::quantity::{Bytes, Grams, GramsPerHour, Millis, Usd, UsdPerHour, WattHours, Watts};
use utoipa::ToSchema;

use super::list::{Cost, MigrationLine, Past};
use super::{HistoryError, HistoryStore};

/// Longer than this a decision says nothing about the time after it: the scheduler was down, or could not look.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// So long after a move its metrics are not yet those of the new place.
const SETTLES: SignedDuration = SignedDuration::from_mins(2);
/// More migrations than this are not told one by one.
const MOST: u32 = 10_000;

/// What moving brought over a time.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Summary {
    /// From when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// How many decisions were made.
    pub decisions: u64,
    /// Services that were moved.
    pub moved: u32,
    /// Migrations that were undone.
    pub rolled_back: u32,
    /// Migrations that were refused before anything was touched.
    pub refused: u32,
    /// Orders whose end is not known.
    pub open: u32,
    /// How long services stood still in all that were moved, as measured.
    #[schema(value_type = String)]
    pub downtime: Millis,
    /// What was predicted for the same moves, of those that there is a measured time for.
    #[schema(value_type = String)]
    pub downtime_predicted: Millis,
    /// What all migrations sent, as measured.
    #[schema(value_type = String)]
    pub bytes: Bytes,
    /// What the moves changed, as observed after them.
    pub change: Change,
    /// Each migration, oldest first.
    pub migrations: Vec<Told>,
    /// What plans of modes that only watch would have changed, as predicted.
    pub recommended: Recommended,
}

/// What is different, added up; negative is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Change {
    /// Money.
    #[schema(value_type = String)]
    pub cost: Usd,
    /// Energy.
    #[schema(value_type = String)]
    pub energy: WattHours,
    /// Carbon, over the time for which the intensities are known; `None` where they never are.
    #[schema(value_type = Option<String>)]
    pub carbon: Option<Grams>,
    /// Latency, on average over the time that it is known for.
    #[schema(value_type = Option<String>)]
    pub user_latency: Option<Millis>,
    /// The time that all of this is known for, added up over services.
    #[schema(value_type = String)]
    pub known_for: Millis,
}

/// One migration, predicted against measured.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Told {
    /// What was ordered, what it was predicted to cost and what it did.
    #[serde(flatten)]
    pub migration: MigrationLine,
    /// What the service added where it was, when it was decided.
    pub before: Option<Worth>,
    /// What it was predicted then to add where it went.
    pub predicted: Option<Worth>,
    /// What it added there some minutes after it had arrived.
    pub after: Option<Worth>,
    /// What it would have added at that moment where it was before.
    pub without: Option<Worth>,
    /// What that came to since; `None` where nothing is known of the time after it.
    pub change: Option<Change>,
}

/// What a service adds on a node.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Worth {
    /// Latency that its users see.
    #[schema(value_type = Option<String>)]
    pub user_latency: Option<Millis>,
    /// What it costs.
    #[schema(value_type = String)]
    pub cost_rate: UsdPerHour,
    /// What it draws.
    #[schema(value_type = String)]
    pub power: Watts,
    /// What it emits, where the intensity is known.
    #[schema(value_type = Option<String>)]
    pub carbon_rate: Option<GramsPerHour>,
    /// The numbers among them that are computed from the inventory and not measured.
    pub modelled: Vec<String>,
}

/// What plans of the modes `observe` and `recommend` would have changed, had each been carried out when it was first made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Recommended {
    /// How many moves; one that is recommended look after look counts once.
    pub moves: u32,
    /// How long services would have stood still.
    #[schema(value_type = String)]
    pub downtime: Millis,
    /// What would have been sent.
    #[schema(value_type = String)]
    pub bytes: Bytes,
    /// What would be different.
    pub change: Change,
}

/// Rates times spans, in whole numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    cost: i128,
    energy: i128,
    carbon: i128,
    /// Nanoseconds that the intensities are known for.
    carbon_nanos: i128,
    latency: i128,
    /// Nanoseconds that a latency is known for.
    latency_nanos: i128,
    nanos: i128,
}

impl Sums {
    fn add(&mut self, from: &Effect, to: &Effect, span: SignedDuration) {
        let nanos = span.as_nanos();
        let less = |to: i64, from: i64| (i128::from(to) - i128::from(from)) * nanos;
        self.cost += less(to.cost_rate.as_micros(), from.cost_rate.as_micros());
        self.energy += less(to.power.as_micros(), from.power.as_micros());
        if let (Some(from), Some(to)) = (from.carbon_rate, to.carbon_rate) {
            self.carbon += less(to.as_micros(), from.as_micros());
            self.carbon_nanos += nanos;
        }
        if let (Some(from), Some(to)) = (from.user_latency, to.user_latency) {
            self.latency += less(to.as_micros(), from.as_micros());
            self.latency_nanos += nanos;
        }
        self.nanos += nanos;
    }

    fn all(sums: impl Iterator<Item = Self>) -> Self {
        sums.fold(Self::default(), |a, b| Self {
            cost: a.cost + b.cost,
            energy: a.energy + b.energy,
            carbon: a.carbon + b.carbon,
            carbon_nanos: a.carbon_nanos + b.carbon_nanos,
            latency: a.latency + b.latency,
            latency_nanos: a.latency_nanos + b.latency_nanos,
            nanos: a.nanos + b.nanos,
        })
    }

    fn change(self) -> Change {
        const HOUR: i128 = 3_600_000_000_000;
        let narrow = |wide: i128| i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX });
        let latency = (self.latency_nanos > 0).then(|| narrow(self.latency / self.latency_nanos.max(1)));
        Change {
            cost: Usd::from_micros(narrow(self.cost / HOUR)),
            energy: WattHours::from_micros(narrow(self.energy / HOUR)),
            carbon: (self.carbon_nanos > 0).then(|| Grams::from_micros(narrow(self.carbon / HOUR))),
            user_latency: latency.map(Millis::from_micros),
            known_for: Millis::from_micros(narrow(self.nanos)),
        }
    }
}

/// One migration while its time is walked through.
struct Walked {
    line: MigrationLine,
    /// When it ended and how long what it did lasted; `None` where it moved nothing.
    lasted: Option<(Timestamp, Timestamp)>,
    before: Option<Worth>,
    predicted: Option<Worth>,
    after: Option<(Worth, Option<Worth>)>,
    /// The policy whose decisions tell what it changed.
    told_by: Option<String>,
    sums: Sums,
}

impl Walked {
    /// Has a decision's policy tell of it from now on where none does, or the one that did has not for long.
    fn listen(&mut self, past: &Past, last: &BTreeMap<String, Past>) {
        let before = self.told_by.as_ref().and_then(|name| last.get(name));
        let speaks = before.is_some_and(|before| past.at <= before.at + LONGEST);
        let knows = || self.lasted.is_some_and(|(ended, _)| past.at >= ended) && self.effects(past).is_some();
        if !speaks && self.told_by.as_ref() != Some(&past.decision.report.policy) && knows() {
            if let Some(before) = before {
                self.account(before, past.at);
            }
            self.told_by = Some(past.decision.report.policy.clone());
        }
    }

    /// What the service adds where it was and where it is, by a decision that sees it there.
    fn effects<'p>(&self, past: &'p Past) -> Option<(&'p Effect, &'p Effect)> {
        let effect = |node: &str| effect_on(&past.decision, &self.line.service, node);
        let there = is_on(&past.decision, &self.line.service, &self.line.to);
        there.then(|| effect(&self.line.from).zip(effect(&self.line.to))).flatten()
    }

    /// Adds up what a decision says of the time until `now`.
    fn account(&mut self, last: &Past, now: Timestamp) {
        let Some((ended, leaves)) = self.lasted else { return };
        let until = now.min(last.at + LONGEST).min(leaves);
        let span = until.duration_since(last.at.max(ended));
        if let Some((from, to)) = self.effects(last).filter(|_| span.is_positive()) {
            self.sums.add(from, to, span);
        }
    }
}

struct Walk {
    walked: Vec<Walked>,
    decisions: u64,
    /// The decision before of each policy, which speaks for the time until its next.
    last: BTreeMap<String, Past>,
    /// Moves that each policy recommends and that were counted.
    standing: BTreeMap<String, BTreeSet<(String, String, String)>>,
    recommended: Recommended,
    sums: Sums,
}

impl HistoryStore {
    /// What moving brought from one time to another.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn summary(&self, since: Timestamp, until: Timestamp) -> Result<Summary, HistoryError> {
        let mut next: BTreeMap<String, Timestamp> = BTreeMap::new();
        let mut walked = Vec::new();
        // Newest first, so that it is known how long a service stayed.
        for line in self.migrations(since, MOST).await? {
            let end = line.end.as_ref().filter(|end| end.outcome == "moved");
            let leaves = next.get(&line.service).copied().unwrap_or(until);
            let lasted = end.map(|end| (end.at, leaves));
            if lasted.is_some() {
                next.insert(line.service.clone(), line.ordered);
            }
            let decided = match line.decision {
                Some(id) => self.decided(id).await?,
                None => None,
            };
            let worth = |node: &str| worth_on(decided.as_ref()?, &line.service, node);
            let (before, predicted) = (worth(&line.from), worth(&line.to));
            let told_by = decided.map(|decided| decided.report.policy);
            let sums = Sums::default();
            walked.push(Walked { before, predicted, lasted, line, after: None, told_by, sums });
        }
        walked.reverse();
        let walk = Walk {
            walked,
            decisions: 0,
            last: BTreeMap::new(),
            standing: BTreeMap::new(),
            recommended: Recommended::default(),
            sums: Sums::default(),
        };
        let mut walk = self
            .each_decision(since, walk, move |walk, past| {
                if past.at <= until {
                    walk.step(past);
                }
            })
            .await?;
        for name in walk.last.keys().cloned().collect::<Vec<_>>() {
            walk.account(&name, until);
        }
        Ok(walk.summary(since, until))
    }
}

impl Walk {
    fn step(&mut self, past: Past) {
        let name = past.decision.report.policy.clone();
        self.account(&name, past.at);
        self.decisions += 1;
        for one in &mut self.walked {
            one.listen(&past, &self.last);
            let Some((ended, leaves)) = one.lasted.filter(|_| one.told_by.as_ref() == Some(&name)) else {
                continue;
            };
            let settled = past.at >= ended + SETTLES && past.at < leaves;
            if one.after.is_none() && settled && is_on(&past.decision, &one.line.service, &one.line.to) {
                let worth = |node: &str| worth_on(&past.decision, &one.line.service, node);
                one.after = worth(&one.line.to).map(|after| (after, worth(&one.line.from)));
            }
        }
        self.recommend(&past);
        self.last.insert(name, past);
    }

    /// Counts each move once for as long as a policy recommends it.
    fn recommend(&mut self, past: &Past) {
        if past.ordered {
            return;
        }
        let key = |one: &Move| (one.service.to_string(), one.from.to_string(), one.to.to_string());
        let standing = self.standing.entry(past.decision.report.policy.clone()).or_default();
        match &past.decision.report.verdict {
            Verdict::Move if only_watches(past) => {
                let moves = &past.decision.plan.moves;
                for one in moves.iter().filter(|one| !standing.contains(&key(one))) {
                    let told = &mut self.recommended;
                    told.moves += 1;
                    told.downtime = told.downtime.saturating_add(one.predicted.downtime);
                    told.bytes = Bytes(told.bytes.0.saturating_add(one.predicted.bytes.0));
                }
                *standing = moves.iter().map(key).collect();
            }
            Verdict::Move | Verdict::Stay => standing.clear(),
            // It may be recommended again when what holds it has passed.
            Verdict::Held { .. } => {}
        }
    }

    /// Adds up what a policy's decision before says of the time until `now`.
    fn account(&mut self, policy: &str, now: Timestamp) {
        let Some(last) = self.last.get(policy) else { return };
        for one in self.walked.iter_mut().filter(|one| one.told_by.as_deref() == Some(policy)) {
            one.account(last, now);
        }
        let span = now.min(last.at + LONGEST).duration_since(last.at);
        if span.is_positive() && only_watches(last) && last.decision.report.verdict == Verdict::Move {
            let plan = &last.decision.plan;
            self.sums.add(&plan.before, &plan.after, span);
        }
    }

    fn summary(self, since: Timestamp, until: Timestamp) -> Summary {
        let count = |outcome: &str| {
            let ends = self.walked.iter().filter_map(|one| one.line.end.as_ref());
            u32::try_from(ends.filter(|end| end.outcome == outcome).count()).unwrap_or(u32::MAX)
        };
        let measured = |one: &Walked| one.line.end.as_ref().map(|end| end.measured);
        let (mut downtime, mut downtime_predicted, mut bytes) = (Millis::ZERO, Millis::ZERO, 0u64);
        for one in &self.walked {
            let Some(Cost { downtime: took, bytes: sent, .. }) = measured(one) else { continue };
            bytes = bytes.saturating_add(sent.map_or(0, |sent| sent.0));
            if let Some(took) = took {
                downtime = downtime.saturating_add(took);
                let predicted = one.line.predicted.downtime.unwrap_or(Millis::ZERO);
                downtime_predicted = downtime_predicted.saturating_add(predicted);
            }
        }
        let open = self.walked.iter().filter(|one| one.line.end.is_none()).count();
        Summary {
            since,
            until,
            decisions: self.decisions,
            moved: count("moved"),
            rolled_back: count("rolled-back"),
            refused: count("refused"),
            open: u32::try_from(open).unwrap_or(u32::MAX),
            downtime,
            downtime_predicted,
            bytes: Bytes(bytes),
            change: Sums::all(self.walked.iter().map(|one| one.sums)).change(),
            recommended: Recommended { change: self.sums.change(), ..self.recommended },
            migrations: self.walked.into_iter().map(Told::from).collect(),
        }
    }
}

impl From<Walked> for Told {
    fn from(walked: Walked) -> Self {
        let Walked { line, before, predicted, after, sums, .. } = walked;
        let (after, without) = after.map_or((None, None), |(after, without)| (Some(after), without));
        let change = (sums.nanos > 0).then(|| sums.change());
        Self { migration: line, before, predicted, after, without, change }
    }
}

/// Whether nobody was to carry its plan out, and nobody did. In mode `approve` somebody may have, and what came of that is measured.
fn only_watches(past: &Past) -> bool {
    !past.ordered && [Mode::Observe, Mode::Recommend].iter().any(|mode| past.mode == mode.name())
}

fn is_on(decision: &Decision, service: &str, node: &str) -> bool {
    let report = decision.report.services.iter().find(|one| one.service.as_str() == service);
    report.and_then(|one| one.on.as_ref()).is_some_and(|on| on.as_str() == node)
}

fn effect_on<'d>(decision: &'d Decision, service: &str, node: &str) -> Option<&'d Effect> {
    let report = decision.report.services.iter().find(|one| one.service.as_str() == service)?;
    report.options.iter().find(|one| one.node.as_str() == node)?.effect.as_ref()
}

fn worth_on(decision: &Decision, service: &str, node: &str) -> Option<Worth> {
    let report = decision.report.services.iter().find(|one| one.service.as_str() == service)?;
    let option = report.options.iter().find(|one| one.node.as_str() == node)?;
    let Effect { user_latency, cost_rate, power, carbon_rate } = option.effect?;
    let modelled = option.modelled.iter().map(|metric| metric.name().to_owned()).collect();
    Some(Worth { user_latency, cost_rate, power, carbon_rate, modelled })
}
