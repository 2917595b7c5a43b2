//! The link that a migration crosses, and how much of it the migration has.

use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

/// A link, as one migration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// What the whole link carries.
    pub bandwidth: MibPerSecond,
    /// How many share it evenly, this migration with them; nobody is as if it were alone.
    pub sharing: u32,
    /// What each transfer takes beside its bytes: opening, a round trip.
    pub each: Millis,
}

impl Path {
    /// A link for oneself.
    pub const fn alone(bandwidth: MibPerSecond) -> Self {
        Self { bandwidth, sharing: 1, each: Millis::ZERO }
    }

    /// What crosses in a second, in millionths of a MiB; never nothing.
    fn rate(&self) -> u128 {
        let whole = u128::try_from(self.bandwidth.as_micros()).unwrap_or(0);
        (whole / u128::from(self.sharing.max(1))).max(1)
    }

    /// Time to send some bytes in one transfer.
    pub fn takes(&self, bytes: Bytes) -> Millis {
        // bytes / (rate * 2^20 / 1e6) seconds, times 1e9.
        let nanos = (u128::from(bytes.0) * 1_000_000_000_000_000) / (self.rate() << 20);
        Millis::from_micros(i64::try_from(nanos).unwrap_or(i64::MAX)).saturating_add(self.each)
    }

    /// What crosses within a time, once a transfer is open.
    pub fn carries(&self, time: Millis) -> Bytes {
        written(MibPerSecond::from_micros(i64::try_from(self.rate()).unwrap_or(i64::MAX)), time)
    }
}

/// What is written at a rate within a time.
pub fn written(rate: MibPerSecond, time: Millis) -> Bytes {
    let whole = |value: i64| u128::try_from(value).unwrap_or(0);
    // rate / 1e6 * 2^20 bytes per second, time / 1e9 seconds.
    let bytes =
        (whole(rate.as_micros()) * whole(time.as_micros())).saturating_mul(1 << 20) / 1_000_000_000_000_000;
    Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_link_waits_longer_for_bytes_and_not_for_round_trips() {
        let alone = Path { each: "5ms".parse().unwrap(), ..Path::alone("100MiB/s".parse().unwrap()) };
        assert_eq!(alone.takes(Bytes::from_mib(50)), "505ms".parse().unwrap());
        assert_eq!(Path { sharing: 4, ..alone }.takes(Bytes::from_mib(50)), "2005ms".parse().unwrap());
        assert_eq!(Path { sharing: 0, ..alone }, Path { sharing: 0, ..alone });
        assert_eq!(Path { sharing: 0, ..alone }.takes(Bytes::from_mib(50)), alone.takes(Bytes::from_mib(50)));
    }

    #[test]
    fn a_link_that_carries_nothing_takes_for_ever_and_does_not_panic() {
        let dead = Path::alone(MibPerSecond::ZERO);
        assert_eq!(dead.takes(Bytes(u64::MAX)), Millis::from_micros(i64::MAX));
        assert_eq!(
            written("1GiB/s".parse().unwrap(), Millis::from_micros(i64::MAX)),
            Bytes(9_903_520_314_283_042_198)
        );
    }

    #[test]
    fn what_is_written_goes_with_time() {
        let rate: MibPerSecond = "20MiB/s".parse().unwrap();
        assert_eq!(written(rate, "500ms".parse().unwrap()), Bytes::from_mib(10));
        assert_eq!(written(rate, Millis::ZERO), Bytes::ZERO);
    }
}
