//! Moves that are drawn: which services, by number, and each to the fullest node that has room.

use super::Order;
use crate::clock::SimTime;
use crate::stream::{Purpose, Stream};

/// What moves are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawing {
    /// How many services start on each node; not 0.
    pub per_node: u32,
    /// How many a node has room for; not less.
    pub room: u32,
    /// Moves per tick of 1000 nodes; at most half of their services, so that a service is drawn once in a tick.
    pub per_1000_nodes: u32,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Drawing {
    /// The moves of so many nodes in so many ticks of so many nanoseconds, so that there is room for each while all of its tick take
    /// room at both ends. None begins in the first tick.
    pub fn orders(&self, nodes: u32, ticks: u64, tick: u64) -> Vec<Order> {
        let stream = Stream::of(self.seed, Purpose::Moves, 0);
        let (per_node, room) = (self.per_node as usize, self.room as usize);
        let mut on: Vec<u32> = (0..nodes * self.per_node).map(|service| service / self.per_node).collect();
        let mut there = Fullness::even(nodes, per_node, room);
        let mut orders = Vec::new();
        let mut count = 0;
        // The last tick in which each service was drawn.
        let mut drawn_in = vec![0; on.len()];
        for number in 1..ticks {
            let until = |tick: u64| tick * u64::from(self.per_1000_nodes) * u64::from(nodes) / 1000;
            let mut left = Vec::new();
            for _ in until(number - 1)..until(number) {
                // No more than half of the services move in a tick, so this ends.
                let service = loop {
                    let drawn = stream.below(count, on.len() as u64) as usize;
                    count += 1;
                    if std::mem::replace(&mut drawn_in[drawn], number) != number {
                        break drawn;
                    }
                };
                let from = on[service];
                let Some(to) = there.fullest_but(from) else { continue };
                there.change(to, 1);
                on[service] = to;
                left.push(from);
                orders.push(Order { at: SimTime::from_nanos(number * tick), service: service as u32, to });
            }
            for from in left {
                there.change(from, -1);
            }
        }
        orders
    }
}

/// Nodes by the services that they host: the fullest with room is found without a look at all of them.
struct Fullness {
    hosted: Vec<usize>,
    levels: Vec<Level>,
}

/// Nodes that host as many, one bit for each.
#[derive(Clone)]
struct Level {
    words: Vec<u64>,
    /// No word before this one has a node.
    first: usize,
}

impl Level {
    fn put(&mut self, node: u32) {
        let word = node as usize / 64;
        self.words[word] |= 1 << (node % 64);
        self.first = self.first.min(word);
    }

    fn take(&mut self, node: u32) {
        self.words[node as usize / 64] &= !(1 << (node % 64));
    }

    /// The first node, but this one.
    fn first_but(&mut self, but: u32) -> Option<u32> {
        while self.words.get(self.first).is_some_and(|word| *word == 0) {
            self.first += 1;
        }
        (self.first..self.words.len()).find_map(|word| {
            let besides = if word == but as usize / 64 { !(1 << (but % 64)) } else { u64::MAX };
            let bits = self.words[word] & besides;
            (bits != 0).then(|| word as u32 * 64 + bits.trailing_zeros())
        })
    }
}

impl Fullness {
    /// Nodes that host as many each, of as many as they have room for.
    fn even(nodes: u32, per_node: usize, room: usize) -> Self {
        let words = (nodes as usize).div_ceil(64);
        let mut levels = vec![Level { words: vec![0; words], first: words }; room + 1];
        (0..nodes).for_each(|node| levels[per_node].put(node));
        Self { hosted: vec![per_node; nodes as usize], levels }
    }

    /// The fullest node that has room, but this one; of several, the first.
    fn fullest_but(&mut self, but: u32) -> Option<u32> {
        let (_, with_room) = self.levels.split_last_mut()?;
        with_room.iter_mut().rev().find_map(|level| level.first_but(but))
    }

    fn change(&mut self, node: u32, by: isize) {
        let hosted = &mut self.hosted[node as usize];
        self.levels[*hosted].take(node);
        *hosted = hosted.saturating_add_signed(by).min(self.levels.len() - 1);
        self.levels[*hosted].put(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWING: Drawing = Drawing { per_node: 4, room: 8, per_1000_nodes: 7, seed: 1 };

    #[test]
    fn as_many_move_as_are_asked_for_and_there_is_room_for_each() {
        let orders = DRAWING.orders(1000, 288, 5);
        assert_eq!(orders.len(), 2009);
        let mut hosted = vec![4; 1000];
        let mut on: Vec<u32> = (0..4000).map(|service| service / 4).collect();
        for tick in orders.chunk_by(|one, other| one.at == other.at) {
            for one in tick {
                hosted[one.to as usize] += 1;
                assert!(hosted[one.to as usize] <= 8 && on[one.service as usize] != one.to);
            }
            for one in tick {
                hosted[std::mem::replace(&mut on[one.service as usize], one.to) as usize] -= 1;
            }
        }
    }

    #[test]
    fn half_of_the_services_of_a_tick_can_be_drawn() {
        // With one node there is nowhere to go.
        assert!(Drawing { per_1000_nodes: 2000, ..DRAWING }.orders(1, 10, 1).is_empty());
        let all = Drawing { per_1000_nodes: 2000, ..DRAWING }.orders(50, 20, 1);
        assert!(all.len() > 500, "{}", all.len());
    }
}
