//! Latency that users see: every request counts once, so a value weighs as much as the requests that met it.

use rustc_hash::FxHashMap;
use sterna_policies::quantity::{Millis, PerSecond};

/// Requests by the latency that they met. A request is counted in millionths of a second's rate times nanoseconds, exactly.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    weights: FxHashMap<Millis, i128>,
}

impl Latencies {
    /// Adds requests at `rate` that met `latency` for `nanos`.
    pub fn add(&mut self, latency: Millis, rate: PerSecond, nanos: u64) {
        let weight = weight(rate, nanos);
        if weight > 0 {
            let sum = self.weights.entry(latency).or_default();
            *sum = sum.saturating_add(weight);
        }
    }

    /// The mean over all requests; `None` where there were none.
    pub fn mean(&self) -> Option<Millis> {
        let (weights, total) = self.weights();
        let sum: i128 =
            weights.iter().map(|(latency, weight)| i128::from(latency.as_micros()) * weight).sum();
        (total > 0).then(|| Millis::from_micros(i64::try_from(sum / total).unwrap_or(i64::MAX)))
    }

    /// The smallest latency that at least `percent` of all requests did not exceed; `None` where there were none.
    pub fn percentile(&self, percent: u8) -> Option<Millis> {
        let (mut weights, total) = self.weights();
        weights.sort_unstable();
        let mut below = 0;
        weights.iter().find_map(|(latency, weight)| {
            below += weight;
            (below * 100 >= total * i128::from(percent)).then_some(*latency)
        })
    }

    /// How many requests there were, rounded.
    pub fn requests(&self) -> u64 {
        requests(sum(self.weights.values().copied()))
    }

    /// All weights and their sum, so that the sum times any latency, or times a hundred, stays in range: exact for what users can
    /// do, and with the last bits cut off where a scenario lets more requests come than there could ever be.
    fn weights(&self) -> (Vec<(Millis, i128)>, i128) {
        let longest =
            self.weights.keys().map(|met| met.as_micros().unsigned_abs()).max().unwrap_or(0).max(100);
        let total = sum(self.weights.values().copied());
        let bits = (128 - total.leading_zeros()) + (64 - longest.leading_zeros());
        let cut = bits.saturating_sub(126);
        let weights: Vec<_> = self.weights.iter().map(|(met, weight)| (*met, weight >> cut)).collect();
        let total = weights.iter().map(|(_, weight)| weight).sum();
        (weights, total)
    }
}

/// The sum of weights, at most the largest that there is.
pub fn sum(weights: impl Iterator<Item = i128>) -> i128 {
    weights.fold(0, i128::saturating_add)
}

/// What requests at `rate` during `nanos` weigh.
pub fn weight(rate: PerSecond, nanos: u64) -> i128 {
    i128::from(rate.as_micros()) * i128::from(nanos)
}

/// The number of requests of a weight, rounded.
pub fn requests(weight: i128) -> u64 {
    u64::try_from(weight.saturating_add(500_000_000_000_000) / 1_000_000_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Millis {
        text.parse().unwrap()
    }

    #[test]
    fn every_request_counts_once() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.mean(), latencies.percentile(95), latencies.requests()), (None, None, 0));
        let second = 1_000_000_000;
        latencies.add(ms("10ms"), "9/s".parse().unwrap(), 10 * second);
        latencies.add(ms("110ms"), "1/s".parse().unwrap(), 10 * second);
        latencies.add(ms("999ms"), "0/s".parse().unwrap(), 10 * second);
        assert_eq!(latencies.mean(), Some(ms("20ms")));
        assert_eq!(latencies.percentile(90), Some(ms("10ms")));
        assert_eq!(latencies.percentile(95), Some(ms("110ms")));
        assert_eq!(latencies.requests(), 100);
    }

    #[test]
    fn more_requests_than_could_ever_come_are_still_told_apart() {
        let mut latencies = Latencies::default();
        let (most, days) = (PerSecond::from_micros(i64::MAX), 400 * 86_400 * 1_000_000_000);
        for _ in 0..1_000 {
            latencies.add(Millis::from_micros(i64::MAX), most, days);
            latencies.add(ms("10ms"), most, days);
        }
        assert_eq!(latencies.percentile(50), Some(ms("10ms")));
        assert_eq!(latencies.percentile(95), Some(Millis::from_micros(i64::MAX)));
        let mean = latencies.mean().unwrap().as_micros();
        assert!((mean - i64::MAX / 2).abs() < i64::MAX / 1_000, "{mean}");
        assert_eq!(latencies.requests(), u64::MAX);
    }
}
