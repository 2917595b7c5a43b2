//! The assignment problem as data.
//!
//! Bins have capacities in dimensions, items use them. What an item is worth depends on the bin; what a bin is worth on all
//! that it carries; rules and some costs look at groups of items. Numbers refer to places in the lists.

use serde::{Deserialize, Serialize};

/// A problem, and where the items are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Model {
    /// What is limited on bins.
    pub dimensions: Vec<Dimension>,
    /// Ways to put bins together: sites, regions, racks.
    pub scopes: Vec<Scope>,
    /// Where items can be.
    pub bins: Vec<Bin>,
    /// What has to be somewhere.
    pub items: Vec<Item>,
    /// Items that rules and costs look at together.
    pub groups: Vec<Group>,
    /// What may not become worse than it is, and holds for good once it holds.
    pub rules: Vec<Rule>,
    /// What is worth something, the most important first: an objective counts between what is as good by all before it.
    pub objectives: Vec<Objective>,
    /// How many items may be elsewhere than now; any number if not said.
    pub most_moved: Option<u32>,
}

/// Something that bins have and items use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dimension {
    /// What it is called.
    pub name: String,
    /// Whether an item that leaves goes on using it where it was, until all moves are made.
    pub transient: bool,
}

/// A way to put bins together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// What it is called.
    pub name: String,
    /// The part that each bin belongs to; parts are counted from zero.
    pub part: Vec<u32>,
}

/// A place for items.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bin {
    /// What it is called.
    pub name: String,
    /// How much it has, in each dimension.
    pub capacity: Vec<i64>,
}

/// What has to be somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    /// What it is called.
    pub name: String,
    /// How much it uses, in each dimension.
    pub uses: Vec<i64>,
    /// The bin that it is on now.
    pub now: u32,
    /// The bins that it may be on, beside the one that it is on; all if not said.
    pub bins: Option<Vec<u32>>,
}

/// Items that are looked at together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Its items.
    pub items: Vec<u32>,
}

/// How bins are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Each for itself.
    Bin,
    /// By the parts of a scope.
    Scope(u32),
}

/// What has to hold of where a group is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// No more than so many items of a group on one part. Each item too many is one breach.
    Conflict {
        /// The group.
        group: u32,
        /// What the parts are.
        level: Level,
        /// How many may be together.
        most: u32,
    },
    /// Items of a group on at least so many parts. Each part too few is one breach.
    Spread {
        /// The group.
        group: u32,
        /// What the parts are.
        level: Level,
        /// How many parts there have to be.
        least: u32,
    },
    /// Where a group has an item, another has one too. Each part where that is not so is one breach.
    Dependency {
        /// The group that depends.
        group: u32,
        /// The group that it needs.
        needs: u32,
        /// What the parts are.
        level: Level,
    },
    /// All items of a group on one part. Each further part is one breach.
    CoLocation {
        /// The group.
        group: u32,
        /// What the parts are.
        level: Level,
    },
}

/// What is minimised together: the sum of some terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Objective {
    /// What it is called.
    pub name: String,
    /// What is added up.
    pub terms: Vec<Term>,
    /// How much worse than the best is as good, for the sake of the objectives after it.
    #[serde(default)]
    pub tolerance: Tolerance,
}

/// How much worse than the best still counts as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tolerance {
    /// By so much.
    Sum(i64),
    /// By so many hundred-millionths of the best, as millionths of a percent are.
    Share(i64),
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Sum(0)
    }
}

impl Tolerance {
    /// The worst value that counts as equal to the best.
    pub fn worst(self, best: i64) -> i64 {
        let more = match self {
            Self::Sum(sum) => i128::from(sum.max(0)),
            Self::Share(share) => i128::from(best).abs() * i128::from(share.max(0)) / 100_000_000,
        };
        best.saturating_add(i64::try_from(more).unwrap_or(i64::MAX))
    }
}

/// A part of an objective.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Term {
    /// What is used beyond a bin's capacity, in all dimensions: for repair.
    Overload {
        /// For each unit.
        weight: i64,
    },
    /// What is used beyond a level below capacity.
    Headroom {
        /// Of what.
        dimension: u32,
        /// The level, of each bin.
        level: Vec<i64>,
        /// For each unit.
        weight: i64,
    },
    /// What is missing for so much of one free dimension to go with each unit of another that is free.
    Balance {
        /// What is free.
        free: u32,
        /// What should go with it.
        wanted: u32,
        /// How much of it, for each unit.
        ratio: i64,
        /// For each unit that is missing.
        weight: i64,
    },
    /// A bin that carries anything.
    Open {
        /// Of each bin.
        cost: Vec<i64>,
    },
    /// An item on a part.
    Pair {
        /// What the parts are.
        level: Level,
        /// Which row of the table is whose; several items can share one.
        row: Vec<u32>,
        /// A number for each part.
        table: Vec<Vec<i64>>,
    },
    /// Two items that talk to each other, by how far they are apart.
    Traffic {
        /// What the parts are.
        level: Level,
        /// From part to part; the same in both directions.
        distance: Vec<Vec<i64>>,
        /// Who talks to whom.
        flows: Vec<Flow>,
    },
    /// An item that is elsewhere than now.
    ItemMove {
        /// Of each item.
        cost: Vec<i64>,
    },
    /// The most items of one group that are elsewhere than now.
    GroupMove {
        /// For each item.
        weight: i64,
    },
    /// An item that is elsewhere than now, by from and to.
    BinMove {
        /// What the parts are.
        level: Level,
        /// From part to part.
        cost: Vec<Vec<i64>>,
        /// What each is multiplied by.
        weight: i64,
    },
    /// A rule that would be good to keep.
    Breach {
        /// The rule.
        rule: Rule,
        /// For each breach.
        weight: i64,
    },
}

/// Two items that talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// One.
    pub one: u32,
    /// The other.
    pub other: u32,
    /// How much, in both directions together.
    pub volume: i64,
}

impl Model {
    /// How many parts a level has; zero for a scope that there is not.
    pub fn parts(&self, level: Level) -> usize {
        match level {
            Level::Bin => self.bins.len(),
            Level::Scope(scope) => self
                .scopes
                .get(scope as usize)
                .and_then(|scope| scope.part.iter().max())
                .map_or(0, |last| *last as usize + 1),
        }
    }

    /// Where the items are now.
    pub fn now(&self) -> Vec<u32> {
        self.items.iter().map(|item| item.now).collect()
    }
}

impl Rule {
    /// The group whose places it is about, and what the parts are.
    pub const fn about(&self) -> (u32, Level) {
        match *self {
            Self::Conflict { group, level, .. }
            | Self::Spread { group, level, .. }
            | Self::Dependency { group, level, .. }
            | Self::CoLocation { group, level } => (group, level),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tolerance;

    #[test]
    fn a_tolerance_is_a_sum_or_a_share_of_the_best() {
        assert_eq!(Tolerance::default().worst(7), 7);
        assert_eq!(Tolerance::Sum(5).worst(-7), -2);
        assert_eq!(Tolerance::Sum(-5).worst(7), 7);
        // Five percent.
        assert_eq!(Tolerance::Share(5_000_000).worst(57_500), 60_375);
        assert_eq!(Tolerance::Share(5_000_000).worst(-100), -95);
        assert_eq!(Tolerance::Share(i64::MAX).worst(i64::MAX), i64::MAX);
    }
}
