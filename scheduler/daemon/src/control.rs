//! The loop: look, decide, record, and in mode `auto`, or once a person approves, have the moves made.
//!
//! Level-triggered: every cycle reads the whole state anew, nothing is retried inside one, the next cycle is the retry. A
//! decision that can't be recorded is not acted on, and an order that can't be journalled is not given.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use jiff::Timestamp;
use sterna_core::budget::{broken_circuit, remembered};
use sterna_core::compare::Decisions;
use sterna_core::continuum::{Continuum, NodeName};
use sterna_core::cost::Costs;
use sterna_core::history::{History, Outcome};
use sterna_core::observation::{Observation, UnderWay};
use sterna_core::record::Recorded;
use sterna_core::report::{Decision, Verdict};
use sterna_core::standing::Standing;
use sterna_executor::fleet::{FleetError, FleetView};
use sterna_executor::migration::order::MigrationId;
use sterna_policies::policy::{Mode, Policy};
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

use self::approval::Approvals;
use self::carry::Carrier;
use self::desk::{Desk, Seen};
use self::ending::{Endings, Look};
use self::notice::{Decided, Notice, headline};
use self::recall::Recall;
use self::rounds::{Round, Rounds};
use self::stop::{Stop, Urgency};
use self::world::{Clock, Mover as _, World};
use crate::governing::Governing;
use crate::history::{HistoryError, HistoryStore};
use crate::observe::store::MetricStore;
use crate::observe::{Observed, observe};
use crate::reload::Watched;
use crate::telemetry::Telemetry;

pub mod apply;
mod approval;
mod carry;
pub mod desk;
pub mod ending;
pub mod notice;
pub mod recall;
mod reloading;
pub mod rounds;
mod sight;
pub mod stop;
mod trail;
pub mod world;

/// The decision function; see [`sterna_core::decide()`].
pub type Decide = dyn Fn(&Observation, &Policy, &History, Timestamp, u64) -> Decision + Send + Sync;

/// How to decide.
#[derive(Clone)]
pub struct Engine {
    /// The function.
    pub decide: Arc<Decide>,
    /// Seed of every random choice.
    pub seed: u64,
    /// What the parts of a move take.
    pub costs: Costs,
}

impl Engine {
    /// The decision engine of the house.
    pub fn new(seed: u64, costs: Costs) -> Self {
        Self { decide: Arc::new(sterna_core::decide), seed, costs }
    }
}

/// The files that say what is and what is wanted.
pub struct Files {
    /// The policies.
    pub policies: Governing,
    /// The inventory.
    pub inventory: Watched<Continuum>,
}

impl Files {
    /// The policies in force, the highest priority first.
    pub fn in_force(&self) -> Vec<Policy> {
        self.policies.in_force(self.inventory.value())
    }
}

/// The loop and all that it works with.
pub struct Scheduler<S, W, C> {
    /// Metrics.
    pub store: S,
    /// Where services run.
    pub world: W,
    /// Time.
    pub clock: C,
    /// How to decide.
    pub engine: Engine,
    /// Policy and inventory.
    pub files: Files,
    /// What happened.
    pub history: HistoryStore,
    /// Own metrics.
    pub telemetry: Arc<Telemetry>,
    /// What the agents were asked to remember.
    pub recall: Recall,
    /// What is known of nodes whose pods have ended.
    pub endings: Endings,
    /// What is kept of each policy from look to look.
    pub rounds: Rounds,
    /// What others may know of it, and the bell that they ring.
    pub desk: Arc<Desk>,
    /// Told of everything that a person may want to see.
    pub tell: Box<dyn Fn(&Notice<'_>) + Send + Sync>,
}

/// A cycle that could not be completed.
#[derive(Debug, Error)]
pub enum CycleError {
    /// The agents could not be asked at all.
    #[error("the agents can't be asked: {0}")]
    Fleet(#[from] FleetError),
    /// The history can't be used.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A plan can't be compared with what is now: a bug to be reported.
    #[error("the plan can't be compared with what is now: {0}")]
    Compare(#[from] serde_json::Error),
    /// The decision function did not come back: a bug to be reported.
    #[error("the decision engine failed: {0}")]
    Engine(String),
}

/// A decision and what went into it.
#[derive(Debug)]
pub struct Considered {
    /// What was seen, and how.
    pub observed: Observed,
    /// What went in and what came out.
    pub recorded: Recorded,
}

/// What is seen, with the orders whose end is unknown.
///
/// # Errors
/// When the history can't be asked.
pub async fn see<S: MetricStore>(
    store: &S,
    view: FleetView,
    continuum: &Continuum,
    policy: &Policy,
    history: &HistoryStore,
    now: Timestamp,
) -> Result<Observed, CycleError> {
    let asking = tracing::info_span!("observe");
    let committed: BTreeSet<MigrationId> = view.committed.iter().map(|(id, ..)| *id).collect();
    let mut observed = observe(store, continuum, view, policy, now).instrument(asking).await;
    // An order whose end is unknown may still be carried out.
    for open in history.open_intents().await? {
        let known = observed.observation.under_way.iter().any(|one| one.service == open.service);
        let over = open.is_over(now);
        // Nothing is sent or frozen for it any more; an agent may still try to hand over what it has committed.
        if over && (!known || committed.contains(&open.id)) {
            observed.observation.overdue.insert(open.service.clone());
        }
        if !known {
            let line = open.line();
            let note = format!("{line} is not settled: its end was not seen");
            observed.notes.push(if over {
                let (from, service) = (&open.from, &open.service);
                format!("{note} and its time is over; until `{from}` answers, or another node runs `{service}`, that service alone is kept back")
            } else {
                note
            });
            observed.observation.under_way.push(UnderWay {
                service: open.service,
                from: open.from,
                to: open.to,
            });
        }
    }
    observed.observation.directives = history.directives().await?;
    Ok(observed)
}

/// What is to be decided.
pub struct Question<'q> {
    /// The continuum as the inventory has it.
    pub continuum: &'q Continuum,
    /// The policy to decide by.
    pub policy: &'q Policy,
    /// What its decision before wants this one to remember; the history is asked where it is not given.
    pub standing: Option<Standing>,
    /// When it is.
    pub now: Timestamp,
}

/// Looks and decides, once, and changes nothing.
///
/// # Errors
/// When the agents or the history can't be asked, or the engine fails.
pub async fn consider<S: MetricStore>(
    store: &S,
    view: FleetView,
    question: Question<'_>,
    history: &HistoryStore,
    engine: &Engine,
) -> Result<Considered, CycleError> {
    let Question { continuum, policy, standing, now } = question;
    let mut observed = see(store, view, continuum, policy, history, now).await?;
    observed.observation.costs = engine.costs;
    let since = now.checked_sub(remembered(policy)).unwrap_or(Timestamp::MIN);
    let standing = match standing {
        Some(standing) => standing,
        None => history.standing(&policy.name, now).await?,
    };
    let history = History { standing, ..history.for_decision(since).await? };
    let recorded = decided(engine, observed.observation.clone(), policy.clone(), history, now).await?;
    Ok(Considered { observed, recorded })
}

/// Decides, and keeps the inputs with the decision.
async fn decided(
    engine: &Engine,
    observation: Observation,
    policy: Policy,
    history: History,
    now: Timestamp,
) -> Result<Recorded, CycleError> {
    let Engine { decide, seed, .. } = engine.clone();
    let span = tracing::info_span!("decide", policy = policy.name);
    tokio::task::spawn_blocking(move || {
        let _within = span.entered();
        let decision = decide(&observation, &policy, &history, now, seed);
        Recorded { observation, policy, history, now, seed, decision }
    })
    .await
    .map_err(|error| CycleError::Engine(error.to_string()))
}

/// What was seen and decided at one look.
struct Looked<M> {
    considered: Considered,
    /// What the policy before decides otherwise, where another has just come into force.
    against: Option<Decisions>,
    mover: M,
}

/// Least time between two looks.
const LEAST: Duration = Duration::from_millis(100);
/// Longest time that a cycle spends on carrying one certificate.
const CARRY: Duration = Duration::from_secs(5);

impl<S: MetricStore, W: World, C: Clock> Scheduler<S, W, C> {
    /// Runs until `stop` is asked for or `cycles` have passed. Gives the number of cycles.
    ///
    /// In each cycle the policies look whose interval has passed, the highest priority first. A look that fails is told and
    /// counted, and the loop goes on; it works as long as the last look of each policy did.
    pub async fn run(&mut self, stop: &Stop, cycles: Option<u64>) -> u64 {
        let mut done = 0;
        let mut rounds = std::mem::take(&mut self.rounds);
        rounds.all_look();
        while stop.urgency() == Urgency::No && cycles.is_none_or(|cycles| done < cycles) {
            done += 1;
            let span = tracing::info_span!("cycle", n = done);
            self.cycle(stop, &mut rounds).instrument(span).await;
            self.telemetry.cycle_ended(rounds.works(), rounds.shortest(), self.clock.now());
            if cycles.is_none_or(|cycles| done < cycles) {
                tokio::select! {
                    () = stop.at_least(Urgency::WhenDone) => {}
                    () = tokio::time::sleep_until(rounds.next()) => {}
                    () = self.desk.rung() => {
                        rounds.all_look();
                        // Whoever rings and rings does not make it a busy loop.
                        tokio::time::sleep(LEAST).await;
                    }
                }
            }
        }
        self.rounds = rounds;
        done
    }

    /// One cycle: the looks of all policies that are due.
    async fn cycle(&mut self, stop: &Stop, rounds: &mut Rounds) {
        self.telemetry.goes_on();
        self.reload();
        let in_force = self.files.in_force();
        rounds.begin(&in_force);
        let approvals = Approvals { history: &self.history, tell: &*self.tell };
        if let Err(error) = approvals.of_others(&in_force, self.clock.now()).await {
            (self.tell)(&Notice::Failed(None, &error.to_string()));
        }
        self.telemetry.in_force(in_force.iter().map(|policy| policy.name.as_str()));
        let names: Vec<String> = in_force.into_iter().map(|policy| policy.name).collect();
        for name in names {
            // What one policy has carried out may have taken long, and the files say something else by now.
            self.reload();
            let in_force = self.files.in_force();
            self.desk.in_force(&in_force);
            let Some(policy) = in_force.into_iter().find(|policy| policy.name == name) else { continue };
            let Some(round) = rounds.due(&policy).filter(|_| stop.urgency() == Urgency::No) else { continue };
            let span = tracing::info_span!("look", policy = policy.name);
            let looked = self.look_for(&policy, stop, round).instrument(span).await;
            // The others look all the same.
            round.failed = looked.err().map(|error| error.to_string());
            if let Some(error) = &round.failed {
                (self.tell)(&Notice::Failed(Some(&name), error));
            }
        }
    }

    /// The look of one policy.
    async fn look_for(&mut self, policy: &Policy, stop: &Stop, round: &mut Round) -> Result<(), CycleError> {
        let began = Instant::now();
        let look = self.look(policy, round);
        let looked = tokio::select! {
            biased;
            () = stop.at_least(Urgency::WhenDone) => return Ok(()),
            looked = look => looked?,
        };
        let Looked { considered: Considered { observed, recorded }, against, mover } = looked;
        let decision = recorded.decision.clone();
        let number = self.history.record_decision(recorded.clone()).await?;
        round.standing = Some(decision.standing.clone());
        self.telemetry.observed(&policy.name, &observed);
        self.telemetry.decided(&decision, began.elapsed());

        let wanted = decision.report.verdict == Verdict::Move && !decision.plan.moves.is_empty();
        let act = wanted && policy.mode == Mode::Auto && stop.urgency() == Urgency::No;
        let now_says = headline(&decision, &observed.notes);
        let news = round.said.as_ref() != Some(&now_says);
        round.said = Some(now_says);
        tracing::debug!(number, verdict = ?decision.report.verdict, moves = decision.plan.moves.len(), "decided");
        (self.tell)(&Notice::Decided(Decided {
            number,
            policy: &policy.name,
            decision: &decision,
            mode: policy.mode,
            news,
            acted_on: act,
            notes: &observed.notes,
        }));
        round.decided_by = Some(policy.clone());
        if let Some(against) = against {
            (self.tell)(&Notice::Compared(number, &against));
        }
        let circuit = broken_circuit(policy, &recorded.history, recorded.now);
        if std::mem::replace(&mut round.broken, circuit.is_some()) != circuit.is_some() {
            (self.tell)(&Notice::Breaker(circuit.as_ref()));
        }
        self.desk.lay_down(
            policy,
            Seen {
                number,
                at: recorded.now,
                observation: observed.observation,
                decision: decision.clone(),
                notes: observed.notes,
            },
        );
        let approvals = Approvals { history: &self.history, tell: &*self.tell };
        // Nothing new is begun while the service is stopping; what was approved waits for the next.
        let approved = match stop.urgency() {
            Urgency::No => approvals.after(number, &recorded).await?,
            Urgency::WhenDone | Urgency::Now => None,
        };
        let is_approved = approved.is_some();
        let ordered = approved.or_else(|| act.then_some((number, decision.plan)));
        if let Some((number, plan)) = ordered {
            let carrier = Carrier {
                mover: &mover,
                clock: &self.clock,
                history: &self.history,
                telemetry: &self.telemetry,
                stop,
                tell: &*self.tell,
                continuum: self.files.inventory.value(),
                decision: number,
                given: AtomicUsize::new(0),
            };
            carrier.carry_out(&plan, policy).await?;
            if is_approved && carrier.given.into_inner() == 0 {
                approvals.came_to_nothing(number, self.clock.now()).await?;
            }
        }
        Ok(())
    }

    /// What the agents say now, once all is settled that they can tell of earlier orders.
    async fn settled(&mut self) -> Result<(FleetView, W::Mover), CycleError> {
        let (view, mover) = self.world.look(self.files.inventory.value()).await?;
        // The agents find most of it out by themselves.
        let _in_time = tokio::time::timeout(CARRY, mover.introduce(&view.reachable)).await;
        for (id, from, to) in &view.committed {
            // The agents go on trying without it.
            let carry = mover.carry_certificate(*id, from, to);
            let _in_time = tokio::time::timeout(CARRY, carry).await;
        }
        let now = self.clock.now();
        let look = Look {
            world: &self.world,
            mover: &mover,
            continuum: self.files.inventory.value(),
            view: &view,
            history: &self.history,
            now,
            tell: &*self.tell,
        };
        let (view, mover) = match self.endings.look(look).await? {
            true => self.world.look(self.files.inventory.value()).await?,
            false => (view, mover),
        };
        let forgotten = self.recall.look(&view, &mover, &self.history, now, &*self.tell).await?;
        self.settle(&view, &forgotten).await?;
        Ok((view, mover))
    }

    async fn look(&mut self, policy: &Policy, round: &Round) -> Result<Looked<W::Mover>, CycleError> {
        let (view, mover) = self.settled().instrument(tracing::info_span!("agents")).await?;
        let before = round.decided_by.as_ref().filter(|before| *before != policy);
        let again = before.map(|before| (before, view.clone()));
        let question = Question {
            continuum: self.files.inventory.value(),
            policy,
            standing: round.standing.clone(),
            now: self.clock.now(),
        };
        let considered = consider(&self.store, view, question, &self.history, &self.engine).await?;
        let against = match again {
            None => None,
            Some((before, view)) => match self.against(before, view, &considered).await {
                Ok(decisions) => Some(decisions),
                // It is for people alone: the decision stands without it.
                Err(error) => {
                    tracing::warn!(%error, "what the policy before decides can't be told");
                    None
                }
            },
        };
        Ok(Looked { considered, against, mover })
    }

    /// Settles orders whose end was not seen (this process or the one before was cut off, or lost sight) and that their source's
    /// agent does not remember: no agent speaks of a migration, so the service's place tells. An agent that could not be asked,
    /// or that has the migration in hand by now, may still report more than that.
    ///
    /// So it is where the source does not answer once the order's time is over, or is not in the inventory any more: whoever
    /// else owns the service has a certificate for it, which is made once, by the commit or in its stead, and after which the
    /// source never runs it again. Where nobody is seen to run it nothing is concluded: it may stand at the source.
    async fn settle(&self, view: &FleetView, forgotten: &BTreeSet<MigrationId>) -> Result<(), CycleError> {
        let open = self.history.open_intents().await?;
        let (nodes, now) = (&self.files.inventory.value().nodes, self.clock.now());
        for open in open {
            let answers = |node: &NodeName| view.reachable.contains(node);
            let gone = |node: &NodeName| !nodes.contains_key(node);
            let silent = !answers(&open.from) && (gone(&open.from) || open.is_over(now));
            let busy = view.under_way.iter().any(|one| one.service == open.service);
            if busy || !(silent || forgotten.contains(&open.id)) {
                continue;
            }
            let (outcome, what) = match view.placement.get(&open.service) {
                Some(node) if *node == open.to => (Outcome::Moved, "the service arrived".to_owned()),
                Some(node) if *node == open.from => {
                    // What does not answer may have been let run it.
                    if !(answers(&open.to) || gone(&open.to)) {
                        continue;
                    }
                    (Outcome::RolledBack, "the service stayed".to_owned())
                }
                // It came there by a later migration. Whether by way of this one's destination is not known.
                Some(node) => (Outcome::RolledBack, format!("the service runs on `{node}`")),
                None => continue,
            };
            let line = format!("{}: its end was not seen; {what}", open.line());
            (self.tell)(&Notice::Settled(&line));
            self.history.settle(open.id, open.service, outcome, line, now).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
