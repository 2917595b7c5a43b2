//! What was measured, row by row, and the medians of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::matrix::{Cell, Scope, Variant};
use crate::median;
use crate::verdict::Verdict;
use crate::{engine_api, floor, sterna_move};

/// Writes every number as JSON, where somebody wants it.
///
/// # Errors
/// When the file can't be written.
pub fn write(out: Option<&Path>, results: &impl Serialize) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    std::fs::write(out, serde_json::to_string_pretty(results)? + "\n")
        .with_context(|| format!("can't write {}", out.display()))
}

/// All runs of one row. Times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// What the link really carried, in MiB/s, by a transfer just before.
    pub bandwidth: f64,
    /// Direct dumps and restores.
    pub floor: Vec<floor::Direct>,
    /// Moves by Sterna as it does them by itself.
    pub sent_ahead: Vec<sterna_move::Moved>,
    /// Moves by Sterna with nothing sent ahead.
    pub stop_and_copy: Vec<sterna_move::Moved>,
    /// Moves by Docker's checkpoint API.
    pub engine_api: Vec<engine_api::Moved>,
    /// What was not measured, and why.
    pub left_out: BTreeMap<Variant, String>,
}

impl Row {
    /// A row without any run.
    pub fn new(cell: Cell, bandwidth: f64) -> Self {
        Self {
            cell,
            bandwidth,
            floor: Vec::new(),
            sent_ahead: Vec::new(),
            stop_and_copy: Vec::new(),
            engine_api: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Median of dump and restore.
    pub fn direct(&self) -> Option<floor::Direct> {
        Some(floor::Direct {
            dump: median::of(self.floor.iter().map(|one| one.dump))?,
            restore: median::of(self.floor.iter().map(|one| one.restore))?,
            image: median::of(self.floor.iter().map(|one| one.image as f64))? as u64,
        })
    }

    /// MiB per second that the service really wrote; what was wanted where that was not measured.
    pub fn wrote(&self) -> f64 {
        let runs = self.sent_ahead.iter().chain(&self.stop_and_copy);
        median::of(runs.filter_map(|one| one.wrote)).unwrap_or(f64::from(self.cell.rate))
    }

    /// MiB that are changed at the freeze, where sending ahead is done as well as it can be.
    pub fn changed(&self) -> Option<f64> {
        let direct = self.direct()?;
        Some(floor::changed(f64::from(self.cell.mib), self.wrote(), direct.dump, self.bandwidth))
    }

    /// Moves by Sterna in a variant; none for one that is not Sterna's.
    pub fn moves(&self, variant: Variant) -> &[sterna_move::Moved] {
        match variant {
            Variant::SentAhead => &self.sent_ahead,
            Variant::StopAndCopy => &self.stop_and_copy,
            Variant::Floor | Variant::EngineApi => &[],
        }
    }

    /// Median of the downtime, as the service saw it.
    pub fn downtime(&self, variant: Variant) -> Option<f64> {
        match variant {
            Variant::Floor => Some(floor::downtime(self.direct()?, self.changed()?, self.bandwidth)),
            Variant::EngineApi => median::of(self.engine_api.iter().map(|one| one.downtime)),
            sterna => median::of(self.moves(sterna).iter().map(|one| one.downtime)),
        }
    }

    /// Median of the downtime as reported.
    pub fn reported(&self, variant: Variant) -> Option<f64> {
        median::of(self.moves(variant).iter().filter_map(|one| one.reported))
    }

    /// Median of the whole time of a move.
    pub fn total(&self, variant: Variant) -> Option<f64> {
        match variant {
            Variant::Floor => None,
            Variant::EngineApi => median::of(self.engine_api.iter().map(|one| one.total)),
            sterna => median::of(self.moves(sterna).iter().map(|one| one.total)),
        }
    }

    /// Median of what crossed the link, in MiB.
    pub fn crossed(&self, variant: Variant) -> Option<f64> {
        median::of(self.moves(variant).iter().map(|one| one.bytes as f64 / 1_048_576.0))
    }

    /// Median of the errors of what was predicted of the downtime, each a part of what was measured.
    pub fn downtime_error(&self, variant: Variant) -> Option<f64> {
        median::of(self.moves(variant).iter().filter_map(|one| {
            // What is predicted is what will be reported.
            median::relative_error(one.predicted_downtime?, one.reported?)
        }))
    }

    /// The same for the bytes.
    pub fn bytes_error(&self, variant: Variant) -> Option<f64> {
        median::of(
            self.moves(variant)
                .iter()
                .filter_map(|one| median::relative_error(one.predicted_bytes? as f64, one.bytes as f64)),
        )
    }
}

/// Everything, as it is written to the file.
#[derive(Debug, Serialize)]
pub struct Results {
    /// How much was measured.
    pub scope: Scope,
    /// Runs of each variant of a row.
    pub runs: u32,
    /// The machine.
    pub machine: Machine,
    /// Who took part, with versions.
    pub engines: BTreeMap<String, String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What was not measured at all, and why.
    pub skipped: Vec<String>,
    /// The goals.
    pub verdicts: Vec<Verdict>,
}

impl Results {
    /// Median of the rows' errors of the predicted downtime of a variant.
    pub fn downtime_error(&self, variant: Variant) -> Option<f64> {
        median::of(self.rows.iter().filter_map(|row| row.downtime_error(variant)))
    }
}

/// The machine that all of it ran on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Its kernel.
    pub kernel: String,
    /// Its processors.
    pub processors: usize,
    /// Its memory in MiB.
    pub memory: u64,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: kib.unwrap_or(0) / 1024,
        }
    }
}

#[cfg(test)]
pub mod examples {
    //! Rows for tests.

    use super::*;
    use crate::matrix::Link;

    /// A move by Sterna.
    pub fn moved(downtime: f64) -> sterna_move::Moved {
        sterna_move::Moved {
            downtime,
            reported: Some(downtime),
            total: downtime * 2.0,
            bytes: 1 << 20,
            predicted_downtime: Some(downtime * 1.1),
            predicted_bytes: Some(1 << 19),
            wrote: None,
        }
    }

    /// A row with one run of a direct dump and restore, of moves by Sterna, and of moves by the API.
    pub fn row(
        cell: (u32, Link, u32),
        direct: (f64, f64),
        sent_ahead: f64,
        stop_and_copy: f64,
        api: f64,
    ) -> Row {
        let (mib, link, rate) = cell;
        let api =
            engine_api::Moved { downtime: api, total: api, dump: 1.0, copy: 1.0, restore: 1.0, wrote: None };
        Row {
            floor: vec![floor::Direct { dump: direct.0, restore: direct.1, image: 1 }],
            sent_ahead: vec![moved(sent_ahead)],
            stop_and_copy: vec![moved(stop_and_copy)],
            engine_api: vec![api],
            ..Row::new(Cell { mib, link, rate }, 12.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Link, SLOW};

    #[test]
    fn medians_are_those_of_the_variant() {
        let mut row = examples::row((256, Link::Unlimited, 0), (300.0, 400.0), 800.0, 2000.0, 13_000.0);
        row.sent_ahead.extend([examples::moved(900.0), examples::moved(5000.0)]);
        assert_eq!(row.downtime(Variant::Floor), Some(700.0));
        assert_eq!(row.downtime(Variant::SentAhead), Some(900.0));
        assert_eq!(row.downtime(Variant::StopAndCopy), Some(2000.0));
        assert_eq!(row.downtime(Variant::EngineApi), Some(13_000.0));
        assert_eq!(row.total(Variant::SentAhead), Some(1800.0));
        assert!((row.downtime_error(Variant::SentAhead).unwrap() - 0.1).abs() < 1e-9);
        assert_eq!(row.bytes_error(Variant::SentAhead), Some(0.5));
        assert_eq!(Row::new(row.cell, 1.0).downtime(Variant::Floor), None);
    }

    #[test]
    fn the_floor_counts_what_the_service_really_wrote() {
        let mut row = examples::row((256, Link::Mbit(SLOW), 20), (300.0, 400.0), 800.0, 2000.0, 1.0);
        let wanted = row.downtime(Variant::Floor).unwrap();
        row.sent_ahead[0].wrote = Some(2.0);
        assert_eq!(row.wrote(), 2.0);
        assert!(row.downtime(Variant::Floor).unwrap() < wanted);
    }
}
