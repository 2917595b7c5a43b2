//! What is wrong with a model, with the place.

use thiserror::Error;

use super::model::{Level, Model, Rule, Term};

/// No sum may come to more than this, so that adding and taking away stay within 64 bits.
const LIMIT: i128 = 1 << 61;

/// Why a model can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// A number that is less than nothing.
    #[error("{place}: {number} is less than nothing")]
    Negative {
        /// Where.
        place: String,
        /// The number.
        number: i64,
    },
    /// A list that is not as long as what it is about.
    #[error("{place}: {found} numbers where {wanted} belong")]
    Length {
        /// Where.
        place: String,
        /// How many there are.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// Something is named that there is not.
    #[error("{place}: there is no {what} {number}")]
    Unknown {
        /// Where.
        place: String,
        /// What it should be.
        what: &'static str,
        /// What is named.
        number: u32,
    },
    /// An item that is named twice where it may be once.
    #[error("{place}: item {item} is named twice")]
    Twice {
        /// Where.
        place: String,
        /// The item.
        item: u32,
    },
    /// Distances that are not the same in both directions.
    #[error("{place}: the distance from {from} to {to} is not that from {to} to {from}")]
    OneWay {
        /// Where.
        place: String,
        /// A part.
        from: usize,
        /// Another.
        to: usize,
    },
    /// Numbers that are too large to be added up.
    #[error("{place}: the numbers are too large to be added up in 64 bits")]
    Overflow {
        /// Where.
        place: String,
    },
}

/// Whether a model can be used.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(model: &Model) -> Result<(), Invalid> {
    let dimensions = model.dimensions.len();
    for scope in &model.scopes {
        length(&format!("scope `{}`", scope.name), scope.part.len(), model.bins.len())?;
        // Parts are counted from zero, so there can't be more of them than bins.
        for part in &scope.part {
            exists(&format!("scope `{}`", scope.name), "part", *part, model.bins.len())?;
        }
    }
    let mut capacity = vec![0i128; dimensions];
    for bin in &model.bins {
        let place = format!("bin `{}`", bin.name);
        length(&place, bin.capacity.len(), dimensions)?;
        none_negative(&place, &bin.capacity)?;
        capacity.iter_mut().zip(&bin.capacity).for_each(|(sum, one)| *sum += i128::from(*one));
    }
    let mut used = vec![0i128; dimensions];
    for item in &model.items {
        let place = format!("item `{}`", item.name);
        length(&place, item.uses.len(), dimensions)?;
        none_negative(&place, &item.uses)?;
        used.iter_mut().zip(&item.uses).for_each(|(sum, one)| *sum += i128::from(*one));
        for bin in item.bins.iter().flatten().chain([&item.now]) {
            exists(&place, "bin", *bin, model.bins.len())?;
        }
    }
    for (at, dimension) in model.dimensions.iter().enumerate() {
        fits(&format!("dimension `{}`", dimension.name), 2 * used[at] + capacity[at])?;
    }
    for group in &model.groups {
        let place = format!("group `{}`", group.name);
        let mut items = group.items.clone();
        items.sort_unstable();
        for pair in items.windows(2) {
            if pair[0] == pair[1] {
                return Err(Invalid::Twice { place, item: pair[0] });
            }
        }
        for item in &items {
            exists(&place, "item", *item, model.items.len())?;
        }
    }
    for (number, rule) in model.rules.iter().enumerate() {
        check_rule(model, &format!("rule {number}"), rule)?;
    }
    for objective in &model.objectives {
        let place = format!("objective `{}`", objective.name);
        let mut most = 0;
        for (number, term) in objective.terms.iter().enumerate() {
            most += check_term(model, &format!("{place}, term {number}"), term, &used, &capacity)?;
            fits(&place, most)?;
        }
    }
    Ok(())
}

fn check_rule(model: &Model, place: &str, rule: &Rule) -> Result<(), Invalid> {
    let (group, level) = rule.about();
    exists(place, "group", group, model.groups.len())?;
    if let Rule::Dependency { needs, .. } = rule {
        exists(place, "group", *needs, model.groups.len())?;
    }
    check_level(model, place, level)
}

fn check_level(model: &Model, place: &str, level: Level) -> Result<(), Invalid> {
    match level {
        Level::Bin => Ok(()),
        Level::Scope(scope) => exists(place, "scope", scope, model.scopes.len()),
    }
}

/// The most that a term can come to.
fn check_term(
    model: &Model,
    place: &str,
    term: &Term,
    used: &[i128],
    capacity: &[i128],
) -> Result<i128, Invalid> {
    let (bins, items) = (model.bins.len(), model.items.len());
    let largest =
        |rows: &[Vec<i64>]| rows.iter().flatten().map(|number| i128::from(number.abs())).max().unwrap_or(0);
    match term {
        Term::Overload { weight } => {
            none_negative(place, &[*weight])?;
            Ok(times(i128::from(*weight), 2 * used.iter().sum::<i128>()))
        }
        Term::Headroom { dimension, level, weight } => {
            exists(place, "dimension", *dimension, model.dimensions.len())?;
            length(place, level.len(), bins)?;
            none_negative(place, level)?;
            none_negative(place, &[*weight])?;
            Ok(times(i128::from(*weight), used[*dimension as usize]))
        }
        Term::Balance { free, wanted, ratio, weight } => {
            exists(place, "dimension", *free, model.dimensions.len())?;
            exists(place, "dimension", *wanted, model.dimensions.len())?;
            none_negative(place, &[*ratio, *weight])?;
            let room = |at: u32| used[at as usize] + capacity[at as usize];
            Ok(times(i128::from(*weight), times(i128::from(*ratio), room(*free)) + room(*wanted)))
        }
        Term::Open { cost } => {
            length(place, cost.len(), bins)?;
            Ok(sum_of(cost))
        }
        Term::Pair { level, row, table } => {
            check_level(model, place, *level)?;
            length(place, row.len(), items)?;
            for row in row {
                exists(place, "row", *row, table.len())?;
            }
            let parts = model.parts(*level);
            table.iter().try_for_each(|row| length(place, row.len(), parts))?;
            Ok(times(largest(table), items as i128))
        }
        Term::Traffic { level, distance, flows } => {
            check_level(model, place, *level)?;
            check_square(place, distance, model.parts(*level))?;
            for (from, row) in distance.iter().enumerate() {
                for (to, one) in row.iter().enumerate() {
                    if *one != distance[to][from] {
                        return Err(Invalid::OneWay { place: place.to_owned(), from, to });
                    }
                }
            }
            let mut volume = 0;
            for flow in flows {
                exists(place, "item", flow.one, items)?;
                exists(place, "item", flow.other, items)?;
                if flow.one == flow.other {
                    return Err(Invalid::Twice { place: place.to_owned(), item: flow.one });
                }
                none_negative(place, &[flow.volume])?;
                volume += i128::from(flow.volume);
            }
            Ok(times(largest(distance), volume))
        }
        Term::ItemMove { cost } => {
            length(place, cost.len(), items)?;
            Ok(sum_of(cost))
        }
        Term::GroupMove { weight } => {
            none_negative(place, &[*weight])?;
            Ok(times(i128::from(*weight), items as i128))
        }
        Term::BinMove { level, cost, weight } => {
            check_level(model, place, *level)?;
            check_square(place, cost, model.parts(*level))?;
            none_negative(place, &[*weight])?;
            Ok(times(times(i128::from(*weight), largest(cost)), items as i128))
        }
        Term::Breach { rule, weight } => {
            check_rule(model, place, rule)?;
            none_negative(place, &[*weight])?;
            Ok(times(i128::from(*weight), (items + bins) as i128))
        }
    }
}

fn check_square(place: &str, rows: &[Vec<i64>], parts: usize) -> Result<(), Invalid> {
    length(place, rows.len(), parts)?;
    rows.iter().try_for_each(|row| length(place, row.len(), parts))
}

fn times(a: i128, b: i128) -> i128 {
    a.saturating_mul(b)
}

fn sum_of(numbers: &[i64]) -> i128 {
    numbers.iter().map(|number| i128::from(number.abs())).sum()
}

fn fits(place: &str, sum: i128) -> Result<(), Invalid> {
    if sum < LIMIT { Ok(()) } else { Err(Invalid::Overflow { place: place.to_owned() }) }
}

fn length(place: &str, found: usize, wanted: usize) -> Result<(), Invalid> {
    if found == wanted { Ok(()) } else { Err(Invalid::Length { place: place.to_owned(), found, wanted }) }
}

fn none_negative(place: &str, numbers: &[i64]) -> Result<(), Invalid> {
    match numbers.iter().find(|number| **number < 0) {
        Some(number) => Err(Invalid::Negative { place: place.to_owned(), number: *number }),
        None => Ok(()),
    }
}

fn exists(place: &str, what: &'static str, number: u32, there_are: usize) -> Result<(), Invalid> {
    if (number as usize) < there_are {
        Ok(())
    } else {
        Err(Invalid::Unknown { place: place.to_owned(), what, number })
    }
}
