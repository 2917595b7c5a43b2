//! What is proposed, and taken if it is not too much worse: an item goes elsewhere, two change places, or one goes where another
//! makes way for it.

use fastrand::Rng;

use super::choice::Choice;
use super::holding::Holding;
use crate::assignment::state::{Change, State};

/// Places that are tried for one item, and partners.
const TARGETS: u64 = 4;
/// How many kinds of luck there are before they come again.
const LUCK: usize = 1024;

/// Makes proposals at a temperature.
#[derive(Debug)]
pub struct Proposer {
    choice: Choice,
    holding: Holding,
    random: Rng,
    temperature: f64,
    luck: Vec<f64>,
}

impl Proposer {
    /// Over some items; nothing if there are none.
    pub(super) fn new(state: &State<'_>, items: &[u32], mut random: Rng) -> Option<Self> {
        let choice = Choice::new(state, items, &mut random)?;
        let holding = Holding::new(state.problem());
        Some(Self { choice, holding, random, temperature: 0.0, luck: vec![0.0; LUCK] })
    }

    /// From now on it is so hot.
    pub(super) fn heat(&mut self, temperature: f64) {
        self.temperature = temperature;
        self.choice.heat(temperature);
        for luck in &mut self.luck {
            *luck = -self.random.f64().max(f64::MIN_POSITIVE).ln();
        }
    }

    /// By how much worse the next may be (Metropolis).
    #[inline]
    fn most(&mut self) -> i64 {
        (self.temperature * self.luck[self.random.usize(..LUCK)]) as i64
    }

    #[inline]
    fn holds(&self, state: &State<'_>, item: usize, to: u32) -> i64 {
        self.holding.more(state, item, to, self.temperature)
    }

    fn target(&mut self, state: &State<'_>, item: usize) -> u32 {
        match state.problem().allowed(item) {
            Some(bins) => bins[self.random.usize(..bins.len())],
            None => self.random.usize(..state.problem().bins()) as u32,
        }
    }

    /// Proposes until one is taken or some are not; how many.
    #[inline]
    pub(super) fn step(&mut self, state: &mut State<'_>) -> u64 {
        let item = self.choice.any(&mut self.random);
        match self.random.u32(..3) {
            0 => self.shift(state, item),
            1 => self.swap(state, item),
            _ => self.chain(state, item),
        }
    }

    fn shift(&mut self, state: &mut State<'_>, item: usize) -> u64 {
        let leave = state.leave(item);
        for tried in 1..=TARGETS {
            let to = self.target(state, item);
            let most = self.most() - self.holds(state, item, to);
            if state.enter(&leave, to, most).is_some() && take(state, &[(item, to)]) {
                return tried;
            }
        }
        TARGETS
    }

    fn swap(&mut self, state: &mut State<'_>, item: usize) -> u64 {
        for tried in 1..=TARGETS {
            let other = self.choice.partner(item, &mut self.random);
            let (here, there) = (state.at()[item], state.at()[other]);
            let most = self.most() - self.holds(state, item, there) - self.holds(state, other, here);
            if state.swap(item, other, most).is_some() && take(state, &[(item, there), (other, here)]) {
                return tried;
            }
        }
        TARGETS
    }

    /// The one that makes way goes back as often as elsewhere: where room is held at both ends, that frees most.
    fn chain(&mut self, state: &mut State<'_>, item: usize) -> u64 {
        for tried in 1..=TARGETS {
            let other = self.choice.partner(item, &mut self.random);
            let (there, now) = (state.at()[other], state.problem().now[other]);
            let to = if there == now || self.random.bool() { self.target(state, other) } else { now };
            let most = self.most() - self.holds(state, item, there) - self.holds(state, other, to);
            if state.chain(item, other, to, most).is_some() && take(state, &[(other, to), (item, there)]) {
                return tried;
            }
        }
        TARGETS
    }

    /// By how much random neighbours are worse that are worse, in order.
    pub(super) fn worse(&mut self, state: &State<'_>, samples: usize) -> Vec<i64> {
        let mut worse = Vec::new();
        for _ in 0..samples {
            let item = self.choice.uniform(&mut self.random);
            let more = if self.random.bool() {
                let to = self.target(state, item);
                state.shift(item, to)
            } else {
                state.swap(item, self.choice.uniform(&mut self.random), i64::MAX)
            };
            worse.extend(more.filter(|more| *more > 0));
        }
        worse.sort_unstable();
        worse
    }
}

/// Makes changes that are allowed, unless an objective that is limited would come to too much; whether they were made.
#[inline]
fn take<const N: usize>(state: &mut State<'_>, changes: &[Change; N]) -> bool {
    let back = changes.map(|(item, _)| (item, state.at()[item]));
    for (item, to) in changes {
        state.go(*item, *to);
    }
    let within = state.within_limits();
    if !within {
        for (item, to) in back.into_iter().rev() {
            state.go(item, to);
        }
    }
    within
}
