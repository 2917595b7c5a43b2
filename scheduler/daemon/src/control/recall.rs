//! What the agents remember of migrations: settles orders whose end was not seen, and makes a lost history anew.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sterna_core::continuum::NodeName;
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
}

impl Recall {
    /// Asks each node that answers once for all that it remembers, and again for as long as an order that was given to it has
    /// no known end. Whatever of it the history lacks is recorded as if it had been seen. Gives the orders without a known end
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
            self.asked.insert(node.clone());
        }
        Ok(forgotten)
    }
}
