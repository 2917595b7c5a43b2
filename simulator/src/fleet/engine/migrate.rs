//! What a migration does on its way: it takes room at both ends, sends, freezes, arrives.

use super::{Engine, Event, Moving};
use crate::fleet::Order;
use crate::fleet::curve::WHOLE;
use crate::fleet::passes::{Memory, Passes};
use crate::fleet::report::{Migrated, Refusal, Refused};

impl Engine<'_> {
    /// Begins a move, refuses it, or lets it wait.
    pub(super) fn begin(&mut self, index: u32) {
        let order = self.fleet.orders[index as usize];
        if let Some(why) = self.obstacle(&order) {
            self.refused.push(Refused { order: index, at: self.now, why });
            return;
        }
        let (service, to) = (order.service as usize, order.to as usize);
        let from = self.on[service] as usize;
        if let Some(busy) = [self.on[service], order.to].into_iter().find(|node| self.busy[*node as usize]) {
            self.waiting.entry(busy).or_default().push(index);
            return;
        }
        let (services, nodes) = (&self.fleet.services, &self.fleet.nodes);
        let room = self.free_cpu[to]
            .checked_sub(services.cpu[service])
            .zip(self.free_memory[to].checked_sub(services.memory[service]));
        let Some((free_cpu, free_memory)) = room else {
            self.refused.push(Refused { order: index, at: self.now, why: Refusal::NoRoom });
            return;
        };
        let bandwidth = nodes.bandwidth[from].min(nodes.bandwidth[to]);
        let memory = Memory {
            size: services.memory[service],
            dirty: share_of(services.dirty[service], self.shares[service]),
            working_set: services.working_set[service],
            bandwidth,
        };
        let passes = Passes::of(memory, self.fleet.transfer.limits);
        let (freezes, ends) = passes.from(self.now);

        self.settle(from);
        self.settle(to);
        (self.free_cpu[to], self.free_memory[to]) = (free_cpu, free_memory);
        self.host(to, 1);
        self.ask(order.to, service, true);
        let overhead = self.overhead();
        self.loads[from] += overhead;
        self.loads[to] += overhead;
        self.refresh(from);
        self.refresh(to);

        // As many as there are moves, which fit.
        let migration = self.migrations.len() as u32;
        (self.busy[from], self.busy[to]) = (true, true);
        self.moves[service] = true;
        let from = self.on[service];
        self.moving.push(Moving { migration, service: order.service, from, to: order.to, frozen: false });
        self.migrations.push(Migrated {
            order: index,
            service: order.service,
            from,
            to: order.to,
            began: self.now,
            freezes,
            ends,
            bandwidth,
            passes: passes.count,
            converged: passes.converged,
            bytes: passes.bytes,
            over: false,
        });
        self.queue.push(freezes, Event::Freeze(migration));
        self.queue.push(ends, Event::End(migration));
    }

    /// What makes a move impossible, now and later.
    fn obstacle(&self, order: &Order) -> Option<Refusal> {
        let service = order.service as usize;
        if self.moves[service] {
            Some(Refusal::Moving)
        } else if self.on[service] == order.to {
            Some(Refusal::There)
        } else {
            None
        }
    }

    /// The service stands still.
    pub(super) fn freeze(&mut self, migration: u32) {
        let Some(at) = self.moving.iter().position(|one| one.migration == migration) else { return };
        self.moving[at].frozen = true;
        let (from, service) = (self.moving[at].from as usize, self.moving[at].service as usize);
        self.settle(from);
        self.loads[from] -= self.load_of(service);
        self.refresh(from);
    }

    /// The service runs at the destination.
    pub(super) fn end(&mut self, migration: u32) {
        let Some(at) = self.moving.iter().position(|one| one.migration == migration) else { return };
        let moving = self.moving.swap_remove(at);
        let (from, to, service) = (moving.from as usize, moving.to as usize, moving.service as usize);
        self.settle(from);
        self.settle(to);
        let overhead = self.overhead();
        self.loads[from] -= overhead;
        self.loads[to] = self.loads[to] - overhead + self.load_of(service);
        self.on[service] = moving.to;
        self.moves[service] = false;
        (self.busy[from], self.busy[to]) = (false, false);
        self.free_cpu[from] += self.fleet.services.cpu[service];
        self.free_memory[from] += self.fleet.services.memory[service];
        self.host(from, -1);
        self.ask(moving.from, service, false);
        self.refresh(from);
        self.refresh(to);
        self.migrations[migration as usize].over = true;
        let bytes = self.migrations[migration as usize].bytes;
        self.carry(from, to, bytes);
        // In the order in which they were wanted.
        let mut waiting = self.waiting.remove(&moving.from).unwrap_or_default();
        waiting.extend(self.waiting.remove(&moving.to).unwrap_or_default());
        waiting.sort_unstable();
        for order in waiting {
            self.begin(order);
        }
    }

    /// Puts down what went from one node to another.
    pub(super) fn carry(&mut self, from: usize, to: usize, bytes: u64) {
        let (from, to) = (self.site_of(from), self.site_of(to));
        self.accounts[from].sent += u128::from(bytes);
        self.accounts[to].received += u128::from(bytes);
        if from != to {
            self.accounts[from].egress += u128::from(bytes);
        }
    }
}

/// What a service writes per second while it uses a share of what it asks for.
fn share_of(dirty: u64, share: u16) -> u64 {
    let scaled = u128::from(dirty) * u128::from(share) / u128::from(WHOLE);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
