//! What is known of each migration, from the history, from what the loop tells, and from what the agents said at its last look.

use std::collections::BTreeSet;

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::explain;
use sterna_core::history::Outcome;
use sterna_core::observation::UnderWay;
use sterna_core::plan::MoveCost;
use sterna_core::report::Decision;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::{self, Report};
use sterna_executor::platform::kubernetes::migration_object::account::{Account, Course, End, Known};
use sterna_executor::platform::kubernetes::migration_object::resource::Migration;
use sterna_policies::quantity::Millis;

use super::{Canceller, Keeper, Memory};
use crate::control::desk::Standing;
use crate::control::world::Clock;
use crate::history::list::{self, MigrationLine};
use crate::history::migration::outcome;
use crate::history::{HistoryError, HistoryStore};
use sterna_executor::platform::kubernetes::migration_object::objects::Objects;

impl<O: Objects, X: Canceller, C: Clock, L: Fn() -> bool + Send + Sync> Keeper<O, X, C, L> {
    /// All that is known now of migrations that run, and of those whose objects were seen.
    pub(super) async fn known(
        &self,
        memory: &mut Memory,
        standing: &Standing,
        seen: &[Migration],
    ) -> Result<Known, HistoryError> {
        let continuum = standing.continuum.name.clone();
        // Before the history is asked: what is told after it is looked at the next time.
        let asked = self.heard.asked();
        let objects: BTreeSet<MigrationId> = seen.iter().filter_map(Migration::id).collect();
        let heard = self.heard.migrations(&objects);
        let open = self.history.open_migrations().await?;
        let open = open.iter().filter_map(|line| line.id.parse::<MigrationId>().ok());
        let ids: BTreeSet<MigrationId> =
            open.chain(heard.keys().copied()).chain(objects.iter().copied()).collect();
        memory.ended.retain(|id, _| ids.contains(id));
        memory.refused.retain(|id, _| ids.contains(id));
        let mut accounts = Vec::new();
        for id in ids {
            let course = heard.get(&id);
            let account = match memory.ended.get(&id) {
                Some(ended) => Some(ended.clone()),
                None => account(&self.history, id).await?,
            };
            let Some(mut account) = account else { continue };
            match &mut account.course {
                Course::UnderWay { reached } => *reached = course.and_then(|course| course.reached),
                Course::Ended(_) => {
                    memory.ended.insert(id, account.clone());
                    if course.is_some_and(|course| course.shown) {
                        self.heard.forget(&id);
                    }
                }
            }
            account.shown = course.is_some_and(|course| course.shown);
            accounts.push(account);
        }
        // Of another scheduler's order this one's history knows nothing before its end.
        let under_way =
            standing.newest().map(|seen| seen.observation.under_way.as_slice()).unwrap_or_default();
        let told: BTreeSet<MigrationId> = accounts.iter().map(|account| account.id).collect();
        let others = seen.iter().filter_map(|object| Some((object.id()?, object)));
        let others = others.filter(|(id, _)| !told.contains(id));
        accounts.extend(others.filter_map(|(id, object)| of_another(id, object, under_way)));
        Ok(Known { continuum, accounts, asked, keep: self.keep })
    }
}

/// What the history knows of a migration.
async fn account(history: &HistoryStore, id: MigrationId) -> Result<Option<Account>, HistoryError> {
    let Some((line, report)) = history.migration(id.to_string()).await? else { return Ok(None) };
    let decision = match line.decision {
        Some(number) => history.decided(number).await?,
        None => None,
    };
    let report = report.and_then(|value| serde_json::from_value::<Report>(value).ok());
    Ok(Some(of_line(id, line, decision.as_ref(), report.as_ref())))
}

fn of_line(
    id: MigrationId,
    line: MigrationLine,
    decision: Option<&Decision>,
    report: Option<&Report>,
) -> Account {
    let service = ServiceName::from(line.service);
    let gain = decision.and_then(|decision| {
        decision.report.services.iter().find(|one| one.service == service)?.gain.as_ref()
    });
    let course = match line.end {
        None => Course::UnderWay { reached: None },
        Some(end) => Course::Ended(End {
            outcome: outcome(&end.outcome).unwrap_or(Outcome::Refused),
            reached: report.and_then(reached),
            reason: end.reason,
            downtime: end.measured.downtime,
            duration: end.measured.duration,
            bytes: end.measured.bytes,
        }),
    };
    let list::Cost { downtime, duration, bytes } = line.predicted;
    Account {
        id,
        service,
        from: NodeName::from(line.from),
        to: NodeName::from(line.to),
        policy: decision.map(|decision| decision.report.policy.clone()),
        decision: line.decision,
        reason: gain.map(explain::of_gain),
        predicted: MoveCost {
            downtime: downtime.unwrap_or(Millis::ZERO),
            duration: duration.unwrap_or(Millis::ZERO),
            bytes: bytes.unwrap_or_default(),
        },
        course,
        shown: false,
    }
}

fn reached(report: &Report) -> Option<Phase> {
    match &report.outcome {
        report::Outcome::RolledBack { after, .. } => Some(*after),
        _ => report.phases.iter().map(|record| record.phase).max(),
    }
}

/// A migration that another scheduler has ordered, where the agents have said that it runs.
pub(super) fn of_another(id: MigrationId, object: &Migration, under_way: &[UnderWay]) -> Option<Account> {
    let spec = &object.spec;
    let (service, from, to) = (
        ServiceName::from(spec.service.as_str()),
        NodeName::from(spec.from.as_str()),
        NodeName::from(spec.to.as_str()),
    );
    let runs = under_way.iter().any(|one| one.service == service && one.from == from && one.to == to);
    runs.then(|| Account {
        id,
        service,
        from,
        to,
        policy: spec.policy.clone(),
        decision: spec.decision,
        reason: spec.reason.clone(),
        predicted: MoveCost::default(),
        course: Course::UnderWay { reached: None },
        shown: true,
    })
}
