//! Post-copy: the service goes on at the destination first, and its memory is fetched afterwards.
//!
//! It stands still for what it can't run without, and then runs slowly until all of its memory is there. Meanwhile neither end has it
//! whole: what happens to either node happens to the service, and there is no way back.

use sterna_policies::quantity::{Bytes, Millis};

use super::passage::{Passage, Service, Span, Stages, Work};
use super::path::Path;

/// A post-copy move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostCopy {
    /// The memory.
    pub memory: Bytes,
    /// What it can't run without.
    pub state: Bytes,
    /// The link.
    pub path: Path,
    /// Making both ends ready.
    pub prepare: Millis,
    /// Freezing and writing down the state.
    pub freeze: Millis,
    /// Going on at the destination.
    pub resume: Millis,
    /// Removing what is left at the source.
    pub clean: Millis,
}

impl PostCopy {
    /// How it goes.
    pub fn passage(&self) -> Passage {
        let rest = Bytes(self.memory.0.saturating_sub(self.state.0));
        let mut stages = Stages::default();
        stages.then(Work::Prepare, self.prepare, Bytes::ZERO, Service::Runs);
        stages.then(Work::Dump, self.freeze, Bytes::ZERO, Service::Stands);
        stages.then(Work::Send, self.path.takes(self.state), self.state, Service::Stands);
        let sent = stages.now();
        stages.then(Work::Start, self.resume, Bytes::ZERO, Service::Stands);
        if rest > Bytes::ZERO {
            stages.then(Work::Fetch, self.path.takes(rest), rest, Service::Waits);
        }
        let fetched = stages.now();
        stages.then(Work::Clean, self.clean, Bytes::ZERO, Service::Runs);
        Passage {
            source: Span { from: Millis::ZERO, to: fetched },
            destination: Span { from: Millis::ZERO, to: stages.now() },
            image: None,
            no_return: Some(sent),
            stages: stages.stages(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::passage::checks::sound;
    use super::*;

    #[test]
    fn it_runs_slowly_instead_of_standing_still() {
        let of = |memory| {
            let passage = PostCopy {
                memory: Bytes::from_mib(memory),
                state: Bytes::from_mib(2),
                path: Path::alone("100MiB/s".parse().unwrap()),
                prepare: "100ms".parse().unwrap(),
                freeze: "30ms".parse().unwrap(),
                resume: "50ms".parse().unwrap(),
                clean: "10ms".parse().unwrap(),
            }
            .passage();
            sound(&passage);
            passage
        };
        let (small, large) = (of(102), of(1002));
        assert_eq!(small.downtime(), "100ms".parse().unwrap());
        assert_eq!(large.downtime(), small.downtime(), "whatever the memory");
        assert_eq!((small.waits(), large.waits()), ("1s".parse().unwrap(), "10s".parse().unwrap()));
        assert_eq!((small.bytes(), of(1).bytes()), (Bytes::from_mib(102), Bytes::from_mib(2)));
        // No way back while it is fetched: that begins before it runs at the destination.
        assert_eq!(large.no_return, Some("150ms".parse().unwrap()));
        assert_eq!(large.doubled().unwrap().to, "10200ms".parse().unwrap());
    }
}
