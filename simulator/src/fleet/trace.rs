//! What services use of what they ask for, tick by tick.
//!
//! The order is by tick and then by service, because a pass over the fleet reads all services of one tick. A share is two bytes:
//! hundredths of a percent.

use crate::stream::{GAMMA, mix};

/// Shares of all services at all ticks.
#[derive(Debug, Clone)]
pub enum Trace {
    /// As they were recorded: rows of all services, one after the other.
    Stored(Vec<u16>),
    /// Each for itself, evenly between two shares.
    Drawn(Drawn),
}

/// Shares that are drawn: a share is a function of its number, and no two services have numbers in common.
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    key: u64,
    services: u32,
    low: u16,
    span: u16,
}

/// Numbers that each service has for itself, and so one more than the most ticks.
const APART: u64 = 1_000_003;

impl Drawn {
    /// Shares of so many services between `low` and `high`, in hundredths of a percent; `high` where that is lower.
    pub fn evenly(seed: u64, services: u32, low: u16, high: u16) -> Self {
        Self { key: mix(seed), services, low: low.min(high), span: high.saturating_sub(low) }
    }

    #[inline]
    fn share(self, service: u64, tick: u64) -> u16 {
        let number = self.key.wrapping_add(service.wrapping_mul(APART)).wrapping_add(tick);
        // Rounded to the nearest; at most `low + span`.
        let drawn = (mix(number.wrapping_add(GAMMA)) >> 32) * u64::from(self.span) + (1 << 31);
        self.low + (drawn >> 32) as u16
    }
}

impl Trace {
    /// Puts the row of a tick into `shares`, one per service; zeros where the trace is too short.
    pub fn fill(&self, tick: u64, shares: &mut [u16]) {
        match self {
            Self::Stored(stored) => {
                let at = usize::try_from(tick).ok().and_then(|tick| tick.checked_mul(shares.len()));
                let row = at.and_then(|at| stored.get(at..at.checked_add(shares.len())?));
                match row {
                    Some(row) => shares.copy_from_slice(row),
                    None => shares.fill(0),
                }
            }
            Self::Drawn(drawn) => {
                for (share, service) in shares.iter_mut().zip(0..) {
                    *share = drawn.share(service, tick);
                }
            }
        }
    }

    /// One service's share at a tick; none where the trace is too short.
    pub fn share(&self, tick: u64, service: usize, services: usize) -> u16 {
        match self {
            Self::Stored(shares) => {
                let at = usize::try_from(tick)
                    .ok()
                    .and_then(|tick| tick.checked_mul(services)?.checked_add(service));
                at.and_then(|at| shares.get(at)).copied().unwrap_or(0)
            }
            Self::Drawn(drawn) if service < drawn.services as usize => drawn.share(service as u64, tick),
            Self::Drawn(_) => 0,
        }
    }

    /// Whether it has so many rows of so many services.
    pub(crate) fn covers(&self, ticks: u64, services: usize) -> bool {
        match self {
            Self::Stored(shares) => usize::try_from(ticks)
                .ok()
                .and_then(|ticks| ticks.checked_mul(services))
                .is_some_and(|wanted| shares.len() >= wanted),
            Self::Drawn(drawn) => drawn.services as usize == services && ticks < APART,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::curve::WHOLE;

    fn row(trace: &Trace, tick: u64, services: usize) -> Vec<u16> {
        let mut shares = vec![9; services];
        trace.fill(tick, &mut shares);
        shares
    }

    #[test]
    fn rows_are_by_tick() {
        let stored = Trace::Stored(vec![1, 2, 3, 4, 5, 6]);
        assert_eq!((row(&stored, 1, 3), stored.share(1, 2, 3)), (vec![4, 5, 6], 6));
        assert!(stored.covers(2, 3) && !stored.covers(3, 3));
        assert_eq!((row(&stored, 2, 3), stored.share(2, 0, 3)), (vec![0; 3], 0));
    }

    #[test]
    fn one_more_service_changes_nothing_for_the_others() {
        let trace = |services| Trace::Drawn(Drawn::evenly(5, services, 1000, 8000));
        for tick in [0, 1, 287] {
            let (less, more) = (row(&trace(50), tick, 50), row(&trace(51), tick, 51));
            assert_eq!(less, more[..50]);
            assert!((0..50).all(|service| trace(50).share(tick, service, 50) == less[service]));
        }
    }

    #[test]
    fn shares_are_even_and_within_bounds() {
        let trace = Trace::Drawn(Drawn::evenly(1, 1000, 1000, 8000));
        let shares: Vec<u16> = (0..100).flat_map(|tick| row(&trace, tick, 1000)).collect();
        assert!(shares.iter().all(|share| (1000..=8000).contains(share)));
        let of = shares.iter().map(|share| f64::from(*share)).sum::<f64>() / 1e5 / WHOLE as f64;
        assert!((of - 0.45).abs() < 0.003, "{of}");
    }
}
