//! Why an item is where it is, and not elsewhere: what it would change if it went alone, or what keeps it from going.
//!
//! What may be done is what [`State::attempt`] allows: nothing becomes worse than it is. Answers are plain data that names what
//! it is about, and read as plain English. What they say is counted from the words of the model, term by term, and not by the
//! search; the judge has the last word on both.
//!
//! | module | what lives there |
//! |---|---|
//! | [`differences`] | what some moves change, term by term |
//! | [`ways`] | what one other item could do about it |
//! | [`words`] | names, and answers as text |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::model::Model;
use super::state::State;
use differences::Moves;

pub mod differences;
pub mod ways;
pub mod words;

/// A question about something that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no {what} {number}")]
pub struct Unknown {
    /// What it should be.
    what: &'static str,
    /// What is asked about.
    number: u32,
}

/// Something of the model: where it stands in its list, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its place in the list.
    pub number: u32,
    /// Its name; rules and terms, which have none, are described.
    pub name: String,
}

/// By how much an objective changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which objective.
    pub objective: Named,
    /// By how much each of its terms does.
    pub terms: Vec<(Named, i128)>,
    /// All terms together.
    pub sum: i128,
}

/// What keeps an item from going somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blocker {
    /// Its own list does not have the bin.
    List,
    /// The bin has too little room.
    Room {
        /// Of what.
        dimension: Named,
        /// How much more there would have to be.
        lacks: i64,
    },
    /// A hard rule would be broken more than it is.
    Rule {
        /// Which.
        rule: Named,
        /// How many breaches more.
        more: i64,
    },
    /// As many items are elsewhere as may be.
    MostMoved {
        /// How many may be.
        most: u32,
        /// How many would have to be.
        needed: u32,
    },
}

/// One other item that goes as well, so that an item can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The other item.
    pub other: Named,
    /// Where it is.
    pub from: Named,
    /// Where it goes.
    pub to: Named,
    /// Whether the two change places.
    pub exchange: bool,
    /// What both moves change together.
    pub differences: Vec<Difference>,
}

/// What an item could do for itself, and what with one other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The item.
    pub item: Named,
    /// Where it is.
    pub from: Named,
    /// Where it would go.
    pub to: Named,
    /// Whether that is where the model has it now, so that it would be brought back.
    pub back: bool,
    /// All that keeps it from going there alone, and nothing else: it could go if all of it were gone, and not if any were left.
    pub blockers: Vec<Blocker>,
    /// What changes if it goes there alone; as it would be if nothing kept it.
    pub differences: Vec<Difference>,
    /// The cheapest way that was found where something keeps it.
    pub way: Option<Way>,
    /// Whether everything was tried that one other item could do.
    pub tried_all: bool,
}

impl Answer {
    /// Whether the item can go there alone.
    pub const fn allowed(&self) -> bool {
        self.blockers.is_empty()
    }
}

/// Answers questions about an assignment.
#[derive(Debug, Clone, Copy)]
pub struct Why<'a, 'p> {
    model: &'a Model,
    state: &'a State<'p>,
}

impl<'a, 'p> Why<'a, 'p> {
    /// About an assignment of a model.
    pub const fn new(model: &'a Model, state: &'a State<'p>) -> Self {
        Self { model, state }
    }

    /// Why an item is not on a bin.
    ///
    /// # Errors
    /// When there is no such item or bin.
    pub fn not(&self, item: u32, bin: u32) -> Result<Answer, Unknown> {
        let Self { model, state } = *self;
        if item as usize >= model.items.len() {
            return Err(Unknown { what: "item", number: item });
        }
        if bin as usize >= model.bins.len() {
            return Err(Unknown { what: "bin", number: bin });
        }
        let alone = [(item as usize, bin)];
        let blockers = self.blockers(item as usize, bin);
        let lacks: Vec<(u32, i64)> = blockers.iter().filter_map(Blocker::room).collect();
        let sought = ways::cheapest(model, state, alone[0], &blockers);
        Ok(Answer {
            item: words::item(model, item),
            from: words::bin(model, state.at()[item as usize]),
            to: words::bin(model, bin),
            back: bin == model.items[item as usize].now,
            differences: Moves::new(model, state, &alone).with_room(bin, &lacks).differences(),
            way: sought.way.map(|(other, to)| self.way(alone[0], (other, to))),
            tried_all: sought.tried_all,
            blockers,
        })
    }

    /// Why an item was moved: what it would change to bring it back alone, or what would keep it; nothing if it was not moved.
    ///
    /// # Errors
    /// When there is no such item.
    pub fn moved(&self, item: u32) -> Result<Option<Answer>, Unknown> {
        let Some(it) = self.model.items.get(item as usize) else {
            return Err(Unknown { what: "item", number: item });
        };
        let moved = self.state.at()[item as usize] != it.now;
        moved.then(|| self.not(item, it.now)).transpose()
    }

    fn blockers(&self, item: usize, to: u32) -> Vec<Blocker> {
        let Self { model, state } = *self;
        let (problem, from) = (state.problem(), state.at()[item]);
        if from == to {
            return Vec::new();
        }
        let mut blockers = Vec::new();
        if !problem.allows(item, to as usize) {
            blockers.push(Blocker::List);
        }
        let moves = [(item, to)];
        let moves = Moves::new(model, state, &moves);
        for (dimension, slack) in state.slack(to as usize).iter().enumerate() {
            let less = moves.less(to, dimension);
            if less > 0 && less > *slack {
                let dimension = words::dimension(model, dimension as u32);
                blockers.push(Blocker::Room { dimension, lacks: less - slack });
            }
        }
        for (number, rule) in model.rules.iter().enumerate() {
            let more = moves.more_breaches(rule);
            if more > 0 {
                blockers.push(Blocker::Rule { rule: words::rule(model, number as u32), more });
            }
        }
        let leaves = from == problem.now[item];
        if let Some(most) = model.most_moved.filter(|most| leaves && state.moved() >= *most) {
            blockers.push(Blocker::MostMoved { most, needed: state.moved() + 1 });
        }
        blockers
    }

    fn way(&self, (item, bin): (usize, u32), (other, to): (usize, u32)) -> Way {
        let Self { model, state } = *self;
        let from = state.at()[other];
        Way {
            other: words::item(model, other as u32),
            from: words::bin(model, from),
            to: words::bin(model, to),
            exchange: from == bin && to == state.at()[item],
            differences: Moves::new(model, state, &[(item, bin), (other, to)]).differences(),
        }
    }
}

impl Blocker {
    fn room(&self) -> Option<(u32, i64)> {
        match self {
            Self::Room { dimension, lacks } => Some((dimension.number, *lacks)),
            _ => None,
        }
    }
}
