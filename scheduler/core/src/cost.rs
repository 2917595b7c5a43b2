//! What a move costs where nothing was learnt of its two nodes: lines through what was measured.
//!
//! The agents correct this by what moves between their nodes have cost; see the executor's forecast.

use sterna_policies::policy::Memory;
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

use crate::placement::numbers::narrow;
use crate::plan::MoveCost;

const MIB: i128 = 1 << 20;

/// A time that grows with the memory of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What it takes without any.
    pub constant: Millis,
    /// What each MiB adds.
    pub per_mib: Millis,
}

impl Line {
    /// The time for so much memory.
    pub fn at(self, memory: Bytes) -> Millis {
        let more = i128::from(self.per_mib.as_micros()) * i128::from(memory.0) / MIB;
        Millis::from_micros(narrow(i128::from(self.constant.as_micros()) + more))
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

/// Round trips of a migration's phases besides its data: check, reserve, sync, certificate, release, clean.
const ROUND_TRIPS: i64 = 6;

/// What crosses while a service stands frozen whose memory was sent ahead, where nothing is known of how much it writes: CRIU's
/// other images and what it touches itself take up to 1 MiB (measured, as above), and 2 % of its memory is assumed to have changed.
pub fn left(memory: Bytes) -> Bytes {
    Bytes(memory.0.min((1 << 20) + memory.0 / 50))
}

/// What a move of a service with so much memory is predicted to cost, over a link that carries so much with this round trip.
pub fn of_move(memory: Bytes, crosses: Memory, bandwidth: MibPerSecond, rtt: Millis) -> MoveCost {
    let (left, ahead) = match crosses {
        Memory::Ahead => (left(memory), memory),
        Memory::WhileFrozen => (memory, Bytes::ZERO),
    };
    let micros = |span: Millis| i128::from(span.as_micros());
    let still = [AROUND, DUMP.at(memory), OPENING, rtt, RESTORE.at(memory)];
    let downtime = still.into_iter().map(micros).sum::<i128>() + transfer(left, bandwidth);
    let round_trips = micros(rtt) * i128::from(ROUND_TRIPS);
    let duration = micros(BESIDE) + transfer(ahead, bandwidth) + downtime + round_trips;
    MoveCost {
        downtime: Millis::from_micros(narrow(downtime)),
        duration: Millis::from_micros(narrow(duration)),
        bytes: Bytes(ahead.0.saturating_add(left.0)),
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
        of_move(
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
}
