//! Names, and answers as text for people.

use std::fmt;

use super::{Answer, Blocker, Difference, Named, Way};
use crate::assignment::model::{Level, Model, Rule, Term};

fn named(number: u32, name: &str) -> Named {
    Named { number, name: name.to_owned() }
}

pub(super) fn item(model: &Model, number: u32) -> Named {
    named(number, &model.items[number as usize].name)
}

pub(super) fn bin(model: &Model, number: u32) -> Named {
    named(number, &model.bins[number as usize].name)
}

pub(super) fn dimension(model: &Model, number: u32) -> Named {
    named(number, &model.dimensions[number as usize].name)
}

pub(super) fn objective(model: &Model, number: u32) -> Named {
    named(number, &model.objectives[number as usize].name)
}

/// A rule of the model, described.
pub(super) fn rule(model: &Model, number: u32) -> Named {
    named(number, &of_rule(model, &model.rules[number as usize]))
}

/// A term, described.
pub(super) fn term(model: &Model, number: u32, term: &Term) -> Named {
    let of = |at: u32| &model.dimensions[at as usize].name;
    let name = match term {
        Term::Overload { .. } => "what is beyond capacity".to_owned(),
        Term::Headroom { dimension, .. } => format!("headroom of `{}`", of(*dimension)),
        Term::Balance { free, wanted, .. } => {
            format!("balance of free `{}` and `{}`", of(*free), of(*wanted))
        }
        Term::Open { .. } => "bins in use".to_owned(),
        Term::Pair { level, .. } => format!("items by {}", one(model, *level)),
        Term::Traffic { level, .. } => format!("traffic between {}", parts(model, *level)),
        Term::ItemMove { .. } => "items moved".to_owned(),
        Term::GroupMove { .. } => "most moved of one group".to_owned(),
        Term::BinMove { level, .. } => format!("moves between {}", parts(model, *level)),
        Term::Breach { rule, .. } => of_rule(model, rule),
    };
    named(number, &name)
}

fn of_rule(model: &Model, rule: &Rule) -> String {
    let group = |number: u32| &model.groups[number as usize].name;
    match rule {
        Rule::Conflict { group: of, level, most } => {
            format!("at most {most} of `{}` on a {}", group(*of), one(model, *level))
        }
        Rule::Spread { group: of, level, least } => {
            format!("`{}` on at least {least} {}", group(*of), parts(model, *level))
        }
        Rule::Dependency { group: of, needs, level } => {
            format!("`{}` only on a {} that has `{}`", group(*of), one(model, *level), group(*needs))
        }
        Rule::CoLocation { group: of, level } => {
            format!("all of `{}` on one {}", group(*of), one(model, *level))
        }
    }
}

fn one(model: &Model, level: Level) -> String {
    match level {
        Level::Bin => "bin".to_owned(),
        Level::Scope(scope) => format!("part of `{}`", model.scopes[scope as usize].name),
    }
}

fn parts(model: &Model, level: Level) -> String {
    match level {
        Level::Bin => "bins".to_owned(),
        Level::Scope(scope) => format!("parts of `{}`", model.scopes[scope as usize].name),
    }
}

/// The whole answer: lines of plain characters.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (item, from, to) = (&self.item.name, &self.from.name, &self.to.name);
        if self.from == self.to {
            return writeln!(f, "`{item}` is on `{to}`");
        }
        let way = if self.back { "back " } else { "" };
        let can = if self.allowed() { "can" } else { "can't" };
        writeln!(f, "`{item}` on `{from}` {can} go {way}to `{to}` alone")?;
        for blocker in &self.blockers {
            match blocker {
                Blocker::Room { .. } => writeln!(f, "  `{to}` {blocker}")?,
                _ => writeln!(f, "  {blocker}")?,
            }
        }
        writeln!(f, "{}", if self.allowed() { "that would change" } else { "without that it would change" })?;
        changes(f, &self.differences)?;
        match &self.way {
            Some(way) => write!(f, "{way}"),
            None if self.allowed() || self.blockers.contains(&Blocker::List) => Ok(()),
            None if self.tried_all => writeln!(f, "no other item alone can make that possible"),
            None => writeln!(f, "no other item was found that alone makes that possible"),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("the bin is not in the item's own list"),
            Self::Room { dimension, lacks } => write!(f, "lacks {lacks} of `{}`", dimension.name),
            Self::Rule { rule, more: 1 } => write!(f, "rule {}: {}", rule.number, rule.name),
            Self::Rule { rule, more } => {
                write!(f, "rule {}: {}, broken {more} times more", rule.number, rule.name)
            }
            Self::MostMoved { most, needed } => {
                write!(f, "{needed} items would be elsewhere than now, and {most} may be")
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (other, to) = (&self.other.name, &self.to.name);
        if self.exchange {
            writeln!(f, "it can if `{other}` comes to `{to}` for it; both would change")?;
        } else {
            writeln!(f, "it can if `{other}` goes from `{}` to `{to}`; both would change", self.from.name)?;
        }
        changes(f, &self.differences)
    }
}

/// Objectives with the terms that change.
fn changes(f: &mut fmt::Formatter<'_>, differences: &[Difference]) -> fmt::Result {
    for one in differences {
        writeln!(f, "  {}: {:+}", one.objective.name, one.sum)?;
        for (term, difference) in one.terms.iter().filter(|(_, difference)| *difference != 0) {
            writeln!(f, "    {}: {difference:+}", term.name)?;
        }
    }
    Ok(())
}
