//! Which items are tried: those that matter at a temperature, and partners of about their size.
//!
//! What is at stake when an item goes elsewhere spreads over many powers of ten. Items with much less at stake than the temperature
//! only make noise, and the few large ones, which settle first, would hardly ever be tried.

use fastrand::Rng;

use crate::assignment::state::State;

/// Bins that are looked at to find what is at stake.
const LOOKS: usize = 6;
/// What has to be at stake, by the temperature.
const MATTERS: f64 = 0.1;
/// How often any item is tried, whatever is at stake.
const ANY: f64 = 0.2;
/// How often a partner is one of about the same size.
const ALIKE: f64 = 0.5;
/// At least so many items matter, or one in so many.
const LEAST: (usize, usize) = (32, 50);

/// Items in the order of what is at stake when they go elsewhere.
#[derive(Debug)]
pub struct Choice {
    order: Vec<u32>,
    /// In that order.
    stakes: Vec<f64>,
    /// Where each item stands in that order.
    place: Vec<u32>,
    /// Where those begin that matter.
    low: usize,
}

impl Choice {
    /// Looks at what is at stake for some items; nothing if there are none.
    pub(super) fn new(state: &State<'_>, items: &[u32], random: &mut Rng) -> Option<Self> {
        let bins = state.problem().bins() as u32;
        let mut stake = |item: u32| {
            let looks =
                (0..LOOKS).map(|_| state.stake(item as usize, random.u32(..bins)).unsigned_abs() as f64);
            looks.sum::<f64>() / LOOKS as f64
        };
        let mut staked: Vec<(f64, u32)> = items.iter().map(|item| (stake(*item), *item)).collect();
        staked.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let mut place = vec![0; state.problem().items()];
        for (at, (_, item)) in staked.iter().enumerate() {
            place[*item as usize] = at as u32;
        }
        let (stakes, order): (_, Vec<u32>) = staked.into_iter().unzip();
        (!order.is_empty()).then_some(Self { order, stakes, place, low: 0 })
    }

    /// From now on it is so hot.
    pub(super) fn heat(&mut self, temperature: f64) {
        let least = LEAST.0.min(self.order.len() / LEAST.1).max(1);
        let low = self.stakes.partition_point(|stake| *stake < temperature * MATTERS);
        self.low = low.min(self.order.len() - least);
    }

    /// Any item.
    pub(super) fn uniform(&self, random: &mut Rng) -> usize {
        self.order[random.usize(..self.order.len())] as usize
    }

    /// An item that matters, mostly.
    #[inline]
    pub(super) fn any(&self, random: &mut Rng) -> usize {
        let low = if random.f64() < ANY { 0 } else { self.low };
        self.order[random.usize(low..self.order.len())] as usize
    }

    /// A partner for an item.
    #[inline]
    pub(super) fn partner(&self, item: usize, random: &mut Rng) -> usize {
        let count = self.order.len();
        if count < 2 || random.f64() >= ALIKE {
            return self.any(random);
        }
        // As often near as far, by powers of two.
        let scale = random.u32(..count.ilog2());
        let distance = random.usize(..2 << scale) % count + 1;
        let place = self.place[item] as usize;
        let at = if random.bool() { place + distance } else { place + count - distance };
        self.order[at % count] as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "all of it is test code")]
mod tests {
    use super::*;
    use crate::assignment::model::{Bin, Item, Level, Model, Objective, Term};
    use crate::assignment::problem::Problem;

    /// 100 items with one at stake each, and 100 with a thousand.
    fn model() -> Model {
        let bin = |name: &str| Bin { name: name.to_owned(), capacity: Vec::new() };
        let item = |number: usize| Item { name: number.to_string(), uses: Vec::new(), now: 0, bins: None };
        let pair = Term::Pair {
            level: Level::Bin,
            row: (0..200).map(|number| number / 100).collect(),
            table: vec![vec![0, 1], vec![0, 1000]],
        };
        Model {
            bins: vec![bin("here"), bin("there")],
            items: (0..200).map(item).collect(),
            objectives: vec![Objective { terms: vec![pair], ..Objective::default() }],
            ..Model::default()
        }
    }

    /// A choice of the first of them.
    fn choice_of(items: u32) -> Option<Choice> {
        let problem = Problem::new(&model()).unwrap();
        let state = State::new(&problem, &problem.now);
        Choice::new(&state, &(0..items).collect::<Vec<u32>>(), &mut Rng::with_seed(1))
    }

    /// How many of a thousand draws are items with much at stake.
    fn large(mut draw: impl FnMut(&mut Rng) -> usize) -> usize {
        let mut random = Rng::with_seed(1);
        (0..1000).filter(|_| draw(&mut random) >= 100).count()
    }

    #[test]
    fn what_matters_at_a_temperature_is_tried() {
        let mut choice = choice_of(200).unwrap();
        choice.heat(0.0);
        assert!((400..600).contains(&large(|random| choice.any(random))));
        // One is a hundredth of that: only one in five is drawn from all.
        choice.heat(100.0);
        assert!((850..950).contains(&large(|random| choice.any(random))));
        // Somebody is tried however hot it is.
        choice.heat(1e12);
        assert!(large(|random| choice.any(random)) > 850);
        assert!((400..600).contains(&large(|random| choice.uniform(random))));
        assert!(choice_of(0).is_none());
    }

    #[test]
    fn partners_are_often_alike() {
        let mut choice = choice_of(200).unwrap();
        choice.heat(0.0);
        // In the middle of its kind, a small one meets small ones more often than one in two.
        let middle = choice.order[50] as usize;
        assert!(large(|random| choice.partner(middle, random)) < 400);
    }
}
