//! The destination's side: what it does with calls, and what it does by itself.

use sterna_executor::migration::holding::{Answer, Call, Holding, answer};
use sterna_executor::migration::register::Decision;

use super::{Container, Message, Process, State, Weakness};

impl State {
    pub(super) fn deliver(mut self, m: usize, message: Message, weakness: Weakness) -> Option<Self> {
        let migration = self.migrations[m];
        if !migration.sent.has(message) || self.destroyed[m + 1] {
            return None;
        }
        let there = self.containers[m + 1];
        let standing = there.process == Process::Held;
        let call = match message {
            Message::Reserve => Call::Reserve,
            Message::Send => Call::Receive,
            Message::Restore => Call::Restore,
            Message::Release => Call::Release { valid: true, standing },
            Message::StartAnew => Call::StartAnew { valid: true },
            Message::Finish => Call::Finish,
            Message::Discard => Call::Discard,
        };
        let mut verdict = answer(migration.holding, call);
        if weakness == Weakness::LostIsRuns && verdict == Answer::Lost {
            verdict = Answer::Do(Holding::Released);
        }
        let answered = match verdict {
            Answer::Do(next) => {
                self.migrations[m].holding = Some(next);
                self.do_it(m, message)
            }
            Answer::Done => {
                // Taken over before, but perhaps the agent was killed before it let go.
                if migration.holding == Some(Holding::Released) && standing {
                    self.containers[m + 1].process = Process::Running;
                }
                true
            }
            Answer::Lost => {
                let answered = migration.answered.without(Message::Send).without(Message::Restore);
                self.migrations[m].answered = answered;
                self.migrations[m].lost = true;
                false
            }
            Answer::Refuse(_) => false,
        };
        if answered {
            self.migrations[m].answered = self.migrations[m].answered.with(message);
        }
        Some(self)
    }

    /// What a call does at the destination; whether it succeeds.
    pub(super) fn do_it(&mut self, m: usize, message: Message) -> bool {
        let there = &mut self.containers[m + 1];
        match message {
            Message::Reserve => there.exists = true,
            Message::Send => self.migrations[m].image_there = self.migrations[m].image_here,
            Message::Restore => {
                if there.process == Process::None {
                    if !self.migrations[m].image_there {
                        // It failed, and is begun again with what it needs.
                        let answered = self.migrations[m].answered;
                        self.migrations[m].answered = answered.without(Message::Send);
                        return false;
                    }
                    (there.process, there.warm) = (Process::Held, true);
                }
            }
            Message::Release => {
                if there.process == Process::None {
                    (there.process, there.warm) = (Process::Running, false);
                }
                there.process = Process::Running;
            }
            Message::StartAnew => (there.process, there.warm) = (Process::Running, false),
            Message::Finish => {
                there.restart = true;
                match there.process {
                    Process::None => (there.process, there.warm) = (Process::Running, false),
                    Process::Held => there.process = Process::Running,
                    Process::Running | Process::Frozen => {}
                }
                self.migrations[m].image_there = false;
            }
            Message::Discard => {
                *there = Container { exists: false, process: Process::None, warm: false, restart: false };
                self.migrations[m].image_there = false;
            }
        }
        true
    }

    pub(super) fn inquire(self, m: usize, weakness: Weakness) -> Option<Self> {
        let held = self.migrations[m].holding == Some(Holding::Held);
        if !held || weakness == Weakness::NeverInquire || self.destroyed[m] || self.destroyed[m + 1] {
            return None;
        }
        let mut asked = self;
        let message = match self.migrations[m].decision {
            Decision::Commit => Message::Release,
            Decision::Abort => Message::Discard,
            Decision::Undecided => return None,
        };
        let before = asked.migrations[m];
        asked.migrations[m].sent = before.sent.with(message);
        let mut next = asked.deliver(m, message, weakness)?;
        // The source learns nothing from it.
        next.migrations[m].sent = before.sent;
        next.migrations[m].answered = before.answered;
        next.migrations[m].lost = before.lost;
        Some(next)
    }

    pub(super) fn revive(mut self, m: usize) -> Option<Self> {
        let there = &mut self.containers[m + 1];
        if self.migrations[m].holding != Some(Holding::Released) || self.destroyed[m + 1] {
            return None;
        }
        match there.process {
            Process::Held => there.process = Process::Running,
            Process::None => (there.process, there.warm) = (Process::Running, false),
            Process::Running | Process::Frozen => return None,
        }
        Some(self)
    }
}
