//! Three nodes in a row, one service, two migrations: from the first node to the second, and on to the third.
//!
//! Container `k` stands on node `k`; migration `m` takes the service from container `m` to container `m + 1`. The network may
//! lose, delay and repeat every call: once sent, a call may arrive at any time, any number of times.

use sterna_executor::migration::holding::Holding;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::recovery::{There, Way, decision, way};
use sterna_executor::migration::register::Decision;
use sterna_executor::migration::table::{self, OnFailure, Undo};

mod destination;
mod faults;
mod judgement;

const MIGRATIONS: usize = 2;
const NODES: usize = MIGRATIONS + 1;
/// More than the longest way out of any state takes.
const ROUNDS: usize = 60;

/// How many faults may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// An agent is killed, its node goes on.
    pub crashes: u8,
    /// A node goes down with all that it holds in RAM, and comes back.
    pub reboots: u8,
    /// A node is destroyed, and somebody says so, or its pod is seen to have ended.
    pub destroyed: u8,
}

/// A rule that is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// All are followed.
    None,
    /// The register may be written over: after a restart the agent goes by the last phase that it reached.
    ThawAfterCommit,
    /// The destination is released before the register says `commit`.
    ReleaseBeforeCommit,
    /// After a reboot the source is started anew although the destination holds the last copy of its memory.
    GiveUpLastCopy,
    /// The restart policy stays on while the source is frozen.
    KeepRestartPolicy,
    /// A service may leave a node before its arrival there is finished.
    LeaveUnfinished,
    /// The destination never asks its source.
    NeverInquire,
    /// A destination that lost what it held says that it runs.
    LostIsRuns,
    /// A node counts as gone that is merely not seen, as a pod is that was deleted by force.
    FenceUnseen,
}

impl Weakness {
    /// All but none.
    pub const ALL: [Self; 8] = [
        Self::ThawAfterCommit,
        Self::ReleaseBeforeCommit,
        Self::GiveUpLastCopy,
        Self::KeepRestartPolicy,
        Self::LeaveUnfinished,
        Self::NeverInquire,
        Self::LostIsRuns,
        Self::FenceUnseen,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Process {
    None,
    Held,
    Running,
    Frozen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Container {
    exists: bool,
    process: Process,
    /// Whether its memory is the service's own, and not that of a new start.
    warm: bool,
    /// Whether the engine starts it again when the node comes back.
    restart: bool,
}

/// What the source's agent is doing. In RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Walk {
    /// No order was given.
    Idle,
    /// On the way to a phase before the commit.
    To(Phase),
    /// Undoing what was done on the way to a phase; this many steps of the row are done.
    Back(Phase, u8),
    /// On the way to a phase after the commit.
    Forward(Phase),
    /// The agent was restarted and has not looked yet.
    Restarted,
    /// Over.
    Ended,
}

/// A call's number in the sets of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    Reserve,
    Send,
    Restore,
    Release,
    StartAnew,
    Finish,
    Discard,
}

const MESSAGES: [Message; 7] = [
    Message::Reserve,
    Message::Send,
    Message::Restore,
    Message::Release,
    Message::StartAnew,
    Message::Finish,
    Message::Discard,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Set(u8);

impl Set {
    fn has(self, message: Message) -> bool {
        self.0 & (1 << message as u8) != 0
    }
    fn with(self, message: Message) -> Self {
        Self(self.0 | (1 << message as u8))
    }
    fn without(self, message: Message) -> Self {
        Self(self.0 & !(1 << message as u8))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Migration {
    walk: Walk,
    /// Durable at the source.
    reached: Option<Phase>,
    decision: Decision,
    ended: bool,
    /// Durable at the destination.
    holding: Option<Holding>,
    /// In RAM at both ends.
    image_here: bool,
    image_there: bool,
    /// Calls that may arrive.
    sent: Set,
    /// Answers that have come back.
    answered: Set,
    /// The last release was answered with `lost`.
    lost: bool,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    containers: [Container; NODES],
    migrations: [Migration; MIGRATIONS],
    destroyed: [bool; NODES],
    /// The last copy of the memory went with a node.
    memory_gone: bool,
    budget: Budget,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The scheduler gives the order.
    Order(usize),
    /// The source's agent does the next thing.
    Step(usize),
    /// A deadline or the lease runs out, or a step fails.
    GiveUp(usize),
    /// Somebody cancels: the register says so, and the source's agent comes to know of it later.
    Cancel(usize),
    /// The destination gets a call.
    Deliver(usize, Message),
    /// The destination notes a certificate, and its agent is killed before it lets go.
    DeliverHalf(usize),
    /// The destination asks the source, or the scheduler carries the certificate.
    Inquire(usize),
    /// The destination's agent, restarted, looks after what it owns.
    Revive(usize),
    /// The agent of a node is killed.
    Crash(usize),
    /// A node goes down and comes back.
    Reboot(usize),
    /// A node is destroyed.
    Destroy(usize),
    /// Somebody says that the source is gone, or it is proven by the end of its pod.
    Fence(usize),
}

impl State {
    /// The service runs on the first node.
    pub fn start(budget: Budget) -> Self {
        let nothing = Container { exists: false, process: Process::None, warm: false, restart: false };
        let mut containers = [nothing; NODES];
        containers[0] = Container { exists: true, process: Process::Running, warm: true, restart: true };
        let migration = Migration {
            walk: Walk::Idle,
            reached: None,
            decision: Decision::Undecided,
            ended: false,
            holding: None,
            image_here: false,
            image_there: false,
            sent: Set::default(),
            answered: Set::default(),
            lost: false,
        };
        Self {
            containers,
            migrations: [migration; MIGRATIONS],
            destroyed: [false; NODES],
            memory_gone: false,
            budget,
        }
    }

    /// Whether a node owns the service, by its own registers.
    fn owns(&self, node: usize) -> bool {
        let came = node == 0 || self.migrations[node - 1].holding.is_some_and(Holding::owns);
        let left = node < MIGRATIONS && self.migrations[node].decision == Decision::Commit;
        came && !left && !self.destroyed[node]
    }

    /// All that may happen next.
    pub fn successors(&self, weakness: Weakness) -> Vec<(Action, Self)> {
        let mut all = Vec::new();
        let mut add = |action: Action, next: Option<Self>| {
            if let Some(next) = next.filter(|next| next != self) {
                all.push((action, next));
            }
        };
        for m in 0..MIGRATIONS {
            add(Action::Order(m), self.order(m, weakness));
            add(Action::Step(m), self.step(m, weakness));
            add(Action::GiveUp(m), self.give_up(m));
            add(Action::Cancel(m), self.cancel(m));
            for message in MESSAGES {
                add(Action::Deliver(m, message), self.deliver(m, message, weakness));
            }
            add(Action::DeliverHalf(m), self.deliver_half(m));
            add(Action::Inquire(m), self.inquire(m, weakness));
            add(Action::Revive(m), self.revive(m));
            add(Action::Fence(m), self.fence(m, weakness));
        }
        for node in 0..NODES {
            add(Action::Crash(node), self.crash(node));
            add(Action::Reboot(node), self.reboot(node));
            add(Action::Destroy(node), self.destroy(node));
        }
        all
    }

    fn order(mut self, m: usize, weakness: Weakness) -> Option<Self> {
        let here = self.containers[m];
        let finished = m == 0 || self.migrations[m - 1].holding == Some(Holding::Finished);
        let may = finished || weakness == Weakness::LeaveUnfinished;
        if self.migrations[m].walk != Walk::Idle
            || !self.owns(m)
            || !may
            || here.process != Process::Running
            || self.destroyed[m + 1]
        {
            return None;
        }
        self.migrations[m].walk = Walk::To(Phase::Planned);
        Some(self)
    }

    /// Turns back: first of all the register is asked.
    fn turn_back(mut self, m: usize, phase: Phase) -> Self {
        let migration = &mut self.migrations[m];
        migration.walk = Walk::Back(phase, 0);
        migration.decision = migration.decision.settle(Decision::Abort);
        if !migration.decision.lets_source_run() {
            migration.walk = Walk::Forward(Phase::Released);
        }
        self
    }

    fn give_up(mut self, m: usize) -> Option<Self> {
        match self.migrations[m].walk {
            Walk::To(phase) => self = self.turn_back(m, phase),
            // Discarding the destination is tried a few times only.
            Walk::Back(phase, done) if Self::next_undo(phase, done) == Some(Undo::DiscardDestination) => {
                self.migrations[m].walk = Walk::Back(phase, done + 1);
            }
            _ => return None,
        }
        (!self.destroyed[m]).then_some(self)
    }

    fn cancel(mut self, m: usize) -> Option<Self> {
        let migration = &mut self.migrations[m];
        // An agent that was restarted looks first where the last copy of the memory is.
        if self.destroyed[m] || !matches!(migration.walk, Walk::To(_)) {
            return None;
        }
        migration.decision = migration.decision.settle(Decision::Abort);
        Some(self)
    }

    fn next_undo(phase: Phase, done: u8) -> Option<Undo> {
        match table::of(phase).on_failure {
            OnFailure::Undo(steps) => steps.get(usize::from(done)).copied(),
            OnFailure::Forward => None,
        }
    }

    /// Sends a call, and forgets what was answered to the one before.
    fn send(mut self, m: usize, message: Message) -> Self {
        let migration = &mut self.migrations[m];
        migration.sent = migration.sent.with(message);
        migration.answered = migration.answered.without(message);
        self
    }

    /// `then` once the call is answered; sends it until then.
    fn ask(self, m: usize, message: Message, then: impl FnOnce(Self) -> Self) -> Self {
        let migration = self.migrations[m];
        if migration.answered.has(message) {
            then(self)
        } else if migration.sent.has(message) {
            self
        } else {
            self.send(m, message)
        }
    }

    fn reach(mut self, m: usize, phase: Phase) -> Self {
        self.migrations[m].reached = Some(phase);
        // Another attempt asks anew.
        let answered = self.migrations[m].answered;
        self.migrations[m].answered = answered.without(Message::Send).without(Message::Restore);
        let next = Phase::ALL.into_iter().find(|next| *next > phase);
        self.migrations[m].walk = match next {
            Some(next) if next > Phase::Committed => Walk::Forward(next),
            Some(next) => Walk::To(next),
            None => Walk::Ended,
        };
        self
    }

    fn step(mut self, m: usize, weakness: Weakness) -> Option<Self> {
        if self.destroyed[m] {
            return None;
        }
        let migration = self.migrations[m];
        match migration.walk {
            Walk::Idle | Walk::Ended => None,
            Walk::Restarted => Some(self.recover(m, weakness)),
            Walk::To(phase) => Some(self.towards(m, phase, weakness)),
            Walk::Forward(phase) => Some(self.forward(m, phase)),
            Walk::Back(phase, done) => {
                let next = Walk::Back(phase, done + 1);
                match Self::next_undo(phase, done) {
                    None => {
                        self.migrations[m].walk = Walk::Ended;
                        self.migrations[m].ended = true;
                    }
                    Some(Undo::ThawSource) => {
                        let source = &mut self.containers[m];
                        source.restart = true;
                        match source.process {
                            Process::None => (source.process, source.warm) = (Process::Running, false),
                            _ => source.process = Process::Running,
                        }
                        self.migrations[m].walk = next;
                    }
                    Some(Undo::DeleteImage) => {
                        self.migrations[m].image_here = false;
                        self.migrations[m].walk = next;
                    }
                    Some(Undo::DiscardDestination) => {
                        self = self.ask(m, Message::Discard, |mut state| {
                            state.migrations[m].walk = next;
                            state
                        });
                    }
                }
                Some(self)
            }
        }
    }

    fn recover(mut self, m: usize, weakness: Weakness) -> Self {
        let migration = &mut self.migrations[m];
        if migration.ended {
            migration.walk = Walk::Ended;
            return self;
        }
        if weakness == Weakness::ThawAfterCommit && migration.reached < Some(Phase::Released) {
            migration.decision = Decision::Abort;
        }
        let standing = self.containers[m + 1].process == Process::Held;
        let alive = self.containers[m].process != Process::None || weakness == Weakness::GiveUpLastCopy;
        let there = migration.holding.map(|holding| There { holding, standing });
        let there = there.filter(|_| !self.destroyed[m + 1]);
        migration.decision = migration.decision.settle(decision(alive, there));
        migration.walk = match way(migration.decision, migration.reached) {
            Way::Forward(phase) => Walk::Forward(phase),
            Way::Back(phase) => Walk::Back(phase, 0),
        };
        self
    }

    fn towards(mut self, m: usize, phase: Phase, weakness: Weakness) -> Self {
        let source = self.containers[m];
        let done = |state: Self| state.reach(m, phase);
        let went_down = source.process == Process::None;
        match phase {
            _ if went_down => self.turn_back(m, phase),
            Phase::Reserved => self.ask(m, Message::Reserve, done),
            Phase::Synced | Phase::Transferred => self.ask(m, Message::Send, done),
            Phase::Frozen => match source {
                Container { restart: true, .. } if weakness != Weakness::KeepRestartPolicy => {
                    self.containers[m].restart = false;
                    self
                }
                Container { process: Process::Running, .. } => {
                    self.containers[m].process = Process::Frozen;
                    self
                }
                _ => done(self),
            },
            Phase::Dumped => {
                self.migrations[m].image_here = true;
                done(self)
            }
            Phase::Restored => self.ask(m, Message::Restore, done),
            Phase::Verified if weakness == Weakness::ReleaseBeforeCommit => {
                done(self.send(m, Message::Release))
            }
            Phase::Committed => {
                let decision = self.migrations[m].decision.settle(Decision::Commit);
                self.migrations[m].decision = decision;
                self.migrations[m].walk = match decision {
                    Decision::Commit => Walk::Forward(Phase::Released),
                    _ => Walk::Back(phase, 0),
                };
                self
            }
            _ => done(self),
        }
    }

    fn forward(mut self, m: usize, phase: Phase) -> Self {
        let migration = self.migrations[m];
        if phase == Phase::Released {
            if migration.answered.has(Message::Release) || migration.answered.has(Message::StartAnew) {
                return self.reach(m, phase);
            }
            if !migration.lost {
                return if migration.sent.has(Message::Release) {
                    self
                } else {
                    self.send(m, Message::Release)
                };
            }
            if !migration.image_here {
                return self.ask(m, Message::StartAnew, |state| state);
            }
            return self.ask(m, Message::Send, |state| {
                state.ask(m, Message::Restore, |mut state| {
                    state.migrations[m].lost = false;
                    state.send(m, Message::Release)
                })
            });
        }
        self = self.ask(m, Message::Finish, |mut state| {
            state.containers[m] =
                Container { exists: false, process: Process::None, warm: false, restart: false };
            state.migrations[m].image_here = false;
            state.migrations[m].walk = Walk::Ended;
            state.migrations[m].reached = Some(Phase::Cleaned);
            state.migrations[m].ended = true;
            state
        });
        self
    }
}
