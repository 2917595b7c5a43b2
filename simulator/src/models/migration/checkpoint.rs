//! Dumped, sent, restored: the phases of Sterna's own migrations, each a line over the memory.
//!
//! With nothing sent ahead all of the memory crosses while the service stands still. Sent ahead, it is read and sent in passes
//! while the service runs, and only what changed since the last one crosses while it stands still; the last dump is of all of it
//! nevertheless.

use sterna_core::cost::{Costs, Line};
use sterna_policies::quantity::{Bytes, Millis};

use super::passage::{Passage, Service, Span, Stages, Work};
use super::path::Path;
use super::rounds::{Rounds, Until, Writing};

/// When Sterna's own passes end: as the executor's convergence has it, seen before a pass instead of after it.
pub const AS_STERNA: Until = Until {
    left_takes: Millis::from_micros(100_000_000),
    left_is: Bytes::from_mib(1),
    rounds: 12,
    sent_percent: u32::MAX,
    stall_percent: 75,
};

/// Passes while the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// How the memory is written meanwhile.
    pub writing: Writing,
    /// What a pass takes beside sending: a dump of all of it, or reading what may have changed.
    pub pass: Line,
    /// When passes end.
    pub until: Until,
}

/// A move by checkpoint and restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The memory.
    pub memory: Bytes,
    /// What the destination lacks of the image.
    pub image: Bytes,
    /// What the phases take.
    pub costs: Costs,
    /// The link.
    pub path: Path,
    /// What is sent while it runs; nothing where it is `None`.
    pub ahead: Option<Ahead>,
}

impl Checkpoint {
    /// How it goes, and how its passes went, where there were any.
    pub fn passage(&self) -> (Passage, Option<Rounds>) {
        let Self { memory, image, costs, path, ahead } = self;
        let dump = costs.dump.at(*memory);
        let rounds =
            ahead.map(|ahead| Rounds::of(&ahead.writing, path, ahead.pass.at(*memory), &ahead.until));
        let mut stages = Stages::default();
        if *image > Bytes::ZERO {
            stages.then(Work::Pull, path.takes(*image), *image, Service::Runs);
        }
        let reserved = stages.now();
        stages.then(Work::Prepare, costs.beside.at(*memory), Bytes::ZERO, Service::Runs);
        for (number, round) in (0u32..).zip(rounds.iter().flat_map(|rounds| &rounds.rounds)) {
            stages.then(Work::Round(number), round.took, round.sent, Service::Runs);
        }
        let left = rounds.as_ref().map_or(*memory, |rounds| rounds.left);
        stages.then(Work::Dump, dump, Bytes::ZERO, Service::Stands);
        let dumped = stages.now();
        stages.then(Work::Send, costs.opening.saturating_add(path.takes(left)), left, Service::Stands);
        stages.then(Work::Start, costs.restore.at(*memory), Bytes::ZERO, Service::Stands);
        stages.then(Work::Around, costs.around.at(*memory), Bytes::ZERO, Service::Stands);
        let end = stages.now();
        let passage = Passage {
            source: Span { from: Millis::ZERO, to: end },
            destination: Span { from: reserved, to: end },
            image: Some(Span { from: dumped, to: end }),
            no_return: Some(end),
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
    use proptest::prelude::*;
    use sterna_policies::policy::Memory;
    use sterna_policies::quantity::MibPerSecond;

    fn plain(mib: u64) -> Checkpoint {
        Checkpoint {
            memory: Bytes::from_mib(mib),
            image: Bytes::ZERO,
            costs: Costs::default(),
            path: Path { each: "5ms".parse().unwrap(), ..Path::alone("100MiB/s".parse().unwrap()) },
            ahead: None,
        }
    }

    fn ahead(mib: u64, rate: &str, working_set: u64) -> Ahead {
        Ahead {
            writing: Writing {
                memory: Bytes::from_mib(mib),
                rate: rate.parse().unwrap(),
                working_set: Bytes::from_mib(working_set),
            },
            pass: Line::default(),
            until: AS_STERNA,
        }
    }

    #[test]
    fn what_is_sent_while_frozen_stands_still_as_long_as_is_predicted() {
        for mib in [0, 4, 256, 1024] {
            let model = plain(mib);
            let (passage, rounds) = model.passage();
            sound(&passage);
            assert_eq!(rounds, None);
            let Path { bandwidth, each, .. } = model.path;
            let predicted = model.costs.of_move(model.memory, Memory::WhileFrozen, bandwidth, each);
            assert_eq!((passage.downtime(), passage.bytes()), (predicted.downtime, predicted.bytes));
            // The prediction counts the round trips of the phases too.
            let round_trips = predicted.duration.saturating_sub(passage.duration());
            assert_eq!(round_trips, "30ms".parse().unwrap());
        }
    }

    #[test]
    fn sent_ahead_only_what_changed_is_waited_for() {
        let (frozen, _) = plain(1024).passage();
        let (sent, rounds) = Checkpoint { ahead: Some(ahead(1024, "1MiB/s", 1024)), ..plain(1024) }.passage();
        sound(&sent);
        let rounds = rounds.unwrap();
        assert_eq!(rounds.ended, Ended::Small);
        assert!(rounds.left < Bytes::from_mib(11), "{rounds:?}");
        let shorter = frozen.downtime().as_f64() - sent.downtime().as_f64();
        assert!((shorter - (1024.0 - rounds.left.as_mib()) * 10.0).abs() < 1.0, "{shorter}");
        assert!(sent.duration() > frozen.duration() && sent.bytes() > frozen.bytes());
    }

    #[test]
    fn passes_that_take_long_leave_more() {
        let of = |pass| {
            let passes = Ahead { pass, ..ahead(512, "1MiB/s", 512) };
            Checkpoint { ahead: Some(passes), ..plain(512) }.passage()
        };
        let (quick, slow) = (of(Line::default()), of(Costs::default().dump));
        sound(&slow.0);
        assert!(slow.1.unwrap().left > quick.1.unwrap().left);
        assert!(slow.0.downtime() > quick.0.downtime() && slow.0.duration() > quick.0.duration());
    }

    #[test]
    fn what_is_written_faster_than_it_is_sent_stalls() {
        let model = Checkpoint { ahead: Some(ahead(256, "200MiB/s", 200)), ..plain(256) };
        let (passage, rounds) = model.passage();
        sound(&passage);
        let rounds = rounds.unwrap();
        assert_eq!((rounds.ended, rounds.converges), (Ended::Stalled, false));
        assert_eq!(rounds.left, Bytes::from_mib(200));
        assert!(passage.downtime() > plain(200).passage().0.downtime());
    }

    #[test]
    fn an_image_that_is_not_there_is_fetched_first_and_room_is_asked_for_afterwards() {
        let (there, _) = plain(64).passage();
        let (lacking, _) = Checkpoint { image: Bytes::from_mib(500), ..plain(64) }.passage();
        sound(&lacking);
        assert_eq!(lacking.downtime(), there.downtime());
        assert_eq!(lacking.duration().saturating_sub(there.duration()), "5005ms".parse().unwrap());
        assert_eq!(lacking.doubled().unwrap().length(), there.doubled().unwrap().length());
        assert!(lacking.image.unwrap().from > lacking.doubled().unwrap().from);
    }

    proptest! {
        #[test]
        fn more_of_anything_never_stands_still_for_less(
            mib in 0u64..4096,
            rate in 0i64..400,
            working_set in 0u64..4096,
            bandwidth in 1i64..1000,
            more in 0u64..256,
        ) {
            let of = |mib, rate: i64, bandwidth: i64| {
                let mut model = plain(mib);
                model.path = Path::alone(MibPerSecond::from_micros(bandwidth * 1_000_000));
                let mut passes = ahead(mib, "0MiB/s", working_set);
                passes.writing.rate = MibPerSecond::from_micros(rate * 1_000_000);
                // As many passes for all.
                passes.until = Until { rounds: 3, ..Until::left_takes(Millis::from_micros(-1)) };
                let (passage, _) = Checkpoint { ahead: Some(passes), ..model }.passage();
                passage
            };
            let faster = i64::try_from(more).unwrap();
            let plain = of(mib, rate, bandwidth);
            for worse in [of(mib + more, rate, bandwidth), of(mib, rate + faster, bandwidth)] {
                prop_assert!(worse.downtime() >= plain.downtime());
                prop_assert!(worse.duration() >= plain.duration() && worse.bytes() >= plain.bytes());
            }
            let better = of(mib, rate, bandwidth + faster);
            prop_assert!(better.downtime() <= plain.downtime() && better.duration() <= plain.duration());
        }
    }
}
