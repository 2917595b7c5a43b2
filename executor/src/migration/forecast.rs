//! What a move is going to cost: a line through what moves cost that were measured, corrected by what those of the pair have cost
//! that were most like it.

use serde::{Deserialize, Serialize};
use sterna_core::continuum::ServiceName;
use sterna_core::cost::{self, AROUND, BESIDE, DUMP, Line, OPENING, RESTORE};
use sterna_core::plan::MoveCost;
use sterna_policies::policy::Memory;
use sterna_policies::quantity::{Bytes, Millis};

use super::convergence::{Rounds, TELLING};
use super::phase::Phase;
use super::report::{Outcome, Report};

/// What a move has to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Resident memory.
    pub memory: Bytes,
    /// Writable layer and volumes.
    pub files: Bytes,
    /// The image, where the destination lacks it; else zero.
    pub image: Bytes,
    /// When the memory crosses.
    #[serde(default)]
    pub crosses: Memory,
}

/// A prediction, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// What the move is predicted to cost.
    pub cost: MoveCost,
    /// Moves between the two nodes that it was learnt from. None: it rests on what other nodes have shown.
    pub learnt_from: usize,
}

/// What crosses between two nodes of one machine in a millisecond: 190 MiB/s, measured at 256 MiB of memory.
const LINK: f64 = 190.0 * 1048.576;
/// Bytes of CRIU's images without the pages, packed: measured with a service of one process.
const OTHER_IMAGES: f64 = 262_144.0;
/// Past moves that a prediction rests on: the most alike, or the newest.
const FEW: usize = 3;

/// In milliseconds.
fn line(line: Line, memory: Bytes) -> f64 {
    line.at(memory).as_f64()
}

/// The middle of the first few values.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut few: Vec<f64> = values.take(FEW).collect();
    few.sort_by(f64::total_cmp);
    few.get(few.len() / 2).copied()
}

/// The time that one phase took, in milliseconds, and what it sent.
fn phase(report: &Report, wanted: Phase) -> Option<(f64, Bytes)> {
    let record = report.phases.iter().find(|one| one.phase == wanted)?;
    Some((record.took.as_f64(), record.bytes))
}

/// What crossed the link in a second while a service was moved, where it was enough to tell.
pub fn throughput(report: &Report) -> Option<Bytes> {
    let rate = rate(report).filter(|_| report.outcome == Outcome::Moved)?;
    Some(Bytes((rate * 1e3) as u64))
}

/// What crossed in a millisecond: while it stood frozen if that was enough to tell, or else before.
fn rate(report: &Report) -> Option<f64> {
    let rate = |(took, bytes): (f64, Bytes)| {
        let crossing = took - OPENING.as_f64();
        (bytes >= TELLING && crossing > 0.0).then(|| bytes.0 as f64 / crossing)
    };
    let frozen = phase(report, Phase::Transferred).and_then(rate);
    frozen.or_else(|| phase(report, Phase::Synced).and_then(rate))
}

/// A move that was measured.
struct Past<'a> {
    report: &'a Report,
    load: Load,
}

impl<'a> Past<'a> {
    fn of(report: &'a Report) -> Option<Self> {
        let whole = report.outcome == Outcome::Moved && phase(report, Phase::Dumped).is_some();
        Some(Self { report, load: report.load.filter(|_| whole)? })
    }

    fn took(&self, wanted: Phase) -> Option<f64> {
        Some(phase(self.report, wanted)?.0)
    }

    /// How much longer a phase took than a line through other machines' moves says.
    fn scale(&self, wanted: Phase, model: Line) -> Option<f64> {
        Some(self.took(wanted)? / line(model, self.load.memory))
    }

    /// What crossed the link in a millisecond, where it was enough to tell.
    fn rate(&self) -> Option<f64> {
        rate(self.report)
    }

    /// What crossed while it stood frozen.
    fn left(&self) -> Option<f64> {
        Some(phase(self.report, Phase::Transferred)?.1.0 as f64)
    }
}

/// Moves with those first that are most like one of a service: its own, then with memory that crossed when this one's does, then
/// of nearly the same size. Among equals the newest, as they come in.
fn most_alike<'a, 'b>(moved: &'b [Past<'a>], service: &ServiceName, load: Load) -> Vec<&'b Past<'a>> {
    let size = |load: Load| (load.memory.0.max(1) as f64).log2();
    let mut sorted: Vec<&Past<'_>> = moved.iter().collect();
    sorted.sort_by(|a, b| {
        let other = |one: &Past<'_>| (one.report.service != *service, one.load.crosses != load.crosses);
        let far = |one: &Past<'_>| (size(one.load) - size(load)).abs();
        other(a).cmp(&other(b)).then(far(a).total_cmp(&far(b)))
    });
    sorted
}

/// Predicts a move of a service from what it has to carry and the reports of past moves between the same two nodes, newest
/// first. What is being sent ahead just now tells more than they do.
pub fn predict(service: &ServiceName, load: Load, past: &[Report], seen: &Rounds) -> Forecast {
    let moved: Vec<Past<'_>> = past.iter().filter_map(Past::of).collect();
    let alike = most_alike(&moved, service, load);
    let scaled = |phase, model| {
        let scale = middle(alike.iter().filter_map(|one| one.scale(phase, model))).unwrap_or(1.0);
        line(model, load.memory) * scale
    };
    let together = |phases: &[Phase], without: Millis| {
        let sum = |one: &&Past<'_>| phases.iter().filter_map(|phase| one.took(*phase)).sum();
        middle(alike.iter().map(sum)).unwrap_or_else(|| without.as_f64())
    };
    let link = seen.rate().or_else(|| middle(moved.iter().filter_map(Past::rate))).unwrap_or(LINK);
    let (dump, restore) = (scaled(Phase::Dumped, DUMP), scaled(Phase::Restored, RESTORE));
    let around = together(&[Phase::Frozen, Phase::Verified, Phase::Committed, Phase::Released], AROUND);
    let beside = together(&[Phase::Checked, Phase::Reserved, Phase::Cleaned], BESIDE);
    let memory = load.memory.0 as f64;
    let (left, ahead) = match load.crosses {
        Memory::WhileFrozen => (memory, 0.0),
        Memory::Ahead => {
            let also_ahead = |one: &&&Past<'_>| one.load.crosses == Memory::Ahead;
            let own = |one: &&&Past<'_>| one.report.service == *service;
            // How much a service writes is its own; other services are all that is known of one that never moved.
            let own = || middle(alike.iter().filter(also_ahead).filter(own).filter_map(|one| one.left()));
            let share = |one: &&Past<'_>| Some(one.left()? / one.load.memory.0.max(1) as f64);
            let others = || Some(middle(alike.iter().filter(also_ahead).filter_map(share))? * memory);
            let left = seen
                .left()
                .map(|left| OTHER_IMAGES + left.0 as f64)
                .or_else(own)
                .or_else(others)
                .unwrap_or(cost::left(load.memory).0 as f64);
            (left.min(memory), memory)
        }
    };
    let downtime = around + dump + OPENING.as_f64() + left / link + restore;
    let before = (load.files.0 + load.image.0) as f64 + ahead;
    // At most 2^63 nanoseconds in a float that is no longer than that.
    let millis = |value: f64| Millis::from_micros((value * 1e6) as i64);
    Forecast {
        cost: MoveCost {
            downtime: millis(downtime),
            duration: millis(beside + before / link + downtime),
            bytes: Bytes((before + left) as u64),
        },
        learnt_from: moved.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::convergence::Round;
    use crate::migration::order::MigrationId;
    use crate::migration::report::PhaseRecord;

    fn load(mib: u64) -> Load {
        Load { memory: Bytes::from_mib(mib), crosses: Memory::WhileFrozen, ..Load::default() }
    }

    fn ahead(mib: u64) -> Load {
        Load { crosses: Memory::Ahead, ..load(mib) }
    }

    fn redis(load: Load, past: &[Report]) -> Forecast {
        predict(&"redis".into(), load, past, &Rounds::default())
    }

    fn report(slower: f64, load: Load, left: Bytes) -> Report {
        let record = |phase, took: f64, bytes| PhaseRecord {
            phase,
            took: Millis::from_micros((took * 1e6) as i64),
            bytes,
        };
        let memory = load.memory;
        Report {
            phases: vec![
                record(Phase::Dumped, line(DUMP, memory) * slower, Bytes::ZERO),
                record(Phase::Transferred, OPENING.as_f64() + left.0 as f64 / LINK * slower, left),
                record(Phase::Restored, line(RESTORE, memory) * slower, Bytes::ZERO),
                record(Phase::Released, AROUND.as_f64() * slower, Bytes::ZERO),
                record(Phase::Cleaned, BESIDE.as_f64() * slower, Bytes::ZERO),
            ],
            load: Some(load),
            ..Report::example(MigrationId::new())
        }
    }

    fn whole(slower: f64) -> Report {
        report(slower, load(64), Bytes::from_mib(64))
    }

    #[test]
    fn without_past_moves_it_rests_on_measured_constants() {
        let forecast = redis(load(0), &[]);
        assert_eq!(forecast.learnt_from, 0);
        let constant =
            line(DUMP, Bytes::ZERO) + OPENING.as_f64() + line(RESTORE, Bytes::ZERO) + AROUND.as_f64();
        assert_eq!(forecast.cost.downtime.as_f64().round(), constant.round());
        let bigger = redis(load(1024), &[]);
        assert!(bigger.cost.downtime.as_f64() > 5000.0 && bigger.cost.duration > bigger.cost.downtime);
        assert_eq!(bigger.cost.bytes, Bytes::from_mib(1024));
    }

    #[test]
    fn what_a_move_got_of_the_link_is_told_where_it_was_enough() {
        let rate = |report: &Report| throughput(report).map(|bytes| bytes.0 as f64 / 1e3);
        let near = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 1.0);
        assert!(near(rate(&whole(1.0)), LINK), "{:?}", rate(&whole(1.0)));
        assert!(near(rate(&whole(2.0)), LINK / 2.0));
        assert_eq!(rate(&report(1.0, load(64), Bytes::from_mib(1))), None, "too little");
        let undone = Outcome::RolledBack { after: Phase::Transferred, reason: "x".into() };
        assert_eq!(rate(&Report { outcome: undone, ..whole(1.0) }), None);
    }

    #[test]
    fn files_and_image_take_time_but_no_downtime() {
        let more = Load { files: Bytes::from_mib(190), image: Bytes::from_mib(190), ..load(1) };
        let (with, without) = (redis(more, &[]), redis(load(1), &[]));
        assert_eq!(with.cost.downtime, without.cost.downtime);
        let longer = with.cost.duration.as_f64() - without.cost.duration.as_f64();
        assert_eq!(longer.round(), 2000.0);
    }

    #[test]
    fn past_moves_of_the_pair_correct_it() {
        let plain = redis(load(64), &[]).cost.downtime.as_f64() - OPENING.as_f64();
        let learnt = redis(load(64), &[whole(2.0), whole(9.0), whole(2.0), whole(9.0), whole(9.0)]);
        assert_eq!(learnt.learnt_from, 5);
        let ratio = (learnt.cost.downtime.as_f64() - OPENING.as_f64()) / plain;
        assert!((ratio - 2.0).abs() < 0.01, "the newest few count, and not the odd one of them: {ratio}");
    }

    #[test]
    fn the_moves_most_alike_count() {
        let of = |service: &str, slower, load: Load| Report {
            service: service.into(),
            ..report(slower, load, load.memory)
        };
        let past = [
            of("nginx", 9.0, load(1024)),
            of("nginx", 9.0, ahead(64)),
            of("nginx", 3.0, load(64)),
            of("nginx", 3.0, load(70)),
            of("nginx", 3.0, load(60)),
            of("nginx", 9.0, load(4)),
        ];
        let ratio = |past: &[Report]| {
            // What the link carries is learnt from the newest moves, whatever they moved.
            let sent = OPENING.as_f64()
                + 64.0 * 1_048_576.0 / middle(past.iter().filter_map(|one| Past::of(one)?.rate())).unwrap();
            let memory = Bytes::from_mib(64);
            (redis(load(64), past).cost.downtime.as_f64() - sent)
                / (line(DUMP, memory) + line(RESTORE, memory) + AROUND.as_f64())
        };
        assert!((ratio(&past) - 3.0).abs() < 0.01, "{}", ratio(&past));
        let own = of("redis", 5.0, load(256));
        let with_own = [&past[..], &[own.clone(), own.clone(), own]].concat();
        assert!((ratio(&with_own) - 5.0).abs() < 0.01, "its own count most: {}", ratio(&with_own));
    }

    #[test]
    fn memory_that_is_sent_ahead_takes_time_but_little_downtime() {
        let (with, without) = (redis(ahead(1024), &[]), redis(load(1024), &[]));
        let shorter = without.cost.downtime.as_f64() - with.cost.downtime.as_f64();
        assert!(shorter > 5000.0, "{shorter}");
        assert!(with.cost.bytes > without.cost.bytes && with.cost.duration >= without.cost.duration);
    }

    #[test]
    fn how_much_a_service_writes_is_learnt_from_its_own_moves() {
        let of = |service: &str, left| Report {
            service: service.into(),
            ..report(1.0, ahead(64), Bytes::from_mib(left))
        };
        let left = |past: &[Report]| {
            let downtime = redis(ahead(64), past).cost.downtime.as_f64();
            let rest = AROUND.as_f64()
                + OPENING.as_f64()
                + line(DUMP, Bytes::from_mib(64))
                + line(RESTORE, Bytes::from_mib(64));
            ((downtime - rest) * LINK / 1_048_576.0).round()
        };
        assert_eq!(left(&[of("nginx", 32)]), 32.0);
        assert_eq!(left(&[of("nginx", 32), of("redis", 9), of("nginx", 32)]), 9.0);
        assert_eq!(
            left(&[whole(1.0)]),
            (cost::left(Bytes::from_mib(64)).0 as f64 / 1_048_576.0).round(),
            "it was sent while frozen"
        );
    }

    #[test]
    fn what_is_being_sent_counts_more_than_what_was() {
        let mut rounds = Rounds::default();
        let second = Millis::from_micros(1_000_000_000);
        for mib in [64, 40] {
            rounds.after(Round { sent: Bytes::from_mib(mib), took: second });
        }
        let seen = predict(&"redis".into(), ahead(64), &[whole(1.0)], &rounds).cost.downtime;
        let calm = redis(ahead(64), &[whole(1.0)]).cost.downtime;
        // 40 MiB at 64 MiB/s and not some at 190.
        assert!(seen.as_f64() - calm.as_f64() > 500.0, "{seen} {calm}");
    }

    #[test]
    fn what_was_not_moved_teaches_nothing() {
        let outcome = Outcome::RolledBack { after: Phase::Dumped, reason: String::new() };
        let undone = Report { outcome, ..whole(5.0) };
        assert_eq!(redis(load(64), &[undone]), redis(load(64), &[]));
    }
}
