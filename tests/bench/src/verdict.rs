//! The goals, and whether what was measured meets them.

use serde::Serialize;

use crate::matrix::{Link, SLOW, Variant};
use crate::results::Row;

/// Sent ahead, over the unlimited link: at most this part of the downtime of the engine's own API, by MiB.
const OF_API: [(u32, f64); 2] = [(256, 1.0 / 10.0), (1024, 1.0 / 20.0)];
/// Sent ahead, over the unlimited link: at most this multiple of the floor.
const OF_FLOOR: f64 = 1.3;
/// The service that writes over the slow link: MiB, and MiB per second.
const WRITING: (u32, u32) = (256, 1);
/// Its downtime: at most this multiple of the floor.
const WRITING_OF_FLOOR: f64 = 1.5;
/// And at most this part of stop-and-copy.
const WRITING_OF_STOP: f64 = 1.0 / 8.0;
/// The sizes that are compared over the slow link, without writes.
const GROWTH: (u32, u32) = (4, 1024);
/// What the large one may cost more, besides its dump and its restore: ms.
const GROWTH_ALLOWANCE: f64 = 500.0;
/// The median of the errors of predicted downtimes.
const PREDICTION: f64 = 0.15;
/// Throughput through the front, as a part of that of a port that plain Docker publishes.
const FRONT: f64 = 0.9;
/// What a client may wait longer than its service stood still at most, in ms.
const CLIENT_ALLOWANCE: f64 = 100.0;
/// Resident memory of the agent in MiB.
const AGENT: f64 = 40.0;

/// Simulated node-hours per second, of 1000 nodes.
const NODE_HOURS: f64 = 1e6;
/// How much longer ten times the nodes may take.
const TEN_TIMES: f64 = 12.0;
/// How far an energy may be off, in millionths.
const ENERGY: f64 = 1.0;
/// Seconds that a sweep may take.
const SWEEP: f64 = 30.0;

/// Whether a goal is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is.
    Met,
    /// It is not.
    Missed,
    /// What it takes was not measured.
    Unknown,
}

/// Whether a number has to stay below its limit or above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// At most.
    Most,
    /// At least.
    Least,
}

/// A goal, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What is wanted, in words.
    pub goal: String,
    /// The limit.
    pub limit: f64,
    /// On which side of it.
    pub side: Side,
    /// What was measured, in the limit's unit.
    pub measured: Option<f64>,
    /// What of.
    pub unit: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

impl Verdict {
    fn new(goal: String, side: Side, limit: f64, unit: &'static str, measured: Option<f64>) -> Self {
        let outcome = match (measured, side) {
            (None, _) => Outcome::Unknown,
            (Some(value), Side::Most) if value <= limit => Outcome::Met,
            (Some(value), Side::Least) if value >= limit => Outcome::Met,
            (Some(_), _) => Outcome::Missed,
        };
        Self { goal, limit, side, measured, unit, outcome }
    }

    fn at_most(goal: String, limit: f64, measured: Option<f64>) -> Self {
        Self::new(goal, Side::Most, limit, "×", measured)
    }
}

fn find(rows: &[Row], mib: u32, link: Link, rate: u32) -> Option<&Row> {
    rows.iter().find(|row| row.cell.mib == mib && row.cell.link == link && row.cell.rate == rate)
}

/// The downtime of what is sent ahead, as a multiple of another variant's.
fn sent_ahead_to(row: Option<&Row>, other: Variant) -> Option<f64> {
    let row = row?;
    Some(row.downtime(Variant::SentAhead)? / row.downtime(other)?)
}

/// The goals of moves.
pub fn moves(rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (mib, limit) in OF_API {
        let row = find(rows, mib, Link::Unlimited, 0);
        let goal = format!("unlimited, {mib} MiB: sent ahead to engine API");
        verdicts.push(Verdict::at_most(goal, limit, sent_ahead_to(row, Variant::EngineApi)));
    }
    let mut quiet: Vec<&Row> =
        rows.iter().filter(|row| row.cell.link == Link::Unlimited && row.cell.rate == 0).collect();
    quiet.sort_by_key(|row| row.cell.mib);
    for row in quiet {
        let goal = format!("unlimited, {} MiB: sent ahead to floor", row.cell.mib);
        verdicts.push(Verdict::at_most(goal, OF_FLOOR, sent_ahead_to(Some(row), Variant::Floor)));
    }
    let slow = Link::Mbit(SLOW);
    let (mib, rate) = WRITING;
    let row = find(rows, mib, slow, rate);
    for (other, limit) in [(Variant::Floor, WRITING_OF_FLOOR), (Variant::StopAndCopy, WRITING_OF_STOP)] {
        let goal = format!("{slow}, {mib} MiB, {rate} MiB/s written: sent ahead to {other}");
        verdicts.push(Verdict::at_most(goal, limit, sent_ahead_to(row, other)));
    }
    let (small, large) = GROWTH;
    let growth = || {
        let (small, large) = (find(rows, small, slow, 0)?, find(rows, large, slow, 0)?);
        let direct = large.direct()?;
        let more = large.downtime(Variant::SentAhead)? - small.downtime(Variant::SentAhead)?;
        Some((direct.dump + direct.restore + GROWTH_ALLOWANCE, more))
    };
    let goal =
        format!("{slow}, nothing written: {large} MiB cost more than {small} MiB, floor of {large} + 0.5 s");
    let (limit, more) = growth().map_or((GROWTH_ALLOWANCE, None), |(limit, more)| (limit, Some(more)));
    verdicts.push(Verdict::new(goal, Side::Most, limit, "ms", more));
    let errors = rows.iter().filter_map(|row| row.downtime_error(Variant::SentAhead));
    let goal = "predicted downtime of what is sent ahead: median of the relative errors".to_owned();
    verdicts.push(Verdict::at_most(goal, PREDICTION, crate::median::of(errors)));
    verdicts
}

/// The goals of the clients of a service that moves: requests that failed, and the longest time without an answer in ms, beside
/// the longest downtime that was reported.
pub fn client(who: &str, failed: u64, longest: f64, downtime: Option<f64>) -> Vec<Verdict> {
    let limit = downtime.unwrap_or(0.0) + CLIENT_ALLOWANCE;
    let longest = downtime.map(|_| longest);
    let (failures, gap) = (
        format!("{who}: failed requests"),
        format!("{who}: longest without answer, longest downtime + 0.1 s"),
    );
    vec![
        Verdict::new(failures, Side::Most, 0.0, "", Some(failed as f64)),
        Verdict::new(gap, Side::Most, limit, "ms", longest),
    ]
}

/// The goals of what costs also when nothing moves: throughput of a published port of plain Docker and through the front, in the
/// same unit, and the agent's memory in MiB.
pub fn idle(plain: Option<f64>, front: Option<f64>, agent: Option<f64>) -> Vec<Verdict> {
    let part = front.zip(plain).map(|(front, plain)| front / plain);
    vec![
        Verdict::new(
            "throughput through the front to plain Docker's published port".to_owned(),
            Side::Least,
            FRONT,
            "×",
            part,
        ),
        Verdict::new("resident memory of the agent".to_owned(), Side::Most, AGENT, "MiB", agent),
    ]
}

/// The goals of the simulator: node-hours per second with 1000 nodes, the time of 10000 nodes by that of 1000, and the energy in
/// kWh of fleets whose energy is known.
pub fn fleets(speed: Option<f64>, ratio: Option<f64>, energies: &[(u32, f64, Option<f64>)]) -> Vec<Verdict> {
    let mut all = vec![
        Verdict::new(
            "1000 nodes, energy, carbon, cost and passes".to_owned(),
            Side::Least,
            NODE_HOURS,
            "node-h/s",
            speed,
        ),
        Verdict::at_most("10000 nodes to 1000".to_owned(), TEN_TIMES, ratio),
    ];
    for (nodes, known, energy) in energies {
        let off = energy.map(|energy| (energy - known).abs() / known * 1e6);
        let goal = format!("{nodes} nodes: energy off {known:.6} kWh");
        all.push(Verdict::new(goal, Side::Most, ENERGY, "ppm", off));
    }
    all
}

/// The goal of 200 policies over five seeds of a day of 100 nodes.
pub fn sweep(seconds: Option<f64>) -> Verdict {
    let goal = "200 policies, 5 seeds, a day of 100 nodes".to_owned();
    Verdict::new(goal, Side::Most, SWEEP, "s", seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::examples::row;

    fn outcomes(rows: &[Row]) -> Vec<(String, Outcome)> {
        moves(rows).into_iter().map(|one| (one.goal, one.outcome)).collect()
    }

    fn of(rows: &[Row], beginning: &str) -> Outcome {
        let all = outcomes(rows);
        let found: Vec<_> = all.iter().filter(|(goal, _)| goal.starts_with(beginning)).collect();
        assert_eq!(found.len(), 1, "{beginning}: {all:?}");
        found[0].1
    }

    #[test]
    fn without_rows_nothing_is_met_and_nothing_missed() {
        assert!(outcomes(&[]).iter().all(|(_, outcome)| *outcome == Outcome::Unknown));
    }

    #[test]
    fn the_unlimited_link_is_compared_with_api_and_floor() {
        let at = |sent| [row((256, Link::Unlimited, 0), (300.0, 400.0), sent, 1.0, 9000.0)];
        assert_eq!(of(&at(900.0), "unlimited, 256 MiB: sent ahead to engine"), Outcome::Met);
        assert_eq!(of(&at(901.0), "unlimited, 256 MiB: sent ahead to engine"), Outcome::Missed);
        assert_eq!(of(&at(900.0), "unlimited, 1024 MiB: sent ahead to engine"), Outcome::Unknown);
        assert_eq!(of(&at(909.0), "unlimited, 256 MiB: sent ahead to floor"), Outcome::Met);
        assert_eq!(of(&at(911.0), "unlimited, 256 MiB: sent ahead to floor"), Outcome::Missed);
    }

    #[test]
    fn the_slow_link_is_compared_with_stop_and_copy() {
        let slow = Link::Mbit(SLOW);
        let at = |sent| [row((256, slow, 1), (300.0, 400.0), sent, 8000.0, 1.0)];
        let goal = "100 Mbit/s, 256 MiB, 1 MiB/s written: sent ahead to stop-and-copy";
        assert_eq!(of(&at(1000.0), goal), Outcome::Met);
        assert_eq!(of(&at(1001.0), goal), Outcome::Missed);
    }

    #[test]
    fn what_the_large_one_may_cost_more_is_its_floor_and_half_a_second() {
        let slow = Link::Mbit(SLOW);
        let at = |large| {
            [
                row((4, slow, 0), (1.0, 1.0), 500.0, 1.0, 1.0),
                row((1024, slow, 0), (800.0, 900.0), large, 1.0, 1.0),
            ]
        };
        assert_eq!(of(&at(2700.0), "100 Mbit/s, nothing written"), Outcome::Met);
        assert_eq!(of(&at(2701.0), "100 Mbit/s, nothing written"), Outcome::Missed);
    }

    #[test]
    fn predictions_are_judged_by_their_median() {
        let mut one = row((256, Link::Unlimited, 0), (1.0, 1.0), 100.0, 1.0, 1.0);
        assert_eq!(of(std::slice::from_ref(&one), "predicted"), Outcome::Met);
        one.sent_ahead[0].predicted_downtime = Some(116.0);
        assert_eq!(of(&[one], "predicted"), Outcome::Missed);
    }

    #[test]
    fn clients_may_wait_a_little_longer_than_the_service_stands_still() {
        let outcomes = |failed, longest, downtime| -> Vec<Outcome> {
            client("wrk", failed, longest, downtime).into_iter().map(|one| one.outcome).collect()
        };
        assert_eq!(outcomes(0, 800.0, Some(700.0)), [Outcome::Met, Outcome::Met]);
        assert_eq!(outcomes(1, 801.0, Some(700.0)), [Outcome::Missed, Outcome::Missed]);
        assert_eq!(outcomes(0, 50.0, None), [Outcome::Met, Outcome::Unknown]);
    }

    #[test]
    fn what_is_idle_has_two_goals() {
        let outcomes = |plain, front, agent| -> Vec<Outcome> {
            idle(plain, front, agent).into_iter().map(|one| one.outcome).collect()
        };
        assert_eq!(outcomes(Some(10.0), Some(9.0), Some(40.0)), [Outcome::Met, Outcome::Met]);
        assert_eq!(outcomes(Some(10.0), Some(8.9), Some(40.1)), [Outcome::Missed, Outcome::Missed]);
        assert_eq!(outcomes(Some(10.0), None, None), [Outcome::Unknown, Outcome::Unknown]);
    }
}
