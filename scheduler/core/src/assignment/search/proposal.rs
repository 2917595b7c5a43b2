//! What is proposed, and taken if it is not too much worse: an item goes elsewhere, two change places, or one goes where another
//! makes way for it; and where bins cost something to open, or items hold each other, changes of several moves.

use fastrand::Rng;

use super::choice::Choice;
use super::compound::SHARE;
use super::holding::Holding;
use super::near::Near;
use super::opening::Opening;
use crate::assignment::state::{Change, State};

/// Places that are tried for one item, and partners.
const TARGETS: u64 = 4;
/// How often a place is near where the item or somebody is who holds it, where that is known.
const NEAR: f64 = 0.8;
/// How many kinds of luck there are before they come again.
const LUCK: usize = 1024;

/// Makes proposals at a temperature.
#[derive(Debug)]
pub struct Proposer {
    pub(super) choice: Choice,
    holding: Holding,
    pub(super) opening: Option<Opening>,
    pub(super) near: Option<Near>,
    pub(super) random: Rng,
    temperature: f64,
    luck: Vec<f64>,
    /// How much more work is due for changes of several moves.
    due: f64,
}

impl Proposer {
    /// Over some items; nothing if there are none.
    pub(super) fn new(state: &State<'_>, items: &[u32], mut random: Rng) -> Option<Self> {
        let choice = Choice::new(state, items, &mut random)?;
        let (problem, objective) = (state.problem(), state.objective);
        Some(Self {
            choice,
            holding: Holding::new(problem),
            opening: Opening::new(problem, objective),
            near: Near::new(problem, objective),
            random,
            temperature: 0.0,
            luck: vec![0.0; LUCK],
            due: 0.0,
        })
    }

    /// Whether bins cost something to open.
    pub(super) const fn opens(&self) -> bool {
        self.opening.is_some()
    }

    /// From now on it is so hot.
    pub(super) fn heat(&mut self, temperature: f64) {
        self.temperature = temperature;
        self.choice.heat(temperature);
        if let Some(opening) = &mut self.opening {
            opening.heat(temperature);
        }
        for luck in &mut self.luck {
            *luck = -self.random.f64().max(f64::MIN_POSITIVE).ln();
        }
    }

    /// By how much worse the next may be (Metropolis).
    #[inline]
    pub(super) fn most(&mut self) -> i64 {
        (self.temperature * self.luck[self.random.usize(..LUCK)]) as i64
    }

    #[inline]
    fn holds(&self, state: &State<'_>, item: usize, to: u32) -> i64 {
        self.holding.more(state, item, to, self.temperature)
    }

    /// What counts only while it is hot of an item that goes to a bin.
    #[inline]
    pub(super) fn hot(&self, state: &State<'_>, item: usize, to: u32) -> i64 {
        let opening = self.opening.as_ref().map_or(0, |opening| opening.shift(state, item, to));
        opening + self.holds(state, item, to)
    }

    /// The same of an item that goes to the bin of another, which goes elsewhere.
    #[inline]
    fn hot_chain(&self, state: &State<'_>, one: usize, other: usize, to: u32) -> i64 {
        let opening = self.opening.as_ref().map_or(0, |opening| opening.chain(state, one, other, to));
        opening + self.holds(state, one, state.at()[other]) + self.holds(state, other, to)
    }

    /// Mostly near where it is or where somebody is who holds it, if there is anything to hold it; else anywhere.
    fn target(&mut self, state: &State<'_>, item: usize) -> u32 {
        if let Some(near) = &self.near
            && self.random.f64() < NEAR
        {
            let partners = near.partners(item);
            let there = match self.random.usize(..=partners.len()) {
                0 => item,
                at => partners[at - 1] as usize,
            };
            let beside = near.beside(state.at()[there]);
            if *beside != [state.at()[item]] {
                return beside[self.random.usize(..beside.len())];
            }
        }
        match state.problem().allowed(item) {
            Some(bins) => bins[self.random.usize(..bins.len())],
            None => self.random.usize(..state.problem().bins()) as u32,
        }
    }

    /// Proposes until one is taken or some are not; how many.
    #[inline]
    pub(super) fn step(&mut self, state: &mut State<'_>) -> u64 {
        let item = self.choice.any(&mut self.random);
        if self.near.is_none() {
            return self.single(state, item);
        }
        if self.due > 0.0 {
            let made = self.compound(state, item);
            self.due -= made as f64;
            return made;
        }
        let made = self.single(state, item);
        self.due += made as f64 * SHARE / (1.0 - SHARE);
        made
    }

    #[inline]
    pub(super) fn single(&mut self, state: &mut State<'_>, item: usize) -> u64 {
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
            let most = self.most() - self.hot(state, item, to);
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
            let most = self.most() - self.hot_chain(state, item, other, here);
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
            let most = self.most() - self.hot_chain(state, item, other, to);
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
