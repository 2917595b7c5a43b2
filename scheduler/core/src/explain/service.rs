//! One service of a decision: every node with what the service would come to there, where each number comes from, the rule that
//! excludes the node, and what holds the move.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sterna_policies::diagnose::closest;
use sterna_policies::policy::{Metric, Mode};
use thiserror::Error;

use super::{columns, lined_up, of_gain, of_unknown, verdict};
use crate::continuum::{NodeName, ServiceName, SiteName};
use crate::observation::{Source, Unknown};
use crate::plan::Effect;
use crate::record::Recorded;
use crate::report::{Exclusion, Gain, Hold, NodeOption, ServiceReport, Verdict};

/// A service that a decision says nothing about.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotExplained {
    /// There is none of that name.
    #[error("the continuum has no service `{service}`{}", suggestion(.near.as_deref()))]
    Unknown {
        /// The name.
        service: ServiceName,
        /// One that is spelt alike.
        near: Option<String>,
    },
    /// The policy is off.
    #[error("the policy `{0}` is off, so nothing was looked at")]
    Off(String),
    /// Another policy has it.
    #[error("the policy `{policy}` leaves `{service}` to the policy `{by}`")]
    Other {
        /// The service.
        service: ServiceName,
        /// The policy.
        policy: String,
        /// The one that has it.
        by: String,
    },
    /// The policy is not about it.
    #[error("the policy `{policy}` is not about `{service}`: its [select] leaves it out")]
    NotSelected {
        /// The service.
        service: ServiceName,
        /// The policy.
        policy: String,
    },
}

fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A sensor or a probe said so.
    Measured,
    /// Computed from the inventory, in place of something that could be measured.
    Modelled,
    /// As the inventory states it; the policy names nothing that would measure it.
    Stated,
}

impl Origin {
    const fn mark(self) -> &'static str {
        match self {
            Self::Measured => "",
            Self::Modelled => "~",
            Self::Stated => "=",
        }
    }
}

/// One service of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The service.
    pub service: ServiceName,
    /// The policy that decided.
    pub policy: String,
    /// Its mode.
    pub mode: Mode,
    /// When it decided.
    pub at: Timestamp,
    /// What came of the whole decision.
    pub verdict: Verdict,
    /// Where the service runs.
    pub on: Option<NodeName>,
    /// Where it should run.
    pub best: Option<NodeName>,
    /// What it gains by that.
    pub gain: Option<Gain>,
    /// What holds its move.
    pub held_by: Vec<Hold>,
    /// Every node.
    pub places: Vec<Place>,
    /// What is not known.
    pub unknown: Vec<Unknown>,
}

/// A node as a place for the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: NodeName,
    /// Its site.
    pub site: SiteName,
    /// What the service comes to there; `None` where a number is missing.
    pub effect: Option<Effect>,
    /// Where each of these numbers comes from.
    pub origins: BTreeMap<Metric, Origin>,
    /// The rules that exclude it, or that the service breaks where it runs.
    pub excluded_by: Vec<Exclusion>,
}

/// Explains one service of a decision.
///
/// # Errors
/// When the decision says nothing about it.
pub fn service(recorded: &Recorded, service: &ServiceName) -> Result<Explained, NotExplained> {
    let Recorded { observation, policy, now, decision, .. } = recorded;
    let services = &observation.continuum.services;
    if !services.contains_key(service) {
        let near = closest(service.as_str(), services.keys().map(ServiceName::as_str)).map(str::to_owned);
        return Err(NotExplained::Unknown { service: service.clone(), near });
    }
    if policy.mode == Mode::Off {
        return Err(NotExplained::Off(policy.name.clone()));
    }
    let report = decision.report.services.iter().find(|report| report.service == *service);
    let Some(ServiceReport { on, best, gain, held_by, options, .. }) = report else {
        let (service, name) = (service.clone(), policy.name.clone());
        return Err(match policy.select.others.get(service.as_str()) {
            Some(by) => NotExplained::Other { service, policy: name, by: by.clone() },
            None => NotExplained::NotSelected { service, policy: name },
        });
    };
    Ok(Explained {
        service: service.clone(),
        policy: policy.name.clone(),
        mode: policy.mode,
        at: *now,
        verdict: decision.report.verdict.clone(),
        on: on.clone(),
        best: best.clone(),
        gain: *gain,
        held_by: held_by.clone(),
        places: options.iter().filter_map(|option| place(recorded, option)).collect(),
        unknown: decision.report.unknown.clone(),
    })
}

fn place(recorded: &Recorded, option: &NodeOption) -> Option<Place> {
    let observation = &recorded.observation;
    let site = observation.continuum.nodes.get(&option.node)?.site.clone();
    let measures = |metric| recorded.policy.metrics.contains_key(&metric);
    let modelled = |metric: Metric| option.modelled.contains(&metric);
    let priced = observation.price.get(&site).is_some_and(|price| price.source != Source::Modelled);
    let mut origins = BTreeMap::new();
    if let Some(effect) = &option.effect {
        let origin = |computed: bool, measured: bool| match (computed, measured) {
            (true, _) => Origin::Modelled,
            (false, true) => Origin::Measured,
            (false, false) => Origin::Stated,
        };
        if effect.user_latency.is_some() {
            origins.insert(Metric::UserLatency, origin(modelled(Metric::UserLatency), true));
        }
        origins.insert(Metric::CostRate, origin(modelled(Metric::CostRate), priced));
        origins.insert(Metric::Power, origin(modelled(Metric::Power), true));
        // Power times intensity.
        let computed = modelled(Metric::Power) || modelled(Metric::CarbonRate);
        origins.insert(Metric::CarbonRate, origin(computed, measures(Metric::CarbonRate)));
    }
    Some(Place {
        node: option.node.clone(),
        site,
        effect: option.effect,
        origins,
        excluded_by: option.excluded_by.clone(),
    })
}

impl Explained {
    /// Whether places were compared: not where something held the whole decision before that.
    fn compared(&self) -> bool {
        self.best != self.on || !matches!(self.verdict, Verdict::Held { .. })
    }

    fn remark(&self, place: &Place) -> String {
        let rules: Vec<String> = place.excluded_by.iter().map(Exclusion::to_string).collect();
        let (here, best) = (self.on.as_ref() == Some(&place.node), self.best.as_ref() == Some(&place.node));
        match (here, rules.is_empty(), best) {
            (true, true, _) => "runs here".to_owned(),
            (true, false, _) => format!("runs here, breaks: {}", rules.join(", ")),
            (false, false, _) => format!("excluded: {}", rules.join(", ")),
            (false, true, true) if self.held_by.is_empty() => "better, goes here".to_owned(),
            (false, true, true) => {
                let holds: Vec<String> = self.held_by.iter().map(Hold::to_string).collect();
                format!("better, but held: {}", holds.join("; "))
            }
            (false, true, false) if place.effect.is_none() => "not known".to_owned(),
            (false, true, false) if self.compared() => "allowed, not better".to_owned(),
            (false, true, false) => "allowed".to_owned(),
        }
    }

    fn row(&self, place: &Place) -> [String; 7] {
        let here = self.on.as_ref() == Some(&place.node);
        let best = self.best.as_ref() == Some(&place.node);
        let number = |metric: Metric, value: Option<String>| {
            let mark = place.origins.get(&metric).map_or("", |origin| origin.mark());
            value.map_or_else(|| "-".to_owned(), |value| format!("{mark}{value}"))
        };
        let effect = place.effect.as_ref();
        [
            if here {
                "*"
            } else if best {
                ">"
            } else {
                ""
            }
            .to_owned(),
            format!("{} ({})", place.node, place.site),
            number(Metric::UserLatency, effect.and_then(|e| e.user_latency).map(|v| format!("{v:.1}"))),
            number(Metric::CostRate, effect.map(|e| format!("{:.4}", e.cost_rate))),
            number(Metric::Power, effect.map(|e| format!("{:.1}", e.power))),
            number(Metric::CarbonRate, effect.and_then(|e| e.carbon_rate).map(|v| format!("{v:.1}"))),
            self.remark(place),
        ]
    }
}

/// Lines of plain characters.
impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, policy, on, best, .. } = self;
        match (on, best) {
            (Some(on), Some(best)) if on != best => writeln!(f, "{service} on {on}, better on {best}")?,
            (Some(on), _) if self.compared() => writeln!(f, "{service} on {on}, no better place")?,
            (Some(on), _) => writeln!(f, "{service} on {on}")?,
            (None, _) => writeln!(f, "{service} not found")?,
        }
        writeln!(f, "policy {policy}: {}", verdict(&self.verdict))?;
        if let Some(gain) = &self.gain {
            writeln!(f, "gain: {}", of_gain(gain))?;
        }
        for hold in &self.held_by {
            writeln!(f, "held: {hold}")?;
        }
        if !self.places.is_empty() {
            let mut rows =
                vec![["", "node (site)", "latency", "cost", "power", "carbon", ""].map(str::to_owned)];
            rows.extend(self.places.iter().map(|place| self.row(place)));
            lined_up(f, &columns(&rows))?;
            let has = |origin: Origin| {
                self.places.iter().any(|place| place.origins.values().any(|one| *one == origin))
            };
            let legend = [
                (Origin::Measured, "no mark: measured"),
                (Origin::Modelled, "~ modelled from the inventory"),
                (Origin::Stated, "= as the inventory states it"),
            ];
            let legend: Vec<&str> =
                legend.into_iter().filter(|(origin, _)| has(*origin)).map(|(_, words)| words).collect();
            if !legend.is_empty() {
                writeln!(f, "  {}", legend.join(", "))?;
            }
        }
        if !self.unknown.is_empty() {
            writeln!(f, "not known:")?;
            for unknown in &self.unknown {
                writeln!(f, "  {}", of_unknown(unknown))?;
            }
        }
        Ok(())
    }
}
