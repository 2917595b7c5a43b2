//! What the agents remember of migrations: settles orders whose end was not seen, and makes a lost history anew.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sterna_core::continuum::{NodeName, Placement};
use sterna_core::observation::UnderWay;
use sterna_executor::fleet::FleetView;
use sterna_executor::migration::order::MigrationId;

use super::notice::Notice;
use super::world::Mover;
use crate::history::{HistoryError, HistoryStore};

/// Asks agents for what the history does not know.
#[derive(Debug, Default)]
pub struct Recall {
    /// Nodes whose agents have been asked for all that they remember.
    asked: BTreeSet<NodeName>,
    /// Where services ran at the last look.
    seen: Placement,
}

impl Recall {
    /// Asks each node that answers once for all that it remembers, and again for as long as an order that was given to it has
    /// no known end, and when somebody else has a service moved away from it: while that is under way, and once more when it is
    /// over, or when the service is not there any more. Whatever of it the history lacks is recorded as if it had been seen. Gives the orders without a known end
    /// of which the agent that they were for has just said that it remembers nothing.
    ///
    /// # Errors
    /// When the history can't be used. An agent that does not answer is asked again the next time.
    pub async fn look<M: Mover>(
        &mut self,
        view: &FleetView,
        mover: &M,
        history: &HistoryStore,
        now: Timestamp,
        tell: &(dyn Fn(&Notice<'_>) + Send + Sync),
    ) -> Result<BTreeSet<MigrationId>, HistoryError> {
        let open = history.open_intents().await?;
        let waiting: BTreeSet<&NodeName> = open.iter().map(|one| &one.from).collect();
        let ours =
            |one: &&UnderWay| open.iter().any(|open| open.service == one.service && open.from == one.from);
        let leaving: BTreeSet<&NodeName> =
            view.under_way.iter().filter(|one| !ours(one)).map(|one| &one.from).collect();
        let before = std::mem::replace(&mut self.seen, view.placement.clone());
        let gone = before.iter().filter(|(service, node)| view.placement.get(*service) != Some(*node));
        for node in gone.map(|(_, node)| node).chain(leaving.iter().copied()) {
            self.asked.remove(node);
        }
        let mut forgotten = BTreeSet::new();
        for node in &view.reachable {
            if self.asked.contains(node) && !waiting.contains(node) {
                continue;
            }
            let standings = match mover.standings(node).await {
                Ok(standings) => standings,
                Err(error) => {
                    tracing::warn!(%node, %error, "its migrations can't be asked for");
                    continue;
                }
            };
            let remembers = |id| standings.iter().any(|standing| standing.order.id == id);
            forgotten
                .extend(open.iter().filter(|one| one.from == *node && !remembers(one.id)).map(|one| one.id));
            for standing in standings.into_iter().filter(|one| one.report.is_some()) {
                let (id, service) = (standing.order.id, standing.order.service.clone());
                if history.recall(standing, now).await? {
                    let line =
                        format!("migration {id} of `{service}`: recorded as its source's agent remembers it");
                    tell(&Notice::Settled(&line));
                }
            }
            // It has not ended yet.
            if !leaving.contains(node) {
                self.asked.insert(node.clone());
            }
        }
        Ok(forgotten)
    }
}
