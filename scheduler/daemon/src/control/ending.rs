//! Pods of nodes that have ended: recorded, told, and what was on its way from them run where it is held.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use sterna_core::history::Outcome;
use sterna_executor::fleet::{Fenced, FleetView};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::pod_end::PodEnd;
use sterna_executor::migration::promotion::{Candidate, Verdict, candidates};
use tracing::Instrument as _;

use super::notice::Notice;
use super::world::{Mover, World};
use crate::history::{HistoryError, HistoryStore};

/// For so long what may be held of a service that left a pod is looked for.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is kept of it from look to look.
#[derive(Debug, Default)]
pub struct Endings {
    /// What each node ran when it last answered.
    ran: BTreeMap<NodeName, BTreeSet<ServiceName>>,
    /// What was said last of each migration that is held.
    said: BTreeMap<MigrationId, String>,
}

/// What one look at them needs.
pub(super) struct Look<'a, W: World> {
    pub world: &'a W,
    pub mover: &'a W::Mover,
    pub continuum: &'a Continuum,
    pub view: &'a FleetView,
    pub history: &'a HistoryStore,
    pub now: Timestamp,
    pub tell: &'a (dyn Fn(&Notice<'_>) + Send + Sync),
}

impl Endings {
    /// Records the ends that are news, and has run what is held of services that left those pods. Gives whether anything was made to
    /// run: then what runs where is to be asked again.
    ///
    /// # Errors
    /// When the history can't be used. What an agent refuses is told, and tried again at the next look.
    pub(super) async fn look<W: World>(&mut self, look: Look<'_, W>) -> Result<bool, HistoryError> {
        let view = look.view;
        for node in &view.reachable {
            let runs =
                view.placement.iter().filter(|(_, on)| *on == node).map(|(service, _)| service.clone());
            self.ran.insert(node.clone(), runs.collect());
        }
        let mut news = Vec::new();
        for end in look.world.ends() {
            // Before anything is made of it.
            if look.history.record_pod_end(end.clone()).await? {
                news.push(end);
            }
        }
        let since = look.now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        let ends = look.history.pod_ends(since).await?;
        if ends.is_empty() {
            return Ok(false);
        }
        let undone = look.history.undone_since(since).await?.into_iter().collect();
        let told = look.world.told(look.continuum, look.mover, &ends).await;
        let found = candidates(&told, &ends, &undone);
        for end in &news {
            let lost = self.lost(end, view, &found);
            tracing::warn!(node = %end.node, %end, ?lost, "a node is gone");
            (look.tell)(&Notice::Settled(&gone(end, &lost)));
        }
        self.said.retain(|id, _| found.iter().any(|one| one.arriving.order.id == *id));
        let mut any = false;
        for one in &found {
            match &one.verdict {
                Verdict::Promote => any |= self.promote(one, &look).await?,
                why => self.say(one, &why.to_string(), look.tell),
            }
        }
        Ok(any)
    }

    /// What ran in the pod and is nowhere else.
    fn lost(&self, end: &PodEnd, view: &FleetView, found: &[Candidate]) -> Vec<ServiceName> {
        // A pod was made anew meanwhile, and what that one runs is there.
        let runs = |service: &ServiceName| view.placement.contains_key(service);
        let held = |service: &ServiceName| {
            found
                .iter()
                .any(|one| one.arriving.order.service == *service && one.verdict != Verdict::Incomplete)
        };
        let ran = self.ran.get(&end.node).into_iter().flatten();
        ran.filter(|service| !runs(service) && !held(service)).cloned().collect()
    }

    /// Has one run where it is held; gives whether it does.
    async fn promote<W: World>(&mut self, one: &Candidate, look: &Look<'_, W>) -> Result<bool, HistoryError> {
        let order = &one.arriving.order;
        let span = tracing::info_span!("promote", migration = %order.id, service = %order.service, from = %order.from,
            to = %one.holder, pod = one.end.uid);
        let came = look.mover.promote(one).instrument(span).await;
        let line = match came {
            Ok(Fenced::Runs) => {
                let line = format!("{}: promoted at `{}`, for {}", line(one), one.holder, one.end);
                let open = look.history.open_intents().await?.iter().any(|open| open.id == order.id);
                if open {
                    let (service, line) = (order.service.clone(), line.clone());
                    look.history.settle(order.id, service, Outcome::Moved, line, look.now).await?;
                }
                line
            }
            Ok(Fenced::Incomplete) => {
                self.say(one, &Verdict::Incomplete.to_string(), look.tell);
                return Ok(false);
            }
            Err(error) => {
                self.say(one, &error.to_string(), look.tell);
                return Ok(false);
            }
        };
        (look.tell)(&Notice::Settled(&line));
        Ok(true)
    }

    /// Says once why it is not promoted.
    fn say(&mut self, one: &Candidate, why: &str, tell: &(dyn Fn(&Notice<'_>) + Send + Sync)) {
        let order = &one.arriving.order;
        if self.said.get(&order.id).is_some_and(|said| said == why) {
            return;
        }
        self.said.insert(order.id, why.to_owned());
        let (line, from, holder) = (line(one), &order.from, &one.holder);
        tell(&Notice::Settled(&format!(
            "{line}: the pod of `{from}` has ended, and what `{holder}` holds is not promoted: {why}. `sterna fence {from}` has it run on \
             your word"
        )));
    }
}

fn line(one: &Candidate) -> String {
    let order = &one.arriving.order;
    format!("migration {} of `{}` from `{}` to `{}`", order.id, order.service, order.from, order.to)
}

fn gone(end: &PodEnd, lost: &[ServiceName]) -> String {
    let names: Vec<String> = lost.iter().map(|service| format!("`{service}`")).collect();
    let lost = match names[..] {
        [] => "nothing is known to be lost with it".to_owned(),
        _ => format!(
            "lost with it, since they ran there and were not on their way: {}. `sterna services up` starts them anew, empty",
            names.join(", ")
        ),
    };
    format!("node `{}` is gone: {end}; {lost}", end.node)
}
