//! Two policies on the same inputs: what the one would decide differently.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::continuum::{NodeName, ServiceName};
use crate::difference::{self, Difference};
use crate::explain::{effects, lined_up, verdict};
use crate::plan::Effect;
use crate::record::Recorded;
use crate::report::{Hold, Verdict};

/// What differs between an older policy and a newer one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is written differently.
    pub fields: Vec<Difference>,
    /// What both decide.
    pub decisions: Option<Decisions>,
}

/// What two policies decide on the same inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// What comes of the older one.
    pub old: Verdict,
    /// What comes of the newer one.
    pub new: Verdict,
    /// What all services come to now.
    pub now: Effect,
    /// What they come to after the older one's plan.
    pub after_old: Effect,
    /// And after the newer one's.
    pub after_new: Effect,
    /// The services of which they decide differently.
    pub services: Vec<Sides>,
}

/// A service of which two policies decide differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sides {
    /// The service.
    pub service: ServiceName,
    /// Where it runs.
    pub on: Option<NodeName>,
    /// What the older policy decides.
    pub old: Side,
    /// What the newer one decides.
    pub new: Side,
}

/// What a policy decides of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Side {
    /// Whether the policy is about it.
    pub selected: bool,
    /// Where it goes; `None` where it stays.
    pub goes: Option<NodeName>,
    /// What holds it.
    pub held_by: Vec<Hold>,
}

impl Side {
    fn of(recorded: &Recorded, service: &ServiceName) -> Self {
        let decision = &recorded.decision;
        let report = decision.report.services.iter().find(|report| report.service == *service);
        let last = decision.plan.moves.iter().rev().find(|one| one.service == *service);
        Self {
            selected: report.is_some(),
            goes: last.map(|one| one.to.clone()),
            held_by: report.map(|report| report.held_by.clone()).unwrap_or_default(),
        }
    }

    /// Whether it comes to the same, whatever the numbers in what holds it.
    fn alike(&self, other: &Self) -> bool {
        let held = (&self.held_by, &other.held_by);
        let same_rules =
            held.0.len() == held.1.len() && held.0.iter().zip(held.1).all(|(a, b)| a.is_same_rule(b));
        self.selected == other.selected && self.goes == other.goes && same_rules
    }
}

/// Compares two decisions with their policies.
///
/// # Errors
/// When the policies can't be compared.
pub fn compare(old: &Recorded, new: &Recorded) -> Result<Comparison, serde_json::Error> {
    Ok(Comparison {
        fields: difference::between(&old.policy, &new.policy)?,
        decisions: Some(decisions(old, new)),
    })
}

/// Compares two decisions.
pub fn decisions(old: &Recorded, new: &Recorded) -> Decisions {
    let services: BTreeSet<&ServiceName> = [old, new]
        .into_iter()
        .flat_map(|one| &one.decision.report.services)
        .map(|report| &report.service)
        .collect();
    let sides = services.into_iter().map(|service| Sides {
        service: service.clone(),
        on: old.observation.placement.get(service).cloned(),
        old: Side::of(old, service),
        new: Side::of(new, service),
    });
    Decisions {
        old: old.decision.report.verdict.clone(),
        new: new.decision.report.verdict.clone(),
        now: old.decision.plan.before,
        after_old: old.decision.plan.after,
        after_new: new.decision.plan.after,
        services: sides.filter(|sides| !sides.old.alike(&sides.new)).collect(),
    }
}

impl Comparison {
    /// Whether the policies decide differently; without inputs, whether they are written differently.
    pub fn differs(&self) -> bool {
        match &self.decisions {
            None => !self.fields.is_empty(),
            Some(decisions) => decisions.differ(),
        }
    }
}

impl Decisions {
    /// Whether they come to something else, whatever the numbers in what holds it.
    pub fn differ(&self) -> bool {
        !self.services.is_empty() || !self.old.is_alike(&self.new)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.goes, self.selected) {
            (Some(to), _) => write!(f, "goes to {to}")?,
            (None, true) => f.write_str("stays")?,
            (None, false) => f.write_str("not selected")?,
        }
        let holds: Vec<String> = self.held_by.iter().map(Hold::to_string).collect();
        if holds.is_empty() { Ok(()) } else { write!(f, ", held: {}", holds.join("; ")) }
    }
}

/// Lines of plain characters.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fields.is_empty() {
            writeln!(f, "the policies say the same")?;
        } else {
            writeln!(f, "written differently:")?;
        }
        for field in &self.fields {
            writeln!(f, "  {field}")?;
        }
        match &self.decisions {
            None => Ok(()),
            Some(decisions) => write!(f, "\n{decisions}"),
        }
    }
}

/// Lines of plain characters.
impl fmt::Display for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.differ() {
            return writeln!(f, "they decide the same: {}", verdict(&self.new));
        }
        writeln!(f, "decided differently:")?;
        writeln!(f, "  old: {}", verdict(&self.old))?;
        writeln!(f, "  new: {}", verdict(&self.new))?;
        for Sides { service, on, old, new } in &self.services {
            let on = on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
            writeln!(f, "{service}{on}")?;
            writeln!(f, "  old: {old}")?;
            writeln!(f, "  new: {new}")?;
        }
        lined_up(f, &effects(["old", "new"], &self.after_old, &self.after_new))
    }
}
