//! The table of results.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::injection::Fault;
use crate::judge::Found;
use crate::trial::{Ended, Trial};

/// What is counted of a group of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Faults that struck.
    pub injections: usize,
    /// Runs whose migration never came to the point.
    pub not_reached: usize,
    /// Ended so.
    pub moved: usize,
    /// Ended so.
    pub rolled_back: usize,
    /// Ended so.
    pub refused: usize,
    /// Ended so.
    pub node_lost: usize,
    /// Services lost.
    pub lost: usize,
    /// Runs that lost acknowledged writes.
    pub lost_writes: usize,
    /// Runs in which two copies ran.
    pub twice: usize,
    /// Runs without a known end.
    pub unknown: usize,
    /// Runs that left something behind.
    pub left: usize,
    /// Runs whose migration the next life of `sterna run` did not take up as it should.
    pub not_taken_up: usize,
}

impl Counts {
    /// Counts runs.
    pub fn of<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> Self {
        let mut counts = Self::default();
        for trial in trials {
            if trial.reached {
                counts.injections += 1;
            } else {
                counts.not_reached += 1;
            }
            *match trial.ended {
                Ended::Moved => &mut counts.moved,
                Ended::RolledBack => &mut counts.rolled_back,
                Ended::Refused => &mut counts.refused,
                Ended::NodeLost => &mut counts.node_lost,
                Ended::Unknown => &mut counts.unknown,
            } += 1;
            let has = |of: fn(&Found) -> bool| usize::from(trial.found.iter().any(of));
            counts.lost += has(|one| matches!(one, Found::Lost { .. }));
            counts.lost_writes += has(|one| matches!(one, Found::LostWrites { .. }));
            counts.twice += has(|one| matches!(one, Found::Twice { .. }));
            counts.left += has(|one| matches!(one, Found::Left { .. }));
            counts.not_taken_up += has(|one| matches!(one, Found::NotTakenUp { .. }));
            if trial.ended != Ended::Unknown {
                counts.unknown += has(|one| matches!(one, Found::Unknown { .. }));
            }
        }
        counts
    }

    /// Whether nothing happened that must not.
    pub const fn is_clean(&self) -> bool {
        self.lost + self.lost_writes + self.twice + self.unknown + self.left + self.not_taken_up == 0
    }

    fn cells(&self) -> [usize; 12] {
        [
            self.injections,
            self.moved,
            self.rolled_back,
            self.refused,
            self.node_lost,
            self.lost,
            self.lost_writes,
            self.twice,
            self.unknown,
            self.left,
            self.not_taken_up,
            self.not_reached,
        ]
    }
}

const HEADER: [&str; 14] = [
    "fault",
    "commit",
    "injections",
    "moved",
    "rolled back",
    "refused",
    "node lost",
    "lost services",
    "lost writes",
    "two copies",
    "unknown",
    "left over",
    "not taken up",
    "not reached",
];

/// The table: a row for each kind of fault, before and after the commit.
pub fn table(trials: &[Trial]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(HEADER);
    let mut row = |name: String, side: &str, of: Vec<&Trial>| {
        if !of.is_empty() {
            let cells = Counts::of(of)
                .cells()
                .map(|count| if count == 0 { "·".to_owned() } else { count.to_string() });
            table.add_row([name, side.to_owned()].into_iter().chain(cells));
        }
    };
    for fault in Fault::ALL {
        for (side, committed) in [("before", false), ("after", true)] {
            let of = |one: &&Trial| one.injection.fault == fault && one.committed == committed;
            row(fault.to_string(), side, trials.iter().filter(of).collect());
        }
    }
    row("all".to_owned(), "", trials.iter().collect());
    for column in 2..HEADER.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Frozen for nothing, over the runs that were rolled back: how many, the median and the longest time, in milliseconds.
pub fn frozen_in_vain(trials: &[Trial]) -> (usize, f64, f64) {
    let mut times: Vec<f64> = trials
        .iter()
        .filter_map(|one| one.frozen_in_vain.as_deref()?.strip_suffix("ms")?.parse().ok())
        .filter(|time| *time > 0.0)
        .collect();
    times.sort_by(f64::total_cmp);
    let middle = times.get(times.len() / 2).copied().unwrap_or(0.0);
    (times.len(), middle, times.last().copied().unwrap_or(0.0))
}
