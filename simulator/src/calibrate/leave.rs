//! Sizes, and how well each is predicted from the others.

use std::collections::BTreeMap;

use serde::Serialize;
use sterna_policies::quantity::Bytes;

use super::fit::{Fit, Point};
use super::measured::{Measured, Took};
use super::part::{Over, PHASES, Part};

/// Memories that differ by less than this share are of one size: a service's own varies from move to move.
const ALIKE: f64 = 0.1;
/// Or by less than this.
const MOMENT: Bytes = Bytes::from_mib(1);

/// Migrations of one size.
pub(super) type Group<'m> = Vec<&'m Measured>;

/// How well migrations of a size are told. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Size {
    /// The middle one of their memories.
    pub memory: Bytes,
    /// How many there are.
    pub migrations: usize,
    /// How long they took, on average.
    #[serde(rename = "measured_ms")]
    pub measured: f64,
    /// What the lines say of the middle one.
    #[serde(rename = "told_ms")]
    pub told: f64,
    /// Between these lies one more of them with 95 % confidence.
    #[serde(rename = "interval_ms")]
    pub interval: [f64; 2],
    /// Mean of their relative errors, predicted from all other sizes.
    pub left_out_error: f64,
    /// The same of downtimes, where they were measured.
    pub left_out_downtime_error: Option<f64>,
}

/// What leaving out each size tells.
pub(super) struct Tried {
    pub sizes: Vec<Size>,
    pub duration_error: f64,
    pub downtime_error: Option<f64>,
    pub by_phase: BTreeMap<String, f64>,
}

/// Migrations by size, the smallest first.
pub(super) fn groups(measured: &[Measured]) -> Vec<Group<'_>> {
    let mut sorted: Group<'_> = measured.iter().collect();
    sorted.sort_by_key(|one| one.memory);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for one in sorted {
        let alike = |group: &&mut Group<'_>| {
            group.first().is_some_and(|first| {
                let wide = (first.memory.0 as f64 * ALIKE) as u64;
                one.memory.0 - first.memory.0 <= wide.max(MOMENT.0)
            })
        };
        match groups.last_mut().filter(alike) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// The middle one of a group's memories.
pub(super) fn middle(group: &[&Measured]) -> Bytes {
    group.get(group.len() / 2).map_or(Bytes::ZERO, |one| one.memory)
}

/// What the line of a phase is over, in MiB.
fn over(one: &Measured, took: &Took) -> f64 {
    match Part::of(&took.phase).map(Part::over) {
        Some(Over::Sent) => took.sent.as_mib(),
        Some(Over::Memory) | None => one.memory.as_mib(),
    }
}

/// A line for each phase, in the order of the phases.
pub(super) fn lines<'m>(measured: impl Iterator<Item = &'m Measured> + Clone) -> Vec<(String, Fit)> {
    let line = |phase: &str| {
        let of = |one: &Measured| {
            let took = one.phases.iter().find(|took| took.phase == phase)?;
            Some(Point { at: over(one, took), took: took.took })
        };
        let points: Vec<Point> = measured.clone().filter_map(of).collect();
        Some((phase.to_owned(), Fit::of(&points)?))
    };
    PHASES.iter().filter_map(|phase| line(phase)).collect()
}

fn line<'l>(lines: &'l [(String, Fit)], phase: &str) -> Option<&'l Fit> {
    lines.iter().find(|(name, _)| name == phase).map(|(_, fit)| fit)
}

/// What lines say of a migration: the whole, and while it stands still.
fn told(lines: &[(String, Fit)], one: &Measured) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for took in &one.phases {
        let time = line(lines, &took.phase).map_or(0.0, |fit| fit.at(over(one, took)));
        sums.0 += time;
        if Part::of(&took.phase).is_some_and(Part::stands_still) {
            sums.1 += time;
        }
    }
    sums
}

/// Half of what holds one more such migration: the phases scatter each for itself.
fn half_interval(lines: &[(String, Fit)], one: &Measured) -> f64 {
    let half = |took: &Took| line(lines, &took.phase).map_or(0.0, |fit| fit.half_interval(over(one, took)));
    one.phases.iter().map(|took| half(took).powi(2)).sum::<f64>().sqrt()
}

/// A share of what was measured; `None` of nothing.
fn relative_error(told: f64, measured: f64) -> Option<f64> {
    (measured > 0.0).then(|| (told / measured - 1.0).abs())
}

/// A mean, as it comes in.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Predicts each size from all others.
pub(super) fn tried(groups: &[Group<'_>], whole: &[(String, Fit)]) -> Tried {
    let (mut duration, mut downtime) = (Mean::default(), Mean::default());
    let mut phases: BTreeMap<String, Mean> = BTreeMap::new();
    let mut sizes = Vec::new();
    for (place, group) in groups.iter().enumerate() {
        let others = groups.iter().enumerate().filter(|(other, _)| *other != place);
        let others = lines(others.flat_map(|(_, group)| group.iter().copied()));
        let (mut here, mut still) = (Mean::default(), Mean::default());
        for one in group {
            let (told, told_still) = told(&others, one);
            here.add(relative_error(told, one.duration()));
            still.add(one.downtime.and_then(|measured| relative_error(told_still, measured)));
            for took in &one.phases {
                let told = line(&others, &took.phase).map(|fit| fit.at(over(one, took)));
                let error = told.and_then(|told| relative_error(told, took.took));
                phases.entry(took.phase.clone()).or_default().add(error);
            }
        }
        for (all, these) in [(&mut duration, here), (&mut downtime, still)] {
            all.sum += these.sum;
            all.count += these.count;
        }
        let Some(middle) = group.get(group.len() / 2) else { continue };
        let (told, _) = told(whole, middle);
        let half = half_interval(whole, middle);
        sizes.push(Size {
            memory: middle.memory,
            migrations: group.len(),
            measured: group.iter().map(|one| one.duration()).sum::<f64>() / group.len() as f64,
            told,
            interval: [(told - half).max(0.0), told + half],
            left_out_error: here.get().unwrap_or(0.0),
            left_out_downtime_error: still.get(),
        });
    }
    Tried {
        sizes,
        duration_error: duration.get().unwrap_or(0.0),
        downtime_error: downtime.get(),
        by_phase: phases.into_iter().filter_map(|(phase, mean)| Some((phase, mean.get()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(mib: f64, dumped: f64) -> Measured {
        let memory = Bytes((mib * 1_048_576.0) as u64);
        let phases = vec![Took { phase: "dumped".into(), took: dumped, sent: Bytes::ZERO }];
        Measured { memory, ahead: false, phases, downtime: None, round_trip: None }
    }

    #[test]
    fn a_service_is_of_one_size_though_its_memory_varies() {
        let all: Vec<Measured> =
            [0.0, 4.0, 4.5, 100.0, 104.0, 109.9, 111.0, 512.0].map(|mib| measured(mib, 1.0)).to_vec();
        let counts: Vec<usize> = groups(&all).iter().map(Vec::len).collect();
        assert_eq!(counts, [1, 2, 3, 1, 1]);
    }

    #[test]
    fn a_size_is_predicted_from_the_others_alone() {
        // On a line but for the last, which the others know nothing of.
        let all =
            [measured(100.0, 200.0), measured(200.0, 300.0), measured(300.0, 400.0), measured(400.0, 1000.0)];
        let groups = groups(&all);
        let tried = tried(&groups, &lines(all.iter()));
        assert!((tried.sizes[3].left_out_error - 0.5).abs() < 1e-6, "{}", tried.sizes[3].left_out_error);
        assert_eq!(tried.downtime_error, None);
        let mean = tried.sizes.iter().map(|size| size.left_out_error).sum::<f64>() / 4.0;
        assert!((tried.duration_error - mean).abs() < 1e-12);
        assert!((tried.by_phase["dumped"] - mean).abs() < 1e-12);
    }
}
