//! What is going to happen, in order: by time, and among equal times in the order in which it was put down.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::clock::SimTime;

/// Events to come. The order is total, so a run is the same every time.
#[derive(Debug, Clone)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

#[derive(Debug, Clone)]
struct Entry<E> {
    at: SimTime,
    sequence: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (SimTime, u64) {
        (self.at, self.sequence)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// Puts an event down.
    pub fn push(&mut self, at: SimTime, event: E) {
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, event }));
        self.sequence += 1;
    }

    /// When the next event is.
    pub fn next_at(&self) -> Option<SimTime> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next event out.
    pub fn pop(&mut self) -> Option<(SimTime, E)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_by_time_then_by_order_of_entry(times in proptest::collection::vec(0u64..20, 0..100)) {
            let mut queue = Queue::default();
            for (index, time) in times.iter().enumerate() {
                queue.push(SimTime::from_nanos(*time), index);
            }
            let mut expected: Vec<(u64, usize)> =
                times.iter().enumerate().map(|(index, time)| (*time, index)).collect();
            expected.sort_unstable();
            let mut got = Vec::new();
            while let Some(next) = queue.next_at() {
                let Some((at, index)) = queue.pop() else { unreachable!() };
                prop_assert_eq!(at, next);
                got.push((at.as_nanos(), index));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
