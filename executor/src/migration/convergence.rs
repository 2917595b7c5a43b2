//! When to stop sending ahead and freeze the service.
//!
//! Each round sends what changed during the one before. While that becomes less, another round shortens the time that the
//! service stands still; once it does not, further rounds only load the link. After KubeVirt's VEP 248, which looks for a
//! stall in what remains, with rounds in the place of a moving window: here a round is measured whole.

use sterna_policies::quantity::{Bytes, Millis};

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// What crossed the link.
    pub sent: Bytes,
    /// How long it took.
    pub took: Millis,
}

/// What follows a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one.
    Another,
    /// Freezing: what is left takes next to no time.
    Small,
    /// Freezing: what is left does not become less.
    Stalled,
    /// Freezing: enough rounds were tried.
    Enough,
}

/// A round that took so long is not worth another one: what changes meanwhile takes less than this to send.
const SMALL: Millis = Millis::from_micros(100_000_000);
/// A round that brought so little is small whatever it took: most of its time was not the link's.
const LITTLE: Bytes = Bytes::from_mib(1);
/// A round must send less than this share of the one before, or it is a stall.
const PROGRESS: f64 = 0.75;
/// What does not tell the link's speed: opening the stream takes longer than sending it.
pub(super) const TELLING: Bytes = Bytes::from_mib(8);
/// Most rounds.
const MOST: usize = 12;

/// The rounds so far.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Vec<Round>);

impl Rounds {
    /// What is going to be left: what the last round, which is as the next would be, has sent. `None` before there was one that
    /// tells.
    pub fn left(&self) -> Option<Bytes> {
        self.0.get(1..).and_then(<[Round]>::last).map(|round| round.sent)
    }

    /// What crosses the link in a millisecond, as the longest round shows it; `None` where too little was sent to tell.
    pub fn rate(&self) -> Option<f64> {
        let longest = self.0.iter().filter(|round| round.sent >= TELLING).max_by_key(|round| round.took)?;
        Some(longest.sent.0 as f64 / longest.took.as_f64().max(1.0))
    }

    /// What follows this round.
    pub fn after(&mut self, round: Round) -> Next {
        let before = self.0.last().copied();
        self.0.push(round);
        if round.sent <= LITTLE || round.took <= SMALL {
            return Next::Small;
        }
        match before {
            // The first round brings everything, so the second is always worth it.
            Some(before) if self.0.len() > 2 && round.sent.0 as f64 >= PROGRESS * before.sent.0 as f64 => {
                Next::Stalled
            }
            _ if self.0.len() >= MOST => Next::Enough,
            _ => Next::Another,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that changes so much in a second, over a link that takes so much in a second: what each round sends, and why it
    /// ends.
    fn converge(resident: f64, dirty: f64, link: f64) -> (Vec<f64>, Next) {
        let (mut rounds, mut sent, mut left) = (Rounds::default(), Vec::new(), resident);
        loop {
            let took = left / link;
            sent.push(left);
            let round = Round {
                sent: Bytes((left * 1_048_576.0) as u64),
                took: Millis::from_micros((took * 1e9) as i64),
            };
            match rounds.after(round) {
                Next::Another => left = (dirty * took).min(resident),
                next => return (sent, next),
            }
        }
    }

    #[test]
    fn a_service_that_writes_little_converges() {
        let (sent, why) = converge(256.0, 1.0, 12.0);
        assert_eq!(why, Next::Small);
        assert!(sent.len() <= 4 && sent[sent.len() - 1] < 2.0, "{sent:?}");
    }

    #[test]
    fn a_service_that_writes_nothing_needs_one_look_more() {
        let (sent, why) = converge(1024.0, 0.0, 12.0);
        assert_eq!((sent.len(), why), (2, Next::Small));
    }

    #[test]
    fn a_service_that_writes_faster_than_the_link_is_given_up_early() {
        let (sent, why) = converge(256.0, 20.0, 12.0);
        assert_eq!((sent.len(), why), (3, Next::Stalled));
    }

    #[test]
    fn rounds_end_even_where_they_shrink_for_ever() {
        let (sent, why) = converge(1e9, 8.0, 12.0);
        assert!(sent.len() <= MOST, "{why:?}");
    }
}
