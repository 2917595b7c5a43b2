//! What is near: bins that cost an item about the same, and items that hold each other where they are.

use crate::assignment::problem::{Lists, Problem};

/// Bins by the part that matters to most of what is minimised, and for each item those that it talks to or is tied to.
#[derive(Debug)]
pub struct Near {
    /// The part of each bin.
    part: Vec<u32>,
    /// The bins of each part.
    bins: Lists<u32>,
    partners: Lists<u32>,
}

impl Near {
    /// Nothing where bins cost nothing to open, nobody talks and no rule keeps items together: there single moves do.
    pub(super) fn new(problem: &Problem, objective: usize) -> Option<Self> {
        let worth = &problem.worths[objective];
        let ties = problem.laws.keep_together();
        if !worth.opens() && !worth.talks() && !ties {
            return None;
        }
        let part = problem.parts[worth.level()].clone();
        let count = part.iter().max().map_or(0, |last| *last as usize + 1);
        let mut bins = vec![Vec::new(); count];
        for (bin, part) in part.iter().enumerate() {
            bins[*part as usize].push(bin as u32);
        }
        let partners = (0..problem.items()).map(|item| {
            let mut all: Vec<u32> = worth.partners(item).chain(problem.laws.tied(item)).collect();
            all.sort_unstable();
            all.dedup();
            all.retain(|other| *other as usize != item);
            all
        });
        Some(Self { part, bins: Lists::new(bins), partners: Lists::new(partners) })
    }

    /// The bins that cost about the same as one.
    #[inline]
    pub(super) fn beside(&self, bin: u32) -> &[u32] {
        self.bins.of(self.part[bin as usize] as usize)
    }

    /// Whether two bins cost about the same.
    #[inline]
    pub(super) fn are(&self, one: u32, other: u32) -> bool {
        self.part[one as usize] == self.part[other as usize]
    }

    /// Whom an item talks to or is tied to.
    #[inline]
    pub(super) fn partners(&self, item: usize) -> &[u32] {
        self.partners.of(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::model::{
        Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
    };

    fn near(terms: Vec<Term>, rules: Vec<Rule>) -> Option<Near> {
        let bin = || Bin { name: String::new(), capacity: vec![9] };
        let item = || Item { name: String::new(), uses: vec![1], now: 0, bins: None };
        let model = Model {
            dimensions: vec![Dimension { name: String::new(), transient: false }],
            scopes: vec![Scope { name: String::new(), part: vec![0, 1, 0] }],
            bins: vec![bin(), bin(), bin()],
            items: vec![item(), item(), item()],
            groups: vec![
                Group { name: String::new(), items: vec![0] },
                Group { name: String::new(), items: vec![1, 2] },
            ],
            rules,
            objectives: vec![Objective { terms, ..Objective::default() }],
            ..Model::default()
        };
        Near::new(&Problem::new(&model).unwrap(), 0)
    }

    #[test]
    fn where_nothing_holds_items_nothing_is_near() {
        let conflict = Rule::Conflict { group: 1, level: Level::Bin, most: 1 };
        let dependency = Rule::Dependency { group: 0, needs: 1, level: Level::Scope(0) };
        assert!(near(vec![Term::ItemMove { cost: vec![1; 3] }], vec![conflict, dependency]).is_none());
        assert!(near(vec![Term::Open { cost: vec![1; 3] }], Vec::new()).is_some());
    }

    #[test]
    fn those_that_talk_or_are_tied_are_partners() {
        let flows = vec![Flow { one: 0, other: 1, volume: 2 }];
        let distance = vec![vec![0, 1], vec![1, 0]];
        let talk = Term::Traffic { level: Level::Scope(0), distance, flows };
        let made = near(vec![talk], Vec::new()).unwrap();
        assert_eq!([made.partners(0), made.partners(1), made.partners(2)], [&[1][..], &[0], &[]]);
        assert_eq!(made.beside(2), [0, 2]);
        assert!(made.are(0, 2) && !made.are(0, 1));
        let tie = Rule::CoLocation { group: 1, level: Level::Scope(0) };
        let needs = Rule::Dependency { group: 0, needs: 1, level: Level::Scope(0) };
        let made = near(Vec::new(), vec![tie, needs]).unwrap();
        assert_eq!([made.partners(0), made.partners(1), made.partners(2)], [&[1, 2][..], &[0, 2], &[0, 1]]);
    }
}
