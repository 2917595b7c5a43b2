//! Agents that are killed, nodes that go down or are destroyed, and what goes with them.

use sterna_executor::migration::holding::{Answer, Call, Holding, answer};
use sterna_executor::migration::register::Decision;

use super::{Container, Message, NODES, Process, Set, State, Walk, Weakness};

impl State {
    pub(super) fn deliver_half(mut self, m: usize) -> Option<Self> {
        let standing = self.containers[m + 1].process == Process::Held;
        let call = Call::Release { valid: true, standing };
        let arrives = self.migrations[m].sent.has(Message::Release) && !self.destroyed[m + 1];
        let Answer::Do(next) = answer(self.migrations[m].holding, call) else { return None };
        self.budget.crashes = self.budget.crashes.checked_sub(1).filter(|_| arrives)?;
        self.migrations[m].holding = Some(next);
        Some(self)
    }

    pub(super) fn crash(mut self, node: usize) -> Option<Self> {
        self.budget.crashes = self.budget.crashes.checked_sub(1)?;
        self.restart_agent(node).then_some(self)
    }

    pub(super) fn restart_agent(&mut self, node: usize) -> bool {
        let Some(migration) = self.migrations.get_mut(node) else { return false };
        let under_way = !matches!(migration.walk, Walk::Idle | Walk::Ended);
        if under_way {
            migration.walk = Walk::Restarted;
            migration.answered = Set::default();
            migration.lost = false;
        }
        under_way && !self.destroyed[node]
    }

    /// What goes with a node's RAM.
    pub(super) fn lose_ram(&mut self, node: usize) {
        let here = &mut self.containers[node];
        let ran = match here.process {
            Process::Running => true,
            // The certificate was noted, and whether the service ran since can't be told any more: it is as if it had.
            Process::Held => node > 0 && self.migrations[node - 1].holding == Some(Holding::Released),
            Process::None | Process::Frozen => false,
        };
        self.memory_gone |= ran && here.warm;
        (here.process, here.warm) = (Process::None, false);
        if let Some(leaving) = self.migrations.get_mut(node) {
            leaving.image_here = false;
        }
        if let Some(arriving) = node.checked_sub(1).and_then(|m| self.migrations.get_mut(m)) {
            arriving.image_there = false;
        }
        self.memory_gone |= !(0..NODES).any(|node| self.keeps_memory(node));
    }

    /// Whether what is on a node may still become the service with its memory. What was decided decides that too.
    pub(super) fn keeps_memory(&self, node: usize) -> bool {
        let left = self.migrations.get(node);
        let came = node.checked_sub(1).map(|m| self.migrations[m]);
        let here = self.containers[node];
        match here.process {
            _ if left.is_some_and(|m| m.decision == Decision::Commit) => {
                // Once the service has run elsewhere, the image here is of the past.
                left.is_some_and(|m| m.image_here && m.holding == Some(Holding::Held))
            }
            Process::None => false,
            Process::Held => here.warm && came.is_some_and(|m| m.decision != Decision::Abort),
            Process::Running | Process::Frozen => here.warm,
        }
    }

    pub(super) fn reboot(mut self, node: usize) -> Option<Self> {
        self.budget.reboots = self.budget.reboots.checked_sub(1).filter(|_| !self.destroyed[node])?;
        self.lose_ram(node);
        let here = &mut self.containers[node];
        if here.exists && here.restart {
            here.process = Process::Running;
        }
        self.restart_agent(node);
        Some(self)
    }

    pub(super) fn destroy(mut self, node: usize) -> Option<Self> {
        self.budget.destroyed = self.budget.destroyed.checked_sub(1).filter(|_| !self.destroyed[node])?;
        self.lose_ram(node);
        self.containers[node] =
            Container { exists: false, process: Process::None, warm: false, restart: false };
        self.destroyed[node] = true;
        Some(self)
    }

    pub(super) fn fence(mut self, m: usize, weakness: Weakness) -> Option<Self> {
        let standing = self.containers[m + 1].process == Process::Held;
        let gone = self.destroyed[m] || weakness == Weakness::FenceUnseen;
        if !gone || self.destroyed[m + 1] {
            return None;
        }
        let Answer::Do(Holding::Released) =
            answer(self.migrations[m].holding, Call::Release { valid: true, standing })
        else {
            return None;
        };
        self.migrations[m].holding = Some(Holding::Finished);
        self.containers[m + 1].process = Process::Running;
        self.containers[m + 1].restart = true;
        Some(self)
    }
}
