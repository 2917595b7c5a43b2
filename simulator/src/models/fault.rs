//! When something fails or is taken away, and when it is back.

use sterna_core::continuum::{NodeName, SiteName};
use sterna_policies::quantity::Millis;

use crate::clock::SimTime;
use crate::stream::Stream;

/// The shortest time between two events, in nanoseconds: a second.
const LEAST: u64 = 1_000_000_000;

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A node: nothing on it runs, and its agent does not answer.
    Node(NodeName),
    /// The link between two sites, in the order of their names: nothing is moved over it.
    Link([SiteName; 2]),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{node}"),
            Self::Link([a, b]) => write!(f, "the link between {a} and {b}"),
        }
    }
}

/// When, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once.
    Once {
        /// From then on.
        at: SimTime,
        /// So long.
        lasts: Millis,
    },
    /// Again and again, by chance.
    Drawn {
        /// How long it holds, in the mean.
        between: Millis,
        /// How long it is gone, in the mean.
        lasts: Millis,
    },
}

/// Something that will fail or be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What; several at the same time where they belong together, such as the nodes of a site.
    pub parts: Vec<Part>,
    /// By which name it draws.
    pub name: String,
    /// When.
    pub when: When,
    /// So long before it people are told, and the node is drained.
    pub notice: Option<Millis>,
}

/// A span in which something is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// What.
    pub part: Part,
    /// When people are told that it will go.
    pub notice: Option<SimTime>,
    /// From.
    pub from: SimTime,
    /// To, without.
    pub to: SimTime,
}

impl Outage {
    /// Whether it is gone.
    pub fn is_on(&self, now: SimTime) -> bool {
        self.from <= now && now < self.to
    }

    /// Whether it is still there and people know that it will go.
    pub fn is_announced(&self, now: SimTime) -> bool {
        self.notice.is_some_and(|notice| notice <= now) && now < self.from
    }

    /// The instants at which anything about it changes.
    pub fn instants(&self) -> impl Iterator<Item = SimTime> {
        self.notice.into_iter().chain([self.from, self.to])
    }
}

impl Fault {
    /// The outages that begin before `end`.
    pub fn outages(&self, stream: Stream, end: SimTime) -> Vec<Outage> {
        let mut spans = Vec::new();
        match self.when {
            When::Once { at, lasts } => spans.push((at, at.after(lasts))),
            When::Drawn { between, lasts } => {
                let nanos = |span: Millis| SimTime::from_millis(span).as_nanos();
                let (mut from, mut count) = (stream.gap(0, nanos(between)).max(LEAST), 1);
                while from < end.as_nanos() {
                    let to = from.saturating_add(stream.gap(count, nanos(lasts)).max(LEAST));
                    spans.push((SimTime::from_nanos(from), SimTime::from_nanos(to)));
                    from = to.saturating_add(stream.gap(count + 1, nanos(between)).max(LEAST));
                    count += 2;
                }
            }
        }
        spans.retain(|(from, _)| *from < end);
        let notice = |from: SimTime| {
            let early =
                |notice: Millis| from.as_nanos().saturating_sub(SimTime::from_millis(notice).as_nanos());
            self.notice.map(|notice| SimTime::from_nanos(early(notice)))
        };
        let of = |part: &Part, (from, to)| Outage { part: part.clone(), notice: notice(from), from, to };
        spans.iter().flat_map(|span| self.parts.iter().map(|part| of(part, *span))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Purpose;
    use proptest::prelude::*;

    fn hours(hours: u64) -> SimTime {
        SimTime::from_nanos(hours * 3600 * LEAST)
    }

    fn fault(when: When, notice: Option<&str>) -> Fault {
        let parts = ["n1", "n2"].map(|name| Part::Node(name.into())).to_vec();
        Fault { parts, name: "south".into(), when, notice: notice.map(|text| text.parse().unwrap()) }
    }

    #[test]
    fn nodes_of_a_site_fail_together_and_a_notice_comes_before() {
        let when = When::Once { at: hours(5), lasts: "30m".parse().unwrap() };
        let outages = fault(when, Some("2m")).outages(Stream::named(1, Purpose::Failure, "x"), hours(9));
        let [one, two] = &outages[..] else { unreachable!() };
        assert_eq!((one.from, one.to), (two.from, two.to));
        assert_eq!(one.from.since(one.notice.unwrap()), 120 * LEAST);
        let at = |time: &str| SimTime::from_millis(time.parse().unwrap());
        let states =
            ["297m", "298m", "5h", "329m", "330m"].map(|t| (one.is_announced(at(t)), one.is_on(at(t))));
        assert_eq!(states, [(false, false), (true, false), (false, true), (false, true), (false, false)]);
        assert_eq!(fault(when, None).outages(Stream::named(1, Purpose::Failure, "x"), hours(5)), []);
    }

    proptest! {
        #[test]
        fn drawn_outages_do_not_overlap_and_have_their_means(seed: u64) {
            let when = When::Drawn { between: "10h".parse().unwrap(), lasts: "1h".parse().unwrap() };
            let end = hours(24 * 366);
            let stream = Stream::named(seed, Purpose::Failure, "south");
            let mut outages = fault(when, None).outages(stream, end);
            outages.retain(|one| one.part == Part::Node("n1".into()));
            prop_assert!(outages.windows(2).all(|pair| pair[0].to < pair[1].from));
            prop_assert!(outages.iter().all(|one| one.from < one.to && one.from < end));
            // A cycle of 11 hours: some 798 within a year, give or take four standard deviations.
            prop_assert!((690..910).contains(&outages.len()), "{}", outages.len());
        }
    }
}
