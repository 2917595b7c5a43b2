//! Memory sent ahead, pass after pass, while the service runs: the rounds of [the models](crate::models::migration::rounds), ended by
//! a fleet's own limits.
//!
//! They are looked at before a pass, as nothing is worth sending that would leave as much as it sends. Once what is left takes no longer than the downtime that is
//! allowed, the service is frozen and the rest follows. So it is, too, when a pass leaves no less than the one before, or after so
//! many passes: a service that writes faster than the link carries never gets there by itself.

use crate::clock::SimTime;
use crate::models::migration::rounds::{Next, Sending};

const SECOND: u128 = 1_000_000_000;

/// When sending ahead ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What is left may take so long, in nanoseconds.
    pub downtime: u64,
    /// The most passes.
    pub passes: u32,
    /// From the last byte to the first instruction at the destination, in nanoseconds.
    pub resume: u64,
}

/// What is sent, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it, in bytes.
    pub size: u64,
    /// Bytes written per second.
    pub dirty: u64,
    /// Bytes that are written to at all.
    pub working_set: u64,
    /// Bytes that the path carries per second; not 0.
    pub bandwidth: u64,
}

/// How it goes. Spans are nanoseconds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passes {
    /// When the service is frozen.
    pub freezes: u64,
    /// When it runs at the destination.
    pub ends: u64,
    /// What crosses the link.
    pub bytes: u64,
    /// Passes before the freeze.
    pub count: u32,
    /// Whether what was left at the freeze was as little as wanted.
    pub converged: bool,
}

impl Passes {
    /// Sends memory ahead within limits.
    pub fn of(memory: Memory, limits: Limits) -> Self {
        let written = |nanos| memory.written_in(nanos).min(memory.working_set);
        let mut sending = Sending::of(memory.size, |bytes| memory.takes(bytes), written);
        let (mut elapsed, mut sent, mut count) = (0u64, 0u64, 0u32);
        loop {
            let Next { sends, takes, leaves } = sending.round();
            let converged = takes <= limits.downtime;
            // The first pass is worth its while whatever it leaves, if that is less than all.
            let useless = leaves >= sends;
            if converged || useless || count >= limits.passes {
                return Self {
                    freezes: elapsed,
                    ends: elapsed.saturating_add(takes).saturating_add(limits.resume),
                    bytes: sent.saturating_add(sends),
                    count,
                    converged,
                };
            }
            sent = sent.saturating_add(sends);
            elapsed = elapsed.saturating_add(takes);
            count += 1;
        }
    }

    /// What has crossed the link so long after the beginning.
    pub fn sent_by(&self, elapsed: u64, bandwidth: u64) -> u64 {
        let carried = u128::from(elapsed) * u128::from(bandwidth) / SECOND;
        self.bytes.min(u64::try_from(carried).unwrap_or(u64::MAX))
    }

    /// When it is frozen and when it ends, for a beginning.
    pub(crate) fn from(&self, began: SimTime) -> (SimTime, SimTime) {
        let at = |span: u64| SimTime::from_nanos(began.as_nanos().saturating_add(span));
        (at(self.freezes), at(self.ends))
    }
}

impl Memory {
    /// Nanoseconds to send so much, rounded up.
    fn takes(&self, bytes: u64) -> u64 {
        let nanos = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.bandwidth.max(1)));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Bytes written meanwhile.
    fn written_in(&self, nanos: u64) -> u64 {
        u64::try_from(u128::from(self.dirty) * u128::from(nanos) / SECOND).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { downtime: 30_000_000, passes: 29, resume: 0 };
    const MIB: u64 = 1 << 20;

    fn memory(size: u64, dirty: u64, working_set: u64, bandwidth: u64) -> Memory {
        Memory { size, dirty, working_set, bandwidth }
    }

    #[test]
    fn what_is_not_written_is_sent_once() {
        let passes = Passes::of(memory(4 << 30, 0, 4 << 30, 1_250_000_000), LIMITS);
        assert_eq!((passes.bytes, passes.count, passes.converged), (4 << 30, 1, true));
        // 2^35 bit at 10 Gbit/s.
        assert_eq!((passes.freezes, passes.ends), (3_435_973_837, 3_435_973_837));
    }

    #[test]
    fn passes_shrink_by_the_ratio_of_the_rates() {
        // A tenth is written while it is sent: 1000, 100, 10 MB, and the last takes 10 ms.
        let limits = Limits { resume: 5_000_000, ..LIMITS };
        let passes = Passes::of(memory(1_000_000_000, 100_000_000, 1 << 40, 1_000_000_000), limits);
        assert_eq!((passes.count, passes.bytes, passes.converged), (2, 1_110_000_000, true));
        assert_eq!((passes.freezes, passes.ends), (1_100_000_000, 1_115_000_000));
    }

    #[test]
    fn the_working_set_is_the_most_that_a_pass_leaves() {
        let passes = Passes::of(memory(1_000_000_000, 500_000_000, 20_000_000, 1_000_000_000), LIMITS);
        assert_eq!((passes.count, passes.bytes), (1, 1_020_000_000));
    }

    /// 6 GiB at 1987 MiB/s, of which nearly all is written again during each pass: it never gets less.
    #[test]
    fn what_does_not_converge_is_stopped_and_copied() {
        let passes = Passes::of(memory(6144 * MIB, 2000 * MIB, 5418 * MIB, 1987 * MIB), LIMITS);
        assert_eq!((passes.count, passes.converged), (1, false));
        assert_eq!(passes.bytes, (6144 + 5418) * MIB);
        let downtime = passes.ends - passes.freezes;
        assert!((2_700_000_000..3_000_000_000).contains(&downtime), "{downtime}");
        let all = Passes::of(memory(6144 * MIB, 2000 * MIB, 6144 * MIB, 1987 * MIB), LIMITS);
        assert_eq!((all.count, all.bytes), (0, 6144 * MIB), "sending ahead would send all of it twice");
    }

    #[test]
    fn passes_are_limited() {
        let slow = memory(1 << 30, 99 * MIB, 1 << 30, 100 * MIB);
        assert_eq!(Passes::of(slow, Limits { passes: 3, ..LIMITS }).count, 3);
        assert!(Passes::of(slow, LIMITS).count == 29);
    }

    proptest! {
        #[test]
        fn all_memory_crosses_and_time_is_bytes_over_bandwidth(
            size in 0u64..1 << 40,
            dirty in 0u64..1 << 34,
            working_set in 0u64..1 << 40,
            bandwidth in 1u64 << 10..1 << 34,
        ) {
            let passes = Passes::of(memory(size, dirty, working_set, bandwidth), LIMITS);
            prop_assert!(passes.bytes >= size);
            prop_assert!(passes.freezes <= passes.ends);
            // Each pass is rounded up by less than a nanosecond.
            let exact = u128::from(passes.bytes) * SECOND / u128::from(bandwidth);
            let span = u128::from(passes.ends);
            prop_assert!(span >= exact && span <= exact + u128::from(passes.count) + 2, "{span} {exact}");
            prop_assert_eq!(passes.sent_by(passes.ends, bandwidth), passes.bytes);
            prop_assert_eq!(passes.converged, passes.ends - passes.freezes <= LIMITS.downtime);
        }
    }
}
