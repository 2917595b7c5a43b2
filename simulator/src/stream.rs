//! Numbers that look random and are not drawn one after the other: each is a function of seed, entity and count.
//!
//! So nothing that one entity draws hangs on what another draws, or on how many others there are, and any number can be had
//! without those before it. The function is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).

/// The odd number that a SplitMix64 adds for each draw: the golden ratio.
pub const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the draws are for: two purposes of the same entity have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which moves there are.
    Moves = 1,
    /// What a fleet is made of.
    Fleet = 2,
    /// Where users go.
    Mobility = 3,
    /// By how much latency is above its usual value.
    Jitter = 4,
    /// When something fails, and for how long.
    Failure = 5,
    /// When a node is taken away, and for how long.
    Preemption = 6,
    /// When many ask at once, and for how long.
    Bursts = 7,
    /// By how much what is asked for strays.
    Noise = 8,
}

/// The numbers of one entity for one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// Those of an entity, by its number.
    pub const fn of(seed: u64, purpose: Purpose, entity: u64) -> Self {
        let key = mix(seed.wrapping_add((purpose as u64).wrapping_mul(GAMMA)));
        Self(mix(key.wrapping_add(entity.wrapping_mul(GAMMA))))
    }

    /// Those of an entity, by its name: they stay the same whatever else there is.
    pub fn named(seed: u64, purpose: Purpose, entity: &str) -> Self {
        let mut number = [0; 8];
        number.copy_from_slice(&blake3::hash(entity.as_bytes()).as_bytes()[..8]);
        Self::of(seed, purpose, u64::from_le_bytes(number))
    }

    /// The number at a count.
    #[inline]
    pub const fn draw(self, count: u64) -> u64 {
        mix(self.0.wrapping_add(count.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// The number at a count, brought below a bound; zero where the bound is zero.
    #[inline]
    pub const fn below(self, count: u64, bound: u64) -> u64 {
        // The high half of the product: no bias that matters for bounds far below 2^64, and no division.
        ((self.draw(count) as u128 * bound as u128) >> 64) as u64
    }

    /// The number at a count, brought between 0 and 1, without 1.
    pub fn part(self, count: u64) -> f64 {
        // As many bits as a double holds.
        (self.draw(count) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The number at a count as a span of time from an exponential distribution with this mean: the gap between events that
    /// know nothing of each other. By `libm`, so that it is the same on every machine.
    pub fn gap(self, count: u64, mean: u64) -> u64 {
        // Of a positive number that is far below 2^64 for any span that a scenario may have; `as` would stop at the limit.
        (mean as f64 * -libm::log(1.0 - self.part(count))) as u64
    }
}

/// The mixing of SplitMix64.
#[inline]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_splitmix() {
        // The first numbers of the published generator, for the state 1234567.
        let draws = [0, 1, 2].map(|count| Stream(1_234_567).draw(count));
        assert_eq!(draws, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn entities_and_purposes_have_streams_of_their_own() {
        let mut firsts: Vec<u64> = (0..1000)
            .flat_map(|entity| {
                [Purpose::Fleet, Purpose::Moves].map(|purpose| Stream::of(7, purpose, entity).draw(0))
            })
            .collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 2000);
    }

    #[test]
    fn draws_are_even() {
        let mut counts = [0u32; 10];
        for count in 0..100_000 {
            let drawn = Stream::of(1, Purpose::Fleet, 3).below(count, 10);
            counts[usize::try_from(drawn).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9600..10_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn gaps_have_their_mean_and_parts_are_below_one() {
        let stream = Stream::named(1, Purpose::Failure, "n1");
        let mean: u64 = (0..100_000).map(|count| stream.gap(count, 1_000_000)).sum::<u64>() / 100_000;
        assert!((990_000..1_010_000).contains(&mean), "{mean}");
        assert!((0..100_000).map(|count| stream.part(count)).all(|part| (0.0..1.0).contains(&part)));
        assert_ne!(stream, Stream::named(1, Purpose::Failure, "n2"));
    }

    proptest! {
        #[test]
        fn a_bound_is_kept(seed: u64, entity: u64, count: u64, bound in 1u64..) {
            prop_assert!(Stream::of(seed, Purpose::Fleet, entity).below(count, bound) < bound);
        }
    }
}
