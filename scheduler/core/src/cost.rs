//! What a move costs where nothing was learnt of its two nodes: lines through what was measured.
//!
//! [`Costs`] are those lines: measured once for everybody, or on the own nodes (see [`calibration`]). The agents correct this by
//! what moves between their nodes have cost; see the executor's forecast.

use serde::{Deserialize, Serialize};
use sterna_policies::policy::Memory;
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis, Percent};

use crate::placement::numbers::narrow;
use crate::plan::MoveCost;

pub mod calibration;

const MIB: i128 = 1 << 20;

/// A time that grows with the memory of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Line {
    /// What it takes without any.
    pub constant: Millis,
    /// What each MiB adds.
    pub per_mib: Millis,
}

impl Line {
    /// The same time, whatever the memory.
    pub const fn flat(constant: Millis) -> Self {
        Self { constant, per_mib: Millis::ZERO }
    }

    /// The time for so much memory.
    pub fn at(self, memory: Bytes) -> Millis {
        let more = i128::from(self.per_mib.as_micros()) * i128::from(memory.0) / MIB;
        Millis::from_micros(narrow(i128::from(self.constant.as_micros()) + more))
    }
}

/// What is left of a memory that was sent ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// However large it is.
    pub constant: Bytes,
    /// And of its size.
    pub share: Percent,
}

impl Left {
    /// Of so much; never more than that.
    pub fn of(self, memory: Bytes) -> Bytes {
        let share = u128::try_from(self.share.as_micros()).unwrap_or(0);
        // Millionths of a percent.
        let part = u128::from(memory.0).saturating_mul(share) / 100_000_000;
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        Bytes(self.constant.0.saturating_add(part).min(memory.0))
    }
}

/// A dump into memory. This and what follows was measured with CRIU 4.2 and runc 1.3 on nested Docker engines, both nodes on
/// one idle machine of two cores, from 4 to 256 MiB (`sterna-bench phases`).
pub const DUMP: Line =
    Line { constant: Millis::from_micros(90_000_000), per_mib: Millis::from_micros(500_000) };
/// A restore from memory, the engine's own part with it.
pub const RESTORE: Line =
    Line { constant: Millis::from_micros(105_000_000), per_mib: Millis::from_micros(700_000) };
/// What else a service stands still for: freezing, proving, committing, releasing.
pub const AROUND: Millis = Millis::from_micros(40_000_000);
/// Opening the stream for what crosses meanwhile, and comparing it with what was sent ahead.
pub const OPENING: Millis = Millis::from_micros(6_000_000);
/// What a migration takes beside that, while the service runs: checking, reserving, cleaning up.
pub const BESIDE: Millis = Millis::from_micros(300_000_000);
/// CRIU's other images and what it touches itself take up to 1 MiB (measured, as above), and 2 % of its memory is assumed to have
/// changed.
pub const LEFT: Left = Left { constant: Bytes::from_mib(1), share: Percent::from_micros(2_000_000) };

/// Round trips of a migration's phases besides its data: check, reserve, sync, certificate, release, clean.
pub const ROUND_TRIPS: i64 = 6;

/// What crosses while a service stands frozen whose memory was sent ahead, where nothing is known of how much it writes.
pub fn left(memory: Bytes) -> Bytes {
    LEFT.of(memory)
}

/// What the parts of a move take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// A dump.
    pub dump: Line,
    /// A restore, the engine's own part with it.
    pub restore: Line,
    /// What else a service stands still for.
    pub around: Line,
    /// What a migration takes beside that, while the service runs.
    pub beside: Line,
    /// Opening the stream for what crosses while the service stands still.
    pub opening: Millis,
    /// What crosses then, of a memory that was sent ahead.
    pub left: Left,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            dump: DUMP,
            restore: RESTORE,
            around: Line::flat(AROUND),
            beside: Line::flat(BESIDE),
            opening: OPENING,
            left: LEFT,
        }
    }
}

impl Costs {
    /// Whether they are those that hold where nothing was measured.
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// What a move of a service with so much memory is predicted to cost, over a link that carries so much with this round trip.
    pub fn of_move(&self, memory: Bytes, crosses: Memory, bandwidth: MibPerSecond, rtt: Millis) -> MoveCost {
        let (left, ahead) = match crosses {
            Memory::Ahead => (self.left.of(memory), memory),
            Memory::WhileFrozen => (memory, Bytes::ZERO),
        };
        let micros = |span: Millis| i128::from(span.as_micros());
        let still =
            [self.around.at(memory), self.dump.at(memory), self.opening, rtt, self.restore.at(memory)];
        let downtime = still.into_iter().map(micros).sum::<i128>() + transfer(left, bandwidth);
        let round_trips = micros(rtt) * i128::from(ROUND_TRIPS);
        let beside = micros(self.beside.at(memory));
        let duration = beside + transfer(ahead, bandwidth) + downtime + round_trips;
        MoveCost {
            downtime: Millis::from_micros(narrow(downtime)),
            duration: Millis::from_micros(narrow(duration)),
            bytes: Bytes(ahead.0.saturating_add(left.0)),
        }
    }
}

/// Time to send some bytes, in millionths of a millisecond.
fn transfer(bytes: Bytes, bandwidth: MibPerSecond) -> i128 {
    // bytes / (millionths of MiB per second * 2^20 / 1e6) seconds, times 1e9.
    let rate = i128::from(bandwidth.as_micros().max(1)) * MIB;
    i128::from(bytes.0) * 1_000_000_000_000_000 / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mib: u64, crosses: Memory) -> MoveCost {
        Costs::default().of_move(
            Bytes::from_mib(mib),
            crosses,
            MibPerSecond::from_micros(100_000_000),
            Millis::from_micros(12_000_000),
        )
    }

    #[test]
    fn memory_that_crosses_while_frozen_is_downtime_at_the_links_rate() {
        let (small, large) = (of(0, Memory::WhileFrozen), of(100, Memory::WhileFrozen));
        let more = large.downtime.as_f64() - small.downtime.as_f64();
        let lines = 100.0 * (DUMP.per_mib.as_f64() + RESTORE.per_mib.as_f64());
        assert!((more - 1000.0 - lines).abs() < 1.0, "{more}");
        assert_eq!(large.bytes, Bytes::from_mib(100));
    }

    #[test]
    fn memory_that_is_sent_ahead_takes_time_but_little_downtime() {
        let (ahead, frozen) = (of(1000, Memory::Ahead), of(1000, Memory::WhileFrozen));
        let shorter = frozen.downtime.as_f64() - ahead.downtime.as_f64();
        assert!((shorter - 9790.0).abs() < 1.0, "all but 21 MiB at 100 MiB/s: {shorter}");
        assert!(ahead.duration > frozen.duration && ahead.bytes == Bytes(Bytes::from_mib(1021).0));
        assert_eq!(of(0, Memory::Ahead), of(0, Memory::WhileFrozen));
    }

    #[test]
    fn what_was_measured_takes_the_place_of_what_is_assumed() {
        let ms = |millis: i64| Millis::from_micros(millis * 1_000_000);
        let costs = Costs {
            dump: Line { constant: ms(1000), per_mib: ms(10) },
            restore: Line { constant: ms(100), per_mib: ms(1) },
            around: Line::flat(ms(5)),
            beside: Line { constant: ms(50), per_mib: ms(2) },
            opening: ms(3),
            left: Left { constant: Bytes::from_mib(4), share: "10%".parse().unwrap() },
        };
        let bandwidth = MibPerSecond::from_micros(100_000_000);
        let cost = costs.of_move(Bytes::from_mib(100), Memory::Ahead, bandwidth, Millis::ZERO);
        assert_eq!(cost.bytes, Bytes::from_mib(114));
        assert_eq!(cost.downtime, ms(5 + 2000 + 3 + 140 + 200));
        assert_eq!(cost.duration.saturating_sub(cost.downtime), ms(50 + 200 + 1000));
        assert_eq!(costs.left.of(Bytes::from_mib(1)), Bytes::from_mib(1), "never more than there is");
    }
}
