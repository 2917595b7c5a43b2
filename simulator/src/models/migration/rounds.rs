//! Memory that is sent while it is being written: round after round, each sending what was written during the one before.
//!
//! After `t` a service that writes `D` per second has changed `min(D·t, W)`, where `W` is its working set: what it writes again and
//! again counts once (Clark et al., NSDI 2005). What is left after a round grows with what was sent in it, so once a round leaves
//! as much as the one before, no later one will leave less: writing is as fast as the link, and only a limit ends it.
//!
//! [`Sending`] is that and nothing else, in plain numbers and without an end: [`Rounds`] ends it by limits that are looked at after a
//! round, a fleet's [passes](crate::fleet::passes) by limits that are looked at before.

use sterna_policies::quantity::{Bytes, MibPerSecond, Millis};

use super::path::{Path, written};

/// A memory that is written while it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writing {
    /// All of it.
    pub memory: Bytes,
    /// How fast it is written.
    pub rate: MibPerSecond,
    /// The part of it that is; more than all of it is all of it.
    pub working_set: Bytes,
}

impl Writing {
    /// What has changed after a time.
    pub fn changed(&self, time: Millis) -> Bytes {
        written(self.rate, time).min(self.working_set).min(self.memory)
    }
}

/// A round that is next: bytes and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What crosses in it.
    pub sends: u64,
    /// How long it takes.
    pub takes: u64,
    /// What will have been written meanwhile.
    pub leaves: u64,
}

/// Rounds without an end: all of a memory, and then always what was written during the round before.
#[derive(Debug, Clone, Copy)]
pub struct Sending<T, W> {
    memory: u64,
    left: u64,
    takes: T,
    written: W,
}

impl<T: Fn(u64) -> u64, W: Fn(u64) -> u64> Sending<T, W> {
    /// Sends a memory, of which a round of so many bytes `takes` so many nanoseconds, in which so many bytes of it are `written`.
    pub const fn of(memory: u64, takes: T, written: W) -> Self {
        Self { memory, left: memory, takes, written }
    }

    /// The next round.
    #[inline]
    pub fn round(&mut self) -> Next {
        let sends = self.left;
        let takes = (self.takes)(sends);
        self.left = (self.written)(takes).min(self.memory);
        Next { sends, takes, leaves: self.left }
    }
}

/// When rounds end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// What is left crosses within this time.
    pub left_takes: Millis,
    /// Or it is no more than this.
    pub left_is: Bytes,
    /// This many rounds were sent, the first with them.
    pub rounds: u32,
    /// So many times the memory was sent, in percent.
    pub sent_percent: u32,
    /// A round left at least this share of what the one before had left, in percent. More than 100: it may go on for ever.
    pub stall_percent: u32,
}

impl Until {
    /// A limit to what is left, by the time that it takes, and nothing else: as SimGrid does it, with 30 ms.
    pub const fn left_takes(limit: Millis) -> Self {
        Self {
            left_takes: limit,
            left_is: Bytes::ZERO,
            rounds: MOST_ROUNDS,
            sent_percent: u32::MAX,
            stall_percent: u32::MAX,
        }
    }
}

/// Rounds that no limit would end.
const MOST_ROUNDS: u32 = 10_000;

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// What crossed.
    pub sent: Bytes,
    /// How long it took.
    pub took: Millis,
}

/// Why rounds ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What is left is as little as was wanted.
    Small,
    /// It did not become less.
    Stalled,
    /// As many rounds as were allowed.
    Rounds,
    /// As many bytes as were allowed.
    Sent,
}

/// Rounds, and what they left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounds {
    /// One after the other.
    pub rounds: Vec<Round>,
    /// What is to be sent while the service stands still.
    pub left: Bytes,
    /// Why they ended.
    pub ended: Ended,
    /// Whether what is left could have become as little as was wanted: it is not written as fast as it is sent.
    pub converges: bool,
}

impl Rounds {
    /// Sends until there is little left, or a limit ends it. `each` is what a round takes beside its transfer.
    pub fn of(writing: &Writing, path: &Path, each: Millis, until: &Until) -> Self {
        let mut rounds: Vec<Round> = Vec::new();
        let (mut sent, mut converges) = (0u128, true);
        let most = u128::from(writing.memory.0) * u128::from(until.sent_percent) / 100;
        let span = |nanos: u64| Millis::from_micros(i64::try_from(nanos).unwrap_or(i64::MAX));
        let takes =
            |bytes| u64::try_from(path.takes(Bytes(bytes)).saturating_add(each).as_micros()).unwrap_or(0);
        let mut sending = Sending::of(writing.memory.0, takes, |nanos| writing.changed(span(nanos)).0);
        loop {
            let Next { sends, takes, leaves } = sending.round();
            let (round, left) = (Round { sent: Bytes(sends), took: span(takes) }, Bytes(leaves));
            sent += u128::from(sends);
            rounds.push(round);
            let small = left <= until.left_is || path.takes(left) <= until.left_takes;
            // The first round leaves what it leaves: only from the second on it can be compared.
            let stalled = rounds.len() > 1
                && u128::from(left.0) * 100 >= u128::from(round.sent.0) * u128::from(until.stall_percent);
            converges &= small || rounds.len() == 1 || left < round.sent;
            let ended = if small {
                Ended::Small
            } else if stalled {
                Ended::Stalled
            } else if rounds.len() >= usize::try_from(until.rounds.min(MOST_ROUNDS)).unwrap_or(usize::MAX) {
                Ended::Rounds
            } else if sent >= most {
                Ended::Sent
            } else {
                continue;
            };
            return Self { rounds, left, ended, converges };
        }
    }

    /// How long they take together.
    pub fn take(&self) -> Millis {
        self.rounds.iter().fold(Millis::ZERO, |sum, round| sum.saturating_add(round.took))
    }

    /// What they send together.
    pub fn send(&self) -> Bytes {
        Bytes(self.rounds.iter().fold(0, |sum, round| round.sent.0.saturating_add(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mib(bytes: Bytes) -> f64 {
        bytes.as_mib()
    }

    fn writing(memory: u64, rate: &str, working_set: u64) -> Writing {
        let (memory, working_set) = (Bytes::from_mib(memory), Bytes::from_mib(working_set));
        Writing { memory, rate: rate.parse().unwrap(), working_set }
    }

    fn until(text: &str) -> Until {
        Until::left_takes(text.parse().unwrap())
    }

    #[test]
    fn what_is_not_written_is_sent_once() {
        let path = Path::alone("125MiB/s".parse().unwrap());
        let rounds = Rounds::of(&writing(1000, "0MiB/s", 1000), &path, Millis::ZERO, &until("30ms"));
        assert_eq!(rounds.rounds, [Round { sent: Bytes::from_mib(1000), took: "8s".parse().unwrap() }]);
        assert_eq!((rounds.left, rounds.ended, rounds.converges), (Bytes::ZERO, Ended::Small, true));
    }

    /// Liu et al., HPDC 2011: `V_i = V_0 λ^i`, `V = V_0 (1 − λ^(n+1)) / (1 − λ)`, `n = ⌈log_λ (V_th / V_0)⌉` with `λ = D / R`.
    #[test]
    fn it_is_the_closed_form_where_the_working_set_is_no_limit() {
        for (rate, threshold) in [("40MiB/s", "300ms"), ("10MiB/s", "30ms"), ("80MiB/s", "1s")] {
            let path = Path::alone("100MiB/s".parse().unwrap());
            let writing = writing(4096, rate, 4096);
            let rounds = Rounds::of(&writing, &path, Millis::ZERO, &until(threshold));
            let lambda = writing.rate.as_f64() / 100.0;
            let limit = threshold.parse::<Millis>().unwrap().as_f64() / 1e3 * 100.0;
            let n = (limit / 4096.0).log(lambda).ceil();
            assert_eq!(rounds.rounds.len() as f64, n, "{rate}");
            let whole = 4096.0 * (1.0 - lambda.powf(n + 1.0)) / (1.0 - lambda);
            let sent = mib(rounds.send()) + mib(rounds.left);
            assert!((sent / whole - 1.0).abs() < 1e-6, "{sent} {whole}");
            assert!((mib(rounds.left) / (4096.0 * lambda.powf(n)) - 1.0).abs() < 1e-4);
            assert!((rounds.take().as_f64() / 1e3 - mib(rounds.send()) / 100.0).abs() < 1e-3);
        }
    }

    /// What cloud-hypervisor's pull request 7799 shows of 6144 MiB at 1987 MiB/s: rounds of 5418, 5418, 5428 and 5418 MiB after the
    /// first, and an estimate of the downtime that stays between 2.7 and 3 s.
    #[test]
    fn what_is_written_faster_than_it_is_sent_never_ends_by_itself() {
        let path = Path::alone("1987MiB/s".parse().unwrap());
        let writing = writing(6144, "2500MiB/s", 5418);
        let of = |until| Rounds::of(&writing, &path, Millis::ZERO, &until);
        let wanted = until("300ms");
        let capped = of(Until { rounds: 5, ..wanted });
        assert_eq!((capped.ended, capped.converges), (Ended::Rounds, false));
        let sent: Vec<f64> = capped.rounds.iter().map(|round| mib(round.sent)).collect();
        assert_eq!(sent, [6144.0, 5418.0, 5418.0, 5418.0, 5418.0]);
        let downtime = path.takes(capped.left).as_f64();
        assert!((2700.0..3000.0).contains(&downtime), "{downtime}");

        let stalled = of(Until { stall_percent: 100, ..wanted });
        assert_eq!((stalled.ended, stalled.rounds.len()), (Ended::Stalled, 2));
        let bounded = of(Until { sent_percent: 300, ..wanted });
        assert_eq!((bounded.ended, bounded.converges), (Ended::Sent, false));
        assert!(mib(bounded.send()) < 4.0 * 6144.0);
        // Even without any limit it ends.
        assert_eq!(of(wanted).ended, Ended::Rounds);
    }

    #[test]
    fn a_small_working_set_converges_at_any_rate_of_writes() {
        let path = Path::alone("100MiB/s".parse().unwrap());
        let rounds = Rounds::of(&writing(1024, "900MiB/s", 20), &path, Millis::ZERO, &until("300ms"));
        assert_eq!((rounds.left, rounds.ended), (Bytes::from_mib(20), Ended::Small));
        assert!(rounds.converges);
    }

    proptest! {
        /// More memory, more writing, a slower link: never sooner, never less, and never less standing still where the memory is one
        /// that converges in as many rounds.
        #[test]
        fn it_is_monotone(
            memory in 1u64..8192,
            rate in 0i64..500,
            working_set in 1u64..8192,
            bandwidth in 1i64..2000,
            more in 0u64..512,
        ) {
            let of = |memory, rate: i64, working_set, bandwidth: i64| {
                let path = Path::alone(MibPerSecond::from_micros(bandwidth * 1_000_000));
                let writing = Writing {
                    memory: Bytes::from_mib(memory),
                    rate: MibPerSecond::from_micros(rate * 1_000_000),
                    working_set: Bytes::from_mib(working_set),
                };
                // As many rounds for all, so that like is compared with like.
                let until = Until { rounds: 4, ..Until::left_takes(Millis::from_micros(-1)) };
                Rounds::of(&writing, &path, Millis::ZERO, &Until { left_is: Bytes::ZERO, ..until })
            };
            let plain = of(memory, rate, working_set, bandwidth);
            let faster = i64::try_from(more).unwrap();
            for worse in [
                of(memory + more, rate, working_set, bandwidth),
                of(memory, rate + faster, working_set, bandwidth),
                of(memory, rate, working_set + more, bandwidth),
            ] {
                prop_assert!(worse.take() >= plain.take() && worse.left >= plain.left);
                prop_assert!(worse.send() >= plain.send());
            }
            let better = of(memory, rate, working_set, bandwidth + faster);
            prop_assert!(better.take() <= plain.take() && better.left <= plain.left);
        }

        /// Whatever is asked for, it ends, and what it leaves is what its last round left.
        #[test]
        fn it_ends(
            memory in 0u64..1 << 45,
            rate in 0i64..i64::MAX,
            working_set in 0u64..u64::MAX,
            bandwidth in 0i64..1 << 50,
            limit in 0i64..10_000_000_000,
            rounds in 0u32..100,
            percent in 0u32..1000,
            stall in 0u32..200,
        ) {
            let writing = Writing {
                memory: Bytes(memory),
                rate: MibPerSecond::from_micros(rate),
                working_set: Bytes(working_set),
            };
            let path = Path::alone(MibPerSecond::from_micros(bandwidth));
            let until = Until {
                left_takes: Millis::from_micros(limit),
                left_is: Bytes::ZERO,
                rounds,
                sent_percent: percent,
                stall_percent: stall,
            };
            let done = Rounds::of(&writing, &path, Millis::ZERO, &until);
            prop_assert!(!done.rounds.is_empty() && done.rounds.len() <= rounds.max(1) as usize);
            prop_assert_eq!(done.left, writing.changed(done.rounds[done.rounds.len() - 1].took));
            prop_assert!(done.left <= writing.memory);
            if done.ended == Ended::Small {
                prop_assert!(done.converges && path.takes(done.left).as_micros() <= limit.max(0) || done.left == Bytes::ZERO);
            }
        }
    }
}
