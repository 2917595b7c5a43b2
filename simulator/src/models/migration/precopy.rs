//! Pre-copy: memory in rounds while the service runs, what is left while it stands still.
//!
//! The way of virtual machines (Clark et al., NSDI 2005; Liu et al., HPDC 2011). A service that writes faster than the link carries
//! is moved all the same, by what is stop-and-copy then: the result says so.

use sterna_policies::quantity::{Bytes, Millis};

use super::passage::{Passage, Service, Span, Stages, Work};
use super::path::Path;
use super::rounds::{Rounds, Until, Writing};

/// A pre-copy move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreCopy {
    /// The memory.
    pub writing: Writing,
    /// The link.
    pub path: Path,
    /// When rounds end.
    pub until: Until,
    /// Making both ends ready.
    pub prepare: Millis,
    /// Stopping at the source and going on at the destination, beside what crosses.
    pub resume: Millis,
}

impl PreCopy {
    /// How it goes, and how its rounds went.
    pub fn passage(&self) -> (Passage, Rounds) {
        let rounds = Rounds::of(&self.writing, &self.path, Millis::ZERO, &self.until);
        let mut stages = Stages::default();
        stages.then(Work::Prepare, self.prepare, Bytes::ZERO, Service::Runs);
        let reserved = Millis::ZERO;
        for (number, round) in (0u32..).zip(&rounds.rounds) {
            stages.then(Work::Round(number), round.took, round.sent, Service::Runs);
        }
        stages.then(Work::Send, self.path.takes(rounds.left), rounds.left, Service::Stands);
        let sent = stages.now();
        stages.then(Work::Start, self.resume, Bytes::ZERO, Service::Stands);
        let end = stages.now();
        let passage = Passage {
            // The source is whole until the destination runs.
            source: Span { from: Millis::ZERO, to: end },
            destination: Span { from: reserved, to: end },
            image: None,
            no_return: Some(sent),
            stages: stages.stages(),
        };
        (passage, rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::passage::checks::sound;
    use super::super::rounds::Ended;
    use super::*;
    use sterna_policies::quantity::MibPerSecond;

    /// What SimGrid's 10 Gbit/s carry: 97 % of it (its model LV08's factor), of which the acknowledgements of the other direction take
    /// 5 of 105 (its cross-traffic). Each message takes 13.01 times the link's latency (LV08 again), here 100 µs.
    fn simgrid() -> Path {
        let bytes = 10e9 / 8.0 * 0.97 / 1.05;
        Path {
            bandwidth: MibPerSecond::from_f64(bytes / 1_048_576.0).unwrap(),
            sharing: 1,
            each: Millis::from_f64(0.1 * 13.01).unwrap(),
        }
    }

    /// 4 GiB, of which a tenth is written, by a service that computes with so many cores. SimGrid has a byte written per flop, scaled so
    /// that one core of the host writes intensity times the migration speed.
    fn of(cores: f64, intensity: f64) -> f64 {
        let memory = Bytes::from_mib(4096);
        let speed = 10e9 / 8.0 / 1_048_576.0;
        let precopy = PreCopy {
            writing: Writing {
                memory,
                rate: MibPerSecond::from_f64(speed * intensity * cores).unwrap(),
                working_set: Bytes(memory.0 / 10),
            },
            path: simgrid(),
            until: Until::left_takes("30ms".parse().unwrap()),
            prepare: Millis::ZERO,
            // The message that ends it.
            resume: simgrid().each,
        };
        let (passage, rounds) = precopy.passage();
        sound(&passage);
        assert_eq!(rounds.ended, Ended::Small);
        passage.duration().as_f64() / 1e3
    }

    fn near(value: f64, wanted: f64) {
        assert!((value / wanted - 1.0).abs() < 0.01, "{value}, and SimGrid says {wanted}");
    }

    /// SimGrid 3.32 itself, run with the inputs above: a virtual machine of two cores, bound to a share of them, alone on its host.
    #[test]
    fn it_is_what_simgrid_does_with_one_machine() {
        for (load, seconds) in [(0.0, 3.7233), (0.1, 3.8927), (0.45, 4.1849), (0.85, 4.3068)] {
            let ours = of(2.0 * load, 0.2);
            assert!((ours / seconds - 1.0).abs() < 0.001, "load {load}: {ours}, and SimGrid says {seconds}");
        }
    }

    /// SimGrid 3.32 on 4 GiB over 10 Gbit/s: 3.436 s are RAM over bandwidth, 3.723 s without writing, 4.157 s on average with an
    /// intensity of 0.2, a working set of a tenth, and services of two cores that are busy to 45 % on average. How their loads are
    /// spread is not in what is published; three ways that have this average stand in for it.
    #[test]
    fn it_is_within_a_hundredth_of_simgrid() {
        let raw = Path::alone("10Gbit/s".parse().unwrap()).takes(Bytes::from_mib(4096)).as_f64() / 1e3;
        assert!((raw - 3.436).abs() < 0.001, "{raw}");
        near(of(0.0, 0.2), 3.723);
        for (low, high) in [(0.45, 0.45), (0.1, 0.8), (0.05, 0.85), (0.0, 0.9)] {
            let loads = (0..500).map(|n| low + (high - low) * (f64::from(n) + 0.5) / 500.0);
            let mean = loads.map(|load| of(2.0 * load, 0.2)).sum::<f64>() / 500.0;
            near(mean, 4.157);
        }
    }

    #[test]
    fn without_writing_it_is_memory_over_bandwidth_and_a_moment() {
        let precopy = PreCopy {
            writing: Writing {
                memory: Bytes::from_mib(1000),
                rate: MibPerSecond::ZERO,
                working_set: Bytes::from_mib(1000),
            },
            path: Path::alone("100MiB/s".parse().unwrap()),
            until: Until::left_takes("300ms".parse().unwrap()),
            prepare: "50ms".parse().unwrap(),
            resume: "20ms".parse().unwrap(),
        };
        let (passage, _) = precopy.passage();
        sound(&passage);
        assert_eq!(passage.duration(), "10070ms".parse().unwrap());
        assert_eq!((passage.downtime(), passage.bytes()), (precopy.resume, Bytes::from_mib(1000)));
        assert_eq!(passage.doubled().unwrap().length(), passage.duration());
    }

    #[test]
    fn what_does_not_converge_is_stopped_and_copied_and_says_so() {
        let precopy = PreCopy {
            writing: Writing {
                memory: Bytes::from_mib(6144),
                rate: "4GiB/s".parse().unwrap(),
                working_set: Bytes::from_mib(5418),
            },
            path: Path::alone("1987MiB/s".parse().unwrap()),
            until: Until { stall_percent: 100, ..Until::left_takes("300ms".parse().unwrap()) },
            prepare: Millis::ZERO,
            resume: "40ms".parse().unwrap(),
        };
        let (passage, rounds) = precopy.passage();
        sound(&passage);
        assert_eq!((rounds.ended, rounds.converges), (Ended::Stalled, false));
        assert!((2700.0..3000.0).contains(&passage.downtime().as_f64()), "{}", passage.downtime());
        assert_eq!(passage.bytes(), Bytes::from_mib(6144 + 2 * 5418));
    }
}
