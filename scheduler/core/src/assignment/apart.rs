//! Objectives in which each item counts for itself: what they can't be less than, and the way there where there is room.
//!
//! Where every item can have its own best at once, nothing is better, and nobody has to search or to ask a solver: then it does
//! not matter how large a problem is. And what an objective is limited to says for every item which bins are too dear for it,
//! even if all others had their best; later objectives need not look at those.

use super::model::{Level, Objective, Term};
use super::problem::{Problem, place};
use super::state::State;

/// The bins that are left to each item.
#[derive(Debug)]
pub(super) struct Apart<'a> {
    problem: &'a Problem,
    /// Ascending.
    options: Vec<Vec<u32>>,
}

/// What each item comes to on the bins that are left to it.
#[derive(Debug)]
pub(super) struct Worths {
    /// By item, in the order of its options.
    of: Vec<Vec<i64>>,
    least: Vec<i64>,
}

impl Worths {
    /// What no assignment is worth less than.
    pub(super) fn bound(&self) -> i128 {
        self.least.iter().map(|least| i128::from(*least)).sum()
    }
}

impl<'a> Apart<'a> {
    /// All bins that items may be on.
    pub(super) fn new(problem: &'a Problem) -> Self {
        let all = || (0..problem.bins() as u32).collect();
        let options =
            (0..problem.items()).map(|item| problem.allowed(item).map_or_else(all, <[u32]>::to_vec));
        Self { problem, options: options.collect() }
    }

    /// What items come to in an objective; nothing if it looks at more than one item at a time.
    pub(super) fn worths(&self, objective: &Objective) -> Option<Worths> {
        let alone = |term: &Term| matches!(term, Term::Pair { .. } | Term::ItemMove { .. });
        if !objective.terms.iter().all(alone) {
            return None;
        }
        let of_item = |item: usize| -> Vec<i64> {
            let bins = self.options[item].iter();
            bins.map(|bin| objective.terms.iter().map(|term| self.worth(term, item, *bin)).sum()).collect()
        };
        let of: Vec<Vec<i64>> = (0..self.options.len()).map(of_item).collect();
        let least = of.iter().map(|values| values.iter().copied().min().unwrap_or(0)).collect();
        Some(Worths { of, least })
    }

    fn worth(&self, term: &Term, item: usize, bin: u32) -> i64 {
        match term {
            Term::Pair { level, row, table } => {
                let part = match level {
                    Level::Bin => bin,
                    Level::Scope(_) => self.problem.parts[place(*level)][bin as usize],
                };
                table[row[item] as usize][part as usize]
            }
            Term::ItemMove { cost } if self.problem.now[item] != bin => cost[item],
            _ => 0,
        }
    }

    /// Leaves out the bins on which an item would be worth so much that an objective came to more than `most`, even if all others
    /// were worth as little as they can.
    pub(super) fn narrow(&mut self, worths: &Worths, most: i64) {
        let spare = i128::from(most) - worths.bound();
        for ((options, values), least) in self.options.iter_mut().zip(&worths.of).zip(&worths.least) {
            let mut values = values.iter();
            options.retain(|_| values.next().is_some_and(|value| i128::from(value - least) <= spare));
        }
    }

    /// Takes every item to a bin where it is worth least, where it may go and has room, the first of them; and back, if not all
    /// can. Whether they could.
    pub(super) fn reach(&self, worths: &Worths, state: &mut State<'_>) -> bool {
        let before = state.at().to_vec();
        for (item, (options, values)) in self.options.iter().zip(&worths.of).enumerate() {
            let least = worths.least[item];
            let best = options.iter().zip(values).filter(|(_, value)| **value == least).map(|(bin, _)| *bin);
            let best: Vec<u32> = best.collect();
            if best.binary_search(&state.at()[item]).is_ok() {
                continue;
            }
            // One that is as good as it is now in all that was decided before, else others have to give way for it.
            let goes = best.iter().any(|bin| {
                let from = state.at()[item];
                if state.attempt(&[(item, *bin)]).is_none() {
                    return false;
                }
                if !state.within_limits() {
                    state.go(item, from);
                    return false;
                }
                true
            });
            if !goes {
                state.reset(&before);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Bin, Dimension, Item, Model, Tolerance};
    use super::*;

    /// Two items on three bins: the first is best on 1, the second on 1 or 2; a bin has room for one of them.
    fn model(room: i64) -> Model {
        let pair = |table: Vec<Vec<i64>>| Term::Pair { level: Level::Bin, row: vec![0, 1], table };
        let objective = |terms| Objective { terms, ..Objective::default() };
        let item = || Item { name: String::new(), uses: vec![1], now: 0, bins: None };
        Model {
            dimensions: vec![Dimension { name: String::new(), transient: false }],
            bins: [2, room, room].map(|room| Bin { name: String::new(), capacity: vec![room] }).to_vec(),
            items: vec![item(), item()],
            objectives: vec![
                Objective {
                    tolerance: Tolerance::Sum(1),
                    ..objective(vec![pair(vec![vec![5, 1, 3], vec![5, 2, 2]])])
                },
                objective(vec![Term::ItemMove { cost: vec![1, 1] }]),
            ],
            ..Model::default()
        }
    }

    #[test]
    fn everybody_has_their_best_where_there_is_room() {
        for (room, ends) in [(2, [1, 1]), (1, [1, 2])] {
            let model = model(room);
            let problem = Problem::new(&model).unwrap();
            let mut state = State::new(&problem, &problem.now);
            let apart = Apart::new(&problem);
            let worths = apart.worths(&model.objectives[0]).unwrap();
            assert_eq!(worths.bound(), 3);
            assert!(apart.reach(&worths, &mut state));
            assert_eq!((state.at(), state.value()), (&ends[..], 3));
        }
        let model = model(0);
        let problem = Problem::new(&model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        let apart = Apart::new(&problem);
        let worths = apart.worths(&model.objectives[0]).unwrap();
        assert!(!apart.reach(&worths, &mut state));
        assert_eq!(state.at(), &problem.now);
    }

    #[test]
    fn what_a_limit_rules_out_is_left_out() {
        let model = model(2);
        let problem = Problem::new(&model).unwrap();
        let mut apart = Apart::new(&problem);
        let worths = apart.worths(&model.objectives[0]).unwrap();
        apart.narrow(&worths, 4);
        assert_eq!(apart.options, [vec![1], vec![1, 2]]);
        // Staying is out of the question by now.
        assert_eq!(apart.worths(&model.objectives[1]).unwrap().bound(), 2);
        let open = Objective { terms: vec![Term::Open { cost: vec![1; 3] }], ..Objective::default() };
        assert!(apart.worths(&open).is_none());
    }
}
