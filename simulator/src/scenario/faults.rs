//! What a scenario lets fail, and which nodes it lets be taken away.

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_core::continuum::{Continuum, NodeName, SiteName};
use sterna_policies::load::{At, Findings, Written};
use sterna_policies::quantity::Millis;

use super::file::ScenarioFile;
use super::load::Reader;
use crate::clock::SimTime;
use crate::models::fault::{Fault, Part, When};

/// How many failures of one thing a scenario may have, in the mean: more than anybody can mean.
pub(super) const MOST: u64 = 10_000;

/// Something fails. Exactly one of `site`, `node`, `nodes_of` and `link` says what; `at` and `for` say when, or `mtbf` and `mttr`
/// how often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Failure")]
pub struct FailureFile {
    /// A site: all its nodes at once.
    pub site: Option<At<String>>,
    /// A node: nothing on it runs, and its agent does not answer. It draws no power and costs nothing meanwhile.
    pub node: Option<At<String>>,
    /// The nodes of this site, each by itself.
    pub nodes_of: Option<At<String>>,
    /// The link between two sites: nothing is moved over it.
    pub link: Option<At<[At<String>; 2]>>,
    /// When, since the start.
    pub at: Option<Written<Millis>>,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Option<Written<Millis>>,
    /// Mean time from the end of a failure to the next, by chance.
    pub mtbf: Option<Written<Millis>>,
    /// Mean time that a failure lasts, by chance.
    pub mttr: Option<Written<Millis>>,
}

/// A spot node is taken away: it is drained from the notice on, then gone for a while. Exactly one of `node` and `nodes_of` says
/// which; `at` and `for` say when, or `mtbf` and `mttr` how often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Preemption")]
pub struct PreemptionFile {
    /// The node.
    pub node: Option<At<String>>,
    /// The nodes of this site, each by itself.
    pub nodes_of: Option<At<String>>,
    /// How long before it people are told, such as "2m".
    pub notice: Written<Millis>,
    /// When it goes, since the start.
    pub at: Option<Written<Millis>>,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Option<Written<Millis>>,
    /// Mean time from its return to the next time that it goes, by chance.
    pub mtbf: Option<Written<Millis>>,
    /// Mean time that it is gone, by chance.
    pub mttr: Option<Written<Millis>>,
}

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failing {
    /// All nodes of a site at once.
    Site(SiteName),
    /// A node.
    Node(NodeName),
    /// The nodes of a site, each by itself.
    NodesOf(SiteName),
    /// The link between two sites.
    Link([SiteName; 2]),
}

impl Failing {
    /// What fails together, with the name by which it draws.
    pub(super) fn parts(&self, continuum: &Continuum) -> Vec<(String, Vec<Part>)> {
        let nodes_at = |site: &SiteName| -> Vec<NodeName> {
            let nodes = continuum.nodes.iter().filter(|(_, node)| &node.site == site);
            nodes.map(|(name, _)| name.clone()).collect()
        };
        let alone = |node: NodeName| (format!("node {node}"), vec![Part::Node(node)]);
        match self {
            Self::Site(site) => {
                vec![(format!("site {site}"), nodes_at(site).into_iter().map(Part::Node).collect())]
            }
            Self::Node(node) => vec![alone(node.clone())],
            Self::NodesOf(site) => nodes_at(site).into_iter().map(alone).collect(),
            Self::Link([a, b]) => {
                let [a, b] = if a < b { [a, b] } else { [b, a] };
                vec![(format!("link {a} {b}"), vec![Part::Link([a.clone(), b.clone()])])]
            }
        }
    }
}

/// Adds what fails together.
pub(super) fn add(
    faults: &mut Vec<Fault>,
    parts: Vec<(String, Vec<Part>)>,
    when: When,
    notice: Option<Millis>,
) {
    for (mut name, parts) in parts {
        // Two faults of one name and purpose are two matters of chance. Others draw elsewhere and do not count: a node's faults
        // do not hang on what else is said of its site.
        let is_same = |other: &&Fault| {
            let rest = other.name.strip_prefix(name.as_str());
            let same = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
            same && other.notice.is_some() == notice.is_some()
        };
        let again = faults.iter().filter(is_same).count();
        if again > 0 {
            name = format!("{name} {}", again + 1);
        }
        faults.push(Fault { parts, name, when, notice });
    }
}

/// Once, from an instant on that must be within the scenario.
pub(super) fn once(
    findings: &mut Findings,
    duration: SimTime,
    (begins, span): (SimTime, std::ops::Range<usize>),
    lasts: Millis,
) -> When {
    if begins >= duration {
        findings
            .error("S0016", span, format!("{begins} is not within the scenario, which lasts {duration}"))
            .label("has no effect");
    }
    When::Once { at: begins, lasts }
}

/// Again and again, though not too often to be simulated.
pub(super) fn drawn(
    findings: &mut Findings,
    duration: SimTime,
    (between, span): (Millis, std::ops::Range<usize>),
    lasts: Millis,
) -> Option<When> {
    let least = duration.as_nanos() / MOST;
    if SimTime::from_millis(between).as_nanos() < least {
        let least = SimTime::from_nanos(least);
        findings
            .error("S0016", span, format!("a failure each {between} can't be simulated"))
            .label(format!("for this duration it must be at least {least}"));
        return None;
    }
    Some(When::Drawn { between, lasts })
}

/// Both kinds, as they are read.
struct Said<'f> {
    site: Option<&'f At<String>>,
    node: Option<&'f At<String>>,
    nodes_of: Option<&'f At<String>>,
    link: Option<&'f At<[At<String>; 2]>>,
    once: [Option<&'f Written<Millis>>; 2],
    drawn: [Option<&'f Written<Millis>>; 2],
    notice: Option<&'f Written<Millis>>,
}

impl Reader<'_> {
    /// What will fail or be taken away. `headers` are the places of the tables in the text, for messages about a whole one.
    pub(super) fn faults(&mut self, written: &ScenarioFile) -> Vec<Fault> {
        let mut faults = Vec::new();
        for At { value: one, span } in &written.failure {
            let said = Said {
                site: one.site.as_ref(),
                node: one.node.as_ref(),
                nodes_of: one.nodes_of.as_ref(),
                link: one.link.as_ref(),
                once: [one.at.as_ref(), one.lasts.as_ref()],
                drawn: [one.mtbf.as_ref(), one.mttr.as_ref()],
                notice: None,
            };
            self.fault(&said, span.clone(), &mut faults);
        }
        for At { value: one, span } in &written.preemption {
            let said = Said {
                site: None,
                node: one.node.as_ref(),
                nodes_of: one.nodes_of.as_ref(),
                link: None,
                once: [one.at.as_ref(), one.lasts.as_ref()],
                drawn: [one.mtbf.as_ref(), one.mttr.as_ref()],
                notice: Some(&one.notice),
            };
            self.fault(&said, span.clone(), &mut faults);
        }
        faults
    }

    fn fault(&mut self, said: &Said<'_>, span: std::ops::Range<usize>, faults: &mut Vec<Fault>) {
        let when = self.when(said, span.clone());
        let notice = match said.notice {
            Some(written) => written.read_unsigned(&mut self.findings).map(Some),
            None => Some(None),
        };
        let parts = self.parts(said, span);
        let (Some(when), Some(notice)) = (when, notice) else { return };
        add(faults, parts, when, notice);
    }

    /// What fails together, with the name by which it draws.
    fn parts(&mut self, said: &Said<'_>, span: std::ops::Range<usize>) -> Vec<(String, Vec<Part>)> {
        let kinds = [said.site.is_some(), said.node.is_some(), said.nodes_of.is_some(), said.link.is_some()];
        if kinds.iter().filter(|said| **said).count() != 1 {
            let among =
                if said.notice.is_some() { "node and nodes_of" } else { "site, node, nodes_of and link" };
            self.findings
                .error("S0013", span, "it must be said of one thing what happens to it")
                .label(format!("expected exactly one of {among}"));
            return Vec::new();
        }
        let failing = if let Some(site) = said.site {
            self.site(site).map(Failing::Site)
        } else if let Some(node) = said.node {
            self.node(node).map(Failing::Node)
        } else if let Some(site) = said.nodes_of {
            self.site(site).map(Failing::NodesOf)
        } else {
            said.link.and_then(|link| self.link(link)).map(Failing::Link)
        };
        failing.map(|failing| failing.parts(self.continuum)).unwrap_or_default()
    }

    /// The ends of a link; reports one that there is not.
    fn link(&mut self, link: &At<[At<String>; 2]>) -> Option<[SiteName; 2]> {
        let [a, b] = &link.value;
        let (a, b) = (self.site(a)?, self.site(b)?);
        no_link(&mut self.findings, self.continuum, [&a, &b], link.span());
        Some([a, b])
    }

    fn when(&mut self, said: &Said<'_>, span: std::ops::Range<usize>) -> Option<When> {
        match (said.once, said.drawn) {
            ([Some(at), Some(lasts)], [None, None]) => {
                let begins = at.read_unsigned(&mut self.findings).map(SimTime::from_millis);
                let lasts = lasts.read_positive(&mut self.findings);
                Some(once(&mut self.findings, self.frame.duration, (begins?, at.span()), lasts?))
            }
            ([None, None], [Some(mtbf), Some(mttr)]) => {
                let between = mtbf.read_positive(&mut self.findings);
                let lasts = mttr.read_positive(&mut self.findings);
                drawn(&mut self.findings, self.frame.duration, (between?, mtbf.span()), lasts?)
            }
            _ => {
                self.findings
                    .error("S0013", span, "it must be said when, and for how long")
                    .label("expected `at` and `for`, or `mtbf` and `mttr`");
                None
            }
        }
    }
}

/// Reports a link that there is not.
pub(super) fn no_link(
    findings: &mut Findings,
    continuum: &Continuum,
    [a, b]: [&SiteName; 2],
    span: std::ops::Range<usize>,
) {
    if continuum.link(a, b).is_none() {
        findings
            .error("S0016", span, format!("there is no link between `{a}` and `{b}`"))
            .label("not in the inventory");
    }
}
