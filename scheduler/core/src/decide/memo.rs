//! Placements that were found before, for whoever asks for the same ones again and again.
//!
//! Where everything best goes depends on what the policy wants and allows and on what is seen, and not on how soon, how often and
//! for how much gain it lets services move. So policies that differ in that alone, and looks between which nothing changed, ask
//! for the placement of the very same model.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash as _, Hasher};
use std::sync::Mutex;

use crate::assignment::model::Model;
use crate::assignment::stages::Staged;

/// Placements by the model that they are of, as many as it may keep. Several threads may share one.
///
/// Models are told apart by 256 bits of blake3 over all that is in them: that two are taken for one is less likely than that a
/// processor errs.
#[derive(Debug)]
pub struct Memo {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    placements: BTreeMap<[u8; 32], Staged>,
    /// The oldest first.
    order: VecDeque<[u8; 32]>,
    used: Used,
}

/// How often a memo was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Placements that were asked for.
    pub asked: u64,
    /// Those of them that were known.
    pub known: u64,
}

impl Memo {
    /// With room for so many placements.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// How often it was asked so far.
    pub fn used(&self) -> Used {
        self.lock().used
    }

    /// The placement of a model, as it was found before or is found now.
    pub(super) fn placement<E>(
        &self,
        model: &Model,
        seed: u64,
        find: impl FnOnce() -> Result<Staged, E>,
    ) -> Result<Staged, E> {
        let key = key(model, seed);
        {
            let mut kept = self.lock();
            kept.used.asked += 1;
            if let Some(found) = kept.placements.get(&key).cloned() {
                kept.used.known += 1;
                return Ok(found);
            }
        }
        // Nobody waits for it: another thread finds the same.
        let found = find()?;
        let mut kept = self.lock();
        if self.most > 0 && kept.placements.insert(key, found.clone()).is_none() {
            kept.order.push_back(key);
            if kept.order.len() > self.most
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.placements.remove(&oldest);
            }
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // What is in it is whole whenever the lock is free.
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn key(model: &Model, seed: u64) -> [u8; 32] {
    let mut hasher = Blake { whole: blake3::Hasher::new(), waiting: Vec::with_capacity(AT_ONCE) };
    (model, seed).hash(&mut hasher);
    *hasher.finished().as_bytes()
}

/// So many bytes are hashed at once: a model says of itself numbers of eight bytes, and blake3 is many times as fast where it gets
/// several of its chunks together.
const AT_ONCE: usize = 1 << 14;

/// Hands on to blake3 what a value says of itself.
struct Blake {
    whole: blake3::Hasher,
    waiting: Vec<u8>,
}

impl Blake {
    fn finished(&self) -> blake3::Hash {
        self.whole.clone().update(&self.waiting).finalize()
    }
}

impl Hasher for Blake {
    fn write(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > AT_ONCE {
            self.whole.update(&self.waiting);
            self.waiting.clear();
        }
        if bytes.len() > AT_ONCE {
            self.whole.update(bytes);
        } else {
            self.waiting.extend_from_slice(bytes);
        }
    }

    fn finish(&self) -> u64 {
        self.finished().as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::Bin;
    use std::convert::Infallible;

    #[test]
    fn what_is_known_is_not_found_again_until_it_is_forgotten() {
        let memo = Memo::new(2);
        let model = |room: i64| Model {
            bins: vec![Bin { name: "one".to_owned(), capacity: vec![room] }],
            ..Model::default()
        };
        let staged = |value: i64| Staged { at: Vec::new(), values: vec![value], stages: Vec::new() };
        let ask = |room: i64, seed: u64, value: i64| {
            memo.placement(&model(room), seed, || Ok::<_, Infallible>(staged(value))).unwrap().values[0]
        };
        assert_eq!([ask(1, 0, 10), ask(1, 0, 11)], [10, 10]);
        // Another seed, and another model.
        assert_eq!([ask(1, 1, 12), ask(2, 0, 13)], [12, 13]);
        // The first had to make room.
        assert_eq!([ask(1, 1, 0), ask(2, 0, 0), ask(1, 0, 14)], [12, 13, 14]);
        assert_eq!(memo.used(), Used { asked: 7, known: 3 });
    }

    #[test]
    fn failures_are_not_kept() {
        let memo = Memo::new(2);
        assert_eq!(memo.placement(&Model::default(), 0, || Err(7)), Err(7));
        let found = Staged { at: Vec::new(), values: Vec::new(), stages: Vec::new() };
        assert_eq!(memo.placement(&Model::default(), 0, || Ok::<_, u8>(found.clone())), Ok(found.clone()));
    }
}
