//! Which of several schedulers leads, decided from what stands in a Lease. Pure: time is told, as time since any fixed moment
//! of a clock that only goes forward.
//!
//! Clocks of candidates are never compared. Whoever leads counts from before it asked for its term, and for less than the
//! term; whoever waits counts from after it saw the lease change, and for all of the term. So one begins only after the other
//! has ended, as long as no clock runs half as fast again as another.

use std::time::Duration;

/// What stands in the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who leads; `None` where it was given up.
    pub holder: Option<String>,
    /// For how long from its last renewal, by the holder's word.
    pub term: Option<Duration>,
    /// Which writing of the lease this is. Another one is another value, and nothing else is known of it.
    pub version: String,
}

/// What a candidate should do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make it, as there is none.
    Create,
    /// Put its own name into it.
    Take,
    /// Write it anew: it is its own.
    Renew,
    /// Leave it to its holder.
    Wait,
}

/// A version of somebody else's lease, and since when it has been known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    version: String,
    at: Duration,
}

/// One that wants to lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    identity: String,
    term: Duration,
    seen: Option<Seen>,
    until: Option<Duration>,
}

impl Candidate {
    /// One of this name, which no other may have, that asks for terms of this length.
    pub const fn new(identity: String, term: Duration) -> Self {
        Self { identity, term, seen: None, until: None }
    }

    /// Its name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How long the terms are that it asks for.
    pub const fn term(&self) -> Duration {
        self.term
    }

    /// What to do about the lease as it was found; `now` is after it was read.
    pub fn step(&mut self, found: Option<&Claim>, now: Duration) -> Step {
        let Some(claim) = found else {
            self.seen = None;
            return Step::Create;
        };
        let Some(holder) = &claim.holder else {
            self.seen = None;
            return Step::Take;
        };
        if *holder == self.identity {
            self.seen = None;
            return Step::Renew;
        }
        // What it believed of itself has been overtaken.
        self.until = None;
        match &self.seen {
            Some(seen) if seen.version == claim.version => {
                // A holder that does not say for how long is taken to mean what this one means.
                let term = claim.term.unwrap_or(self.term);
                if now.saturating_sub(seen.at) > term { Step::Take } else { Step::Wait }
            }
            _ => {
                self.seen = Some(Seen { version: claim.version.clone(), at: now });
                Step::Wait
            }
        }
    }

    /// The lease is its own from now on, for a term; `asked` is before it was written.
    pub fn granted(&mut self, asked: Duration) {
        self.seen = None;
        // What was begun just before the end has a third of the term to come to rest.
        self.until = Some(asked.saturating_add(self.term * 2 / 3));
    }

    /// It does not lead from now on, whatever the lease says.
    pub const fn stand_down(&mut self) {
        self.until = None;
    }

    /// Until when it leads; `None` where it does not.
    pub const fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Whether it leads.
    pub fn leads(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERM: Duration = Duration::from_secs(15);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held(by: &str, version: &str) -> Claim {
        Claim { holder: Some(by.to_owned()), term: Some(TERM), version: version.to_owned() }
    }

    fn candidate() -> Candidate {
        Candidate::new("a".to_owned(), TERM)
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken_at_once() {
        let given_up = Claim { holder: None, ..held("b", "1") };
        assert_eq!(candidate().step(None, seconds(0)), Step::Create);
        assert_eq!(candidate().step(Some(&given_up), seconds(0)), Step::Take);
        assert_eq!(candidate().step(Some(&held("a", "1")), seconds(0)), Step::Renew);
    }

    #[test]
    fn anothers_is_taken_only_when_it_did_not_change_for_its_term() {
        let mut candidate = candidate();
        assert_eq!(candidate.step(Some(&held("b", "1")), seconds(100)), Step::Wait);
        assert_eq!(candidate.step(Some(&held("b", "1")), seconds(114)), Step::Wait);
        assert_eq!(candidate.step(Some(&held("b", "2")), seconds(115)), Step::Wait);
        assert_eq!(candidate.step(Some(&held("b", "2")), seconds(130)), Step::Wait);
        assert_eq!(candidate.step(Some(&held("b", "2")), seconds(131)), Step::Take);
    }

    #[test]
    fn it_is_the_holder_who_says_for_how_long() {
        let mut candidate = candidate();
        let long = Claim { term: Some(seconds(60)), ..held("b", "1") };
        assert_eq!(candidate.step(Some(&long), seconds(0)), Step::Wait);
        assert_eq!(candidate.step(Some(&long), seconds(60)), Step::Wait);
        assert_eq!(candidate.step(Some(&long), seconds(61)), Step::Take);
        let silent = Claim { term: None, ..held("b", "2") };
        assert_eq!(candidate.step(Some(&silent), seconds(70)), Step::Wait);
        assert_eq!(candidate.step(Some(&silent), seconds(86)), Step::Take);
    }

    #[test]
    fn a_leader_counts_from_before_it_asked_and_ends_before_the_term() {
        let mut candidate = candidate();
        assert!(!candidate.leads(seconds(0)));
        candidate.granted(seconds(100));
        assert!(candidate.leads(seconds(109)));
        assert!(!candidate.leads(seconds(110)));
    }

    #[test]
    fn one_that_sees_another_holder_leads_no_more() {
        let mut candidate = candidate();
        candidate.granted(seconds(100));
        assert_eq!(candidate.step(Some(&held("b", "2")), seconds(101)), Step::Wait);
        assert!(!candidate.leads(seconds(101)));
    }

    /// How far a candidate has come with its round.
    #[derive(Debug, Clone, PartialEq)]
    enum Way {
        Rests,
        /// What it read is on its way.
        Reads(Option<Claim>),
        /// What it writes is on its way, in place of that version.
        Writes {
            asked: Duration,
            over: Option<String>,
        },
        /// The answer is on its way: whether it was written.
        Hears {
            asked: Duration,
            written: bool,
        },
    }

    struct Rival {
        candidate: Candidate,
        way: Way,
        /// What its clock shows when the others' show nothing.
        offset: u64,
    }

    impl Rival {
        /// One part of a round.
        fn goes_on(&mut self, lease: &mut Option<Claim>, writings: &mut u64, now: u64) {
            let clock = seconds(now + self.offset);
            self.way = match std::mem::replace(&mut self.way, Way::Rests) {
                Way::Rests => Way::Reads(lease.clone()),
                Way::Reads(found) => match self.candidate.step(found.as_ref(), clock) {
                    Step::Wait => Way::Rests,
                    Step::Create | Step::Take | Step::Renew => {
                        Way::Writes { asked: clock, over: found.map(|claim| claim.version) }
                    }
                },
                Way::Writes { asked, over } => {
                    let written = lease.as_ref().map(|claim| claim.version.clone()) == over;
                    if written {
                        *lease = Some(claim(Some(self.candidate.identity()), writings));
                    }
                    Way::Hears { asked, written }
                }
                Way::Hears { asked, written } => {
                    if written {
                        self.candidate.granted(asked);
                    }
                    Way::Rests
                }
            };
        }

        fn gives_up(&mut self, lease: &mut Option<Claim>, writings: &mut u64) {
            self.candidate.stand_down();
            let own = self.candidate.identity();
            if lease.as_ref().is_some_and(|claim| claim.holder.as_deref() == Some(own)) {
                *lease = Some(claim(None, writings));
            }
        }
    }

    fn claim(holder: Option<&str>, writings: &mut u64) -> Claim {
        *writings += 1;
        Claim { holder: holder.map(str::to_owned), term: Some(TERM), version: writings.to_string() }
    }

    proptest! {
        /// Three candidates whose clocks show different times, with requests that take long and overtake each other.
        #[test]
        fn never_do_two_lead(
            turns in proptest::collection::vec((0_usize..3, 0_u64..9, proptest::bool::weighted(0.05)), 1..300),
            offsets in proptest::array::uniform3(0_u64..100_000),
        ) {
            let mut rivals = ["a", "b", "c"].map(|name| Rival {
                candidate: Candidate::new(name.to_owned(), TERM),
                way: Way::Rests,
                offset: 0,
            });
            for (rival, offset) in rivals.iter_mut().zip(offsets) {
                rival.offset = offset;
            }
            let (mut lease, mut writings, mut now) = (None, 0, 0);
            for (who, later, gives_up) in turns {
                now += later;
                let rival = &mut rivals[who];
                if gives_up && rival.way == Way::Rests {
                    rival.gives_up(&mut lease, &mut writings);
                } else {
                    rival.goes_on(&mut lease, &mut writings, now);
                }
                let leading: Vec<&str> = rivals
                    .iter()
                    .filter(|rival| rival.candidate.leads(seconds(now + rival.offset)))
                    .map(|rival| rival.candidate.identity())
                    .collect();
                prop_assert!(leading.len() <= 1, "at {}: {:?}", now, leading);
            }
        }
    }
}
