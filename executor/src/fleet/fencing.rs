//! Nodes that are gone for good: what others hold of services on their way from there runs from then on.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde::Serialize;
use sterna_core::continuum::NodeName;

use super::{Fleet, FleetError, in_time};
use crate::migration::certificate::{Certificate, Grounds};
use crate::migration::order::MigrationId;
use crate::migration::promotion::{Candidate, Leftover, Told};
use crate::node::api::{Arriving, ReleaseAnswer};
use crate::node::client::AgentClient;

/// What came of a service whose source was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fenced {
    /// It runs.
    Runs,
    /// It had not come in whole: it can't run from what is held.
    Incomplete,
}

impl std::fmt::Display for Fenced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Runs => "runs",
            Self::Incomplete => "had not come in whole, and is lost with its node",
        })
    }
}

impl Fleet {
    /// Has what a node that is gone left run where it is held, on somebody's word. What runs already is told that nothing more is to
    /// be expected of its source.
    ///
    /// # Errors
    /// When its node can't be asked, or the statement can't be signed.
    pub async fn fence(&self, left: &Leftover, by: &str, reason: &str) -> Result<Fenced, FleetError> {
        let grounds = Grounds::Fenced { by: by.to_owned(), reason: reason.to_owned() };
        self.run_held(self.agent(&left.holder)?, &left.arriving, grounds).await
    }

    /// Of the moves from a node that others hold or took over, those of which the agent under its name knows; `None` where none
    /// answers.
    ///
    /// # Errors
    /// When the agent answers, and yet can't be asked.
    pub async fn known_there(
        &self,
        node: &NodeName,
        told: &Told,
    ) -> Result<Option<BTreeSet<MigrationId>>, FleetError> {
        let Ok(agent) = self.agent(node) else { return Ok(None) };
        if in_time(node, agent.facts()).await.is_err() {
            return Ok(None);
        }
        let mut known = BTreeSet::new();
        for one in told.arriving.values().flatten().filter(|one| one.order.from == *node) {
            if agent.standing(one.order.id).await?.is_some() {
                known.insert(one.order.id);
            }
        }
        Ok(Some(known))
    }

    /// Has what is held run where it is held, because the pod of its source has ended.
    ///
    /// # Errors
    /// When its node can't be asked, or the statement can't be signed.
    pub async fn promote(&self, candidate: &Candidate) -> Result<Fenced, FleetError> {
        let agent = self.agent(&candidate.holder)?;
        self.run_held(agent, &candidate.arriving, Grounds::PodEnded(candidate.end.clone())).await
    }

    async fn run_held(
        &self,
        agent: &AgentClient,
        arriving: &Arriving,
        grounds: Grounds,
    ) -> Result<Fenced, FleetError> {
        let Arriving { order, epoch, image, .. } = arriving;
        let certificate = self.credentials.seal(&Certificate::due(order, *epoch, image, grounds))?;
        Ok(match agent.release(order.id, &certificate).await? {
            ReleaseAnswer::Runs => Fenced::Runs,
            ReleaseAnswer::Lost => Fenced::Incomplete,
        })
    }

    /// Asks every agent what it has and what comes in there. Of the nodes `empty` it is known that they have nothing, answer or
    /// not.
    pub async fn told(&self, empty: &BTreeSet<NodeName>) -> Told {
        let answers = join_all(self.agents.iter().map(|(node, agent)| async move {
            let answer = match agent {
                Ok(agent) => in_time(node, agent.holdings()).await,
                Err(reason) => Err(reason.clone()),
            };
            (node.clone(), answer)
        }));
        let mut told = Told::default();
        for (node, answer) in answers.await {
            match answer {
                Ok((arriving, services)) => {
                    told.arriving.insert(node.clone(), arriving);
                    told.services.insert(node, services);
                }
                Err(reason) => {
                    tracing::debug!(%node, reason, "can't be asked what it holds");
                    if !empty.contains(&node) {
                        told.silent.insert(node);
                    }
                }
            }
        }
        told
    }
}
