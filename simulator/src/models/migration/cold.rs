//! Stopped at one end and started anew at the other: nothing of its memory is carried.

use sterna_policies::quantity::{Bytes, Millis};

use super::passage::{Passage, Service, Span, Stages, Work};
use super::path::Path;

/// A cold move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cold {
    /// What the destination lacks of the image.
    pub image: Bytes,
    /// The link that the image comes over.
    pub path: Path,
    /// Making the container at the destination ready.
    pub prepare: Millis,
    /// Stopping the service.
    pub stop: Millis,
    /// Starting it until it serves.
    pub start: Millis,
}

impl Cold {
    /// How it goes. The container is made ready before the service is stopped, so that its room is certain.
    pub fn passage(&self) -> Passage {
        let mut stages = Stages::default();
        if self.image > Bytes::ZERO {
            stages.then(Work::Pull, self.path.takes(self.image), self.image, Service::Runs);
        }
        let reserved = stages.now();
        stages.then(Work::Prepare, self.prepare, Bytes::ZERO, Service::Runs);
        stages.then(Work::Stop, self.stop, Bytes::ZERO, Service::Stands);
        let stopped = stages.now();
        stages.then(Work::Start, self.start, Bytes::ZERO, Service::Stands);
        Passage {
            source: Span { from: Millis::ZERO, to: stopped },
            destination: Span { from: reserved, to: stages.now() },
            image: None,
            // What was in its memory is gone with the process.
            no_return: Some(stopped),
            stages: stages.stages(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::passage::checks::sound;
    use super::*;

    #[test]
    fn an_image_that_is_there_costs_nothing_and_one_that_is_not_no_downtime() {
        let there = Cold {
            image: Bytes::ZERO,
            path: Path::alone("10MiB/s".parse().unwrap()),
            prepare: "200ms".parse().unwrap(),
            stop: "1s".parse().unwrap(),
            start: "2s".parse().unwrap(),
        };
        let passage = there.passage();
        sound(&passage);
        assert_eq!(
            (passage.downtime(), passage.duration()),
            ("3s".parse().unwrap(), "3.2s".parse().unwrap())
        );
        let both = passage.doubled().unwrap();
        assert_eq!((both.from, both.to), (Millis::ZERO, "1.2s".parse().unwrap()));
        let lacking = Cold { image: Bytes::from_mib(30), ..there }.passage();
        sound(&lacking);
        assert_eq!((lacking.downtime(), lacking.bytes()), (passage.downtime(), Bytes::from_mib(30)));
        assert_eq!(lacking.duration(), "6.2s".parse().unwrap());
        assert_eq!(lacking.doubled().unwrap().length(), both.length(), "its room is asked for afterwards");
    }
}
