//! What must hold in every state.

use sterna_executor::migration::holding::Holding;

use super::{MESSAGES, MIGRATIONS, Message, NODES, Process, ROUNDS, State, Walk, Weakness};

impl State {
    /// What is wrong with this state.
    pub fn judge(&self, weakness: Weakness) -> Result<(), String> {
        let running: Vec<usize> =
            (0..NODES).filter(|node| self.containers[*node].process == Process::Running).collect();
        if running.len() > 1 {
            return Err(format!("two copies run: {running:?}"));
        }
        if let Some(node) = running.iter().find(|node| !self.owns(**node)) {
            return Err(format!("node {node} runs what it does not own"));
        }
        if (0..NODES).filter(|node| self.owns(*node)).count() > 1 {
            return Err("two nodes own it".to_owned());
        }
        let cold = self.containers.iter().any(|one| one.process == Process::Running && !one.warm);
        if cold && !self.memory_gone {
            return Err("it was started anew although its memory was not gone".to_owned());
        }
        self.heals(weakness)
    }

    /// Whether the agents find the way out by themselves, once faults end and every call arrives.
    fn heals(mut self, weakness: Weakness) -> Result<(), String> {
        for _ in 0..ROUNDS {
            let before = self;
            for m in 0..MIGRATIONS {
                for message in MESSAGES {
                    let waits = self.waits_for(m, message) && !self.migrations[m].answered.has(message);
                    if waits && let Some(next) = self.deliver(m, message, weakness) {
                        self = next;
                    }
                }
                self = self.fence(m, weakness).unwrap_or(self);
                self = self.inquire(m, weakness).unwrap_or(self);
                self = self.revive(m).unwrap_or(self);
                self = self.step(m, weakness).unwrap_or(self);
                // A call that can't be carried out is answered so, and one that is not answered runs into its deadline.
                if self.migrations[m] == before.migrations[m] {
                    self = self.give_up(m).unwrap_or(self);
                }
            }
            if self == before {
                break;
            }
        }
        // A destroyed owner takes the service with it; what is promised is that nothing else does.
        let owner_destroyed = !(0..NODES).any(|node| self.owns(node));
        let running = self.containers.iter().filter(|one| one.process == Process::Running).count();
        if running != 1 && !(owner_destroyed && self.destroyed.contains(&true)) {
            return Err(format!("no way out: {running} copies run in the end: {:?}", self.migrations));
        }
        for (m, migration) in self.migrations.iter().enumerate() {
            let over = matches!(migration.walk, Walk::Idle | Walk::Ended);
            if !over && !self.destroyed[m] && !self.destroyed[m + 1] {
                return Err(format!("no way out: migration {m} never ends: {migration:?}"));
            }
            if migration.holding == Some(Holding::Held) && !self.destroyed[m] && !self.destroyed[m + 1] {
                return Err(format!("no way out: migration {m} is held for ever"));
            }
        }
        Ok(())
    }

    /// Whether the source's agent waits for the answer to a call.
    fn waits_for(&self, m: usize, message: Message) -> bool {
        self.migrations[m].sent.has(message) && !matches!(self.migrations[m].walk, Walk::Idle | Walk::Ended)
    }
}
