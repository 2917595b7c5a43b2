//! Rules that held moves back, gathered over many looks.

use std::collections::BTreeMap;

use sterna_core::continuum::ServiceName;
use sterna_core::report::{Hold, Report, Verdict};

use crate::clock::SimTime;
use crate::report::HoldRecord;

/// Rules that held moves back so far.
#[derive(Debug, Default)]
pub struct Holds {
    /// By service (none for rules that held the whole decision), in the order in which they first held.
    by_service: BTreeMap<Option<ServiceName>, Vec<HoldRecord>>,
    /// Which of them were noted last: by service, and the place in its list.
    noted: Vec<(Option<ServiceName>, usize)>,
}

impl Holds {
    /// Notes what one decision's report says.
    pub fn note(&mut self, now: SimTime, report: &Report) {
        self.noted.clear();
        for service in &report.services {
            for hold in &service.held_by {
                self.add(now, Some(&service.service), hold);
            }
        }
        // What no service names held the whole decision.
        if let Verdict::Held { by } = &report.verdict {
            let named = |hold: &Hold| {
                report
                    .services
                    .iter()
                    .flat_map(|service| &service.held_by)
                    .any(|other| hold.is_same_rule(other))
            };
            for hold in by.iter().filter(|hold| !named(hold)) {
                self.add(now, None, hold);
            }
        }
    }

    /// Notes the same once more, at another look.
    pub fn note_again(&mut self, now: SimTime) {
        for (service, at) in &self.noted {
            if let Some(record) = self.by_service.get_mut(service).and_then(|records| records.get_mut(*at)) {
                record.looks += 1;
                record.last = now;
            }
        }
    }

    fn add(&mut self, now: SimTime, service: Option<&ServiceName>, hold: &Hold) {
        let records = self.by_service.entry(service.cloned()).or_default();
        let at = records.iter().position(|record| record.hold.is_same_rule(hold)).unwrap_or(records.len());
        self.noted.push((service.cloned(), at));
        match records.get_mut(at) {
            Some(record) => {
                record.looks += 1;
                record.last = now;
                if let (Hold::GainTooSmall { gain: seen, .. }, Hold::GainTooSmall { gain, .. }) =
                    (&record.hold, hold)
                    && gain > seen
                {
                    record.hold = hold.clone();
                }
            }
            None => records.push(HoldRecord {
                service: service.cloned(),
                hold: hold.clone(),
                looks: 1,
                first: now,
                last: now,
            }),
        }
    }

    /// All of them: the whole decision's first, then by service.
    pub fn into_records(self) -> Vec<HoldRecord> {
        self.by_service.into_values().flatten().collect()
    }
}
