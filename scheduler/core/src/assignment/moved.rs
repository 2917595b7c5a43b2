//! How many items of each group are elsewhere than now, and the most of any.

use super::problem::Problem;

/// Items that are elsewhere than now.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    pub(super) items: u32,
    of_group: Vec<u32>,
    /// How many groups have so many.
    groups: Vec<u32>,
    pub(super) most: u32,
}

impl Moved {
    pub(super) fn new(problem: &Problem) -> Self {
        let count = problem.laws.members.len();
        let largest = (0..count).map(|group| problem.laws.members.of(group).len()).max().unwrap_or(0);
        let mut groups = vec![0; largest + 1];
        groups[0] = count as u32;
        Self { items: 0, of_group: vec![0; count], groups, most: 0 }
    }

    pub(super) fn leaves(&mut self, groups: &[u32]) {
        self.items += 1;
        for group in groups {
            let moved = &mut self.of_group[*group as usize];
            self.groups[*moved as usize] -= 1;
            *moved += 1;
            self.groups[*moved as usize] += 1;
            self.most = self.most.max(*moved);
        }
    }

    pub(super) fn returns(&mut self, groups: &[u32]) {
        self.items -= 1;
        for group in groups {
            let moved = &mut self.of_group[*group as usize];
            self.groups[*moved as usize] -= 1;
            *moved -= 1;
            self.groups[*moved as usize] += 1;
        }
        while self.most > 0 && self.groups[self.most as usize] == 0 {
            self.most -= 1;
        }
    }

    /// What the most of a group changes by when items of these groups leave and return, none of them in two.
    #[inline]
    pub(super) fn change(&self, leaving: &[&[u32]], returning: &[&[u32]]) -> i64 {
        let count = |group: &u32| self.of_group[*group as usize];
        let reached = leaving.iter().flat_map(|groups| groups.iter()).map(count).max();
        if reached == Some(self.most) {
            return 1;
        }
        let falls = |group: &&u32| count(group) == self.most;
        let falling = returning.iter().flat_map(|groups| groups.iter()).filter(falls).count() as u32;
        let stays = reached.is_some_and(|reached| reached + 1 == self.most);
        -i64::from(self.most > 0 && falling > 0 && !stays && self.groups[self.most as usize] == falling)
    }
}
