//! Own probes: agents are asked, now and then and beside the loop, how far it is from their nodes to the other sites and to
//! where users are.
//!
//! A service's own latency exists only where it runs; these exist for every site that it could go to. They are exported, and
//! come back by a query like any other metric, so that ages, ranges and fallbacks hold for them too.
//!
//! Of several nodes of a site, and of several places of one user group, the nearest counts: one that does not answer can make a
//! site look further away and never nearer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use sterna_core::continuum::{Continuum, NodeName, SiteName, UsersName};
use sterna_executor::fleet::{Fleet, FleetError};
use sterna_executor::node::api::Probed;
use sterna_executor::node::probe::{LIMIT, TARGETS};
use sterna_policies::quantity::Millis;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control::desk::Desk;
use crate::control::world::{Clock, RealWorld};
use crate::telemetry::Telemetry;

/// Least time between two rounds.
const LEAST: Duration = Duration::from_secs(1);
/// Nodes of one site that are asked, and that others look at.
const OF_A_SITE: usize = 3;
/// Agents that are asked beside each other.
const AT_ONCE: usize = 64;
/// Time for finding all agents.
const TO_FIND: Duration = Duration::from_secs(30);
/// Time for one agent to answer for so many targets as it takes at once.
const TO_ANSWER: Duration = Duration::from_secs(25);
/// An agent that could not be asked, as the reason of a failure.
const NO_AGENT: &str = "agent";

/// Finds those who probe.
pub trait Prober: Send + Sync {
    /// The agents of one round.
    type Agents: Agents;

    /// Finds the agents of all nodes.
    fn find(&self, continuum: &Continuum) -> impl Future<Output = Result<Self::Agents, FleetError>> + Send;
}

/// Those who probe.
pub trait Agents: Send + Sync {
    /// Address of a node's agent; `None` where it has none now.
    fn address(&self, node: &NodeName) -> Option<String>;

    /// Has a node's agent see how far targets are; the answers come in the same order.
    fn probe(
        &self,
        node: &NodeName,
        targets: &[String],
    ) -> impl Future<Output = Result<Vec<Probed>, FleetError>> + Send;
}

impl Prober for RealWorld {
    type Agents = Fleet;

    async fn find(&self, continuum: &Continuum) -> Result<Fleet, FleetError> {
        self.fleet(continuum).await
    }
}

impl Agents for Fleet {
    fn address(&self, node: &NodeName) -> Option<String> {
        Self::address(self, node).ok().map(str::to_owned)
    }

    async fn probe(&self, node: &NodeName, targets: &[String]) -> Result<Vec<Probed>, FleetError> {
        Self::probe(self, node, targets).await
    }
}

/// What came of one round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    /// The sites that there are.
    pub sites: BTreeSet<SiteName>,
    /// From a site to a user group and back.
    pub to_users: BTreeMap<(SiteName, UsersName), Millis>,
    /// From a site to another and back.
    pub to_sites: BTreeMap<(SiteName, SiteName), Millis>,
    /// Targets that did not answer, and agents that could not be asked: from which site, and why.
    pub failures: BTreeMap<(SiteName, &'static str), u64>,
}

/// What a target stands for.
#[derive(Debug, Clone)]
enum Goal {
    Site(SiteName),
    Users(UsersName),
}

/// Has agents probe every so often, for as long as it is polled.
pub async fn keep(
    prober: impl Prober,
    every: Millis,
    desk: Arc<Desk>,
    telemetry: Arc<Telemetry>,
    clock: impl Clock,
) {
    let every = every.to_duration().max(LEAST);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = BTreeSet::new();
    loop {
        ticks.tick().await;
        let continuum = desk.standing().continuum;
        let round = round(&prober, &continuum, &mut silent).await;
        // The next round puts others in its place; should it not come, what is known ends by itself.
        telemetry.probes.put(round, clock.now(), every * 2 + TO_ANSWER);
    }
}

/// One round. `silent` are the nodes whose agents did not answer the last time: others of their sites are asked first.
pub async fn round(prober: &impl Prober, continuum: &Continuum, silent: &mut BTreeSet<NodeName>) -> Round {
    let mut round = Round { sites: continuum.sites.keys().cloned().collect(), ..Round::default() };
    silent.retain(|node| continuum.nodes.contains_key(node));
    let agents = match timeout(TO_FIND, prober.find(continuum)).await {
        Ok(Ok(agents)) => agents,
        Ok(Err(error)) => return round.without_agents(&error.to_string()),
        Err(_) => return round.without_agents("they were not found in time"),
    };
    let chosen = chosen(continuum, &agents, silent);
    for site in continuum.sites.keys().filter(|site| !chosen.contains_key(site)) {
        round.fails(site, NO_AGENT, 1);
    }
    let asked = chosen.iter().flat_map(|(site, nodes)| {
        let goals = goals(continuum, &chosen, site);
        let agents = &agents;
        nodes.iter().map(move |(node, _)| {
            let goals = goals.clone();
            async move { (*site, *node, ask(agents, node, goals).await) }
        })
    });
    let answers: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
    for (site, node, answer) in answers {
        match answer {
            Ok(probed) => {
                silent.remove(node);
                probed.into_iter().for_each(|(goal, probed)| round.note(site, goal, probed));
            }
            Err(reason) => {
                tracing::debug!(%node, reason, "an agent can't be asked to probe");
                silent.insert(node.clone());
                round.fails(site, NO_AGENT, 1);
            }
        }
    }
    round
}

type Chosen<'a> = BTreeMap<&'a SiteName, Vec<(&'a NodeName, String)>>;

/// Some nodes of each site, with the addresses of their agents.
fn chosen<'a>(continuum: &'a Continuum, agents: &impl Agents, silent: &BTreeSet<NodeName>) -> Chosen<'a> {
    let mut chosen = Chosen::new();
    for (name, node) in &continuum.nodes {
        if let Some(address) = agents.address(name) {
            chosen.entry(&node.site).or_default().push((name, address));
        }
    }
    for nodes in chosen.values_mut() {
        nodes.sort_by_key(|(node, _)| silent.contains(*node));
        nodes.truncate(OF_A_SITE);
    }
    chosen
}

/// What is looked at from a site: the others, and where users are.
fn goals(continuum: &Continuum, chosen: &Chosen<'_>, from: &SiteName) -> Vec<(Goal, String)> {
    let others = chosen.iter().filter(|(site, _)| **site != from).flat_map(|(site, nodes)| {
        nodes.iter().map(|(_, address)| (Goal::Site((*site).clone()), address.clone()))
    });
    let users = continuum.users.iter().flat_map(|(name, users)| {
        users.probe.iter().map(|target| (Goal::Users(name.clone()), target.clone()))
    });
    others.chain(users).collect()
}

/// What one agent says of all that is looked at from its site.
async fn ask(
    agents: &impl Agents,
    node: &NodeName,
    goals: Vec<(Goal, String)>,
) -> Result<Vec<(Goal, Probed)>, String> {
    let mut all = Vec::with_capacity(goals.len());
    for some in goals.chunks(TARGETS) {
        let targets: Vec<String> = some.iter().map(|(_, target)| target.clone()).collect();
        let answer = timeout(TO_ANSWER, agents.probe(node, &targets)).await;
        let answer =
            answer.map_err(|_| "it did not answer in time".to_owned())?.map_err(|error| error.to_string())?;
        if answer.len() != targets.len() {
            return Err(format!("it has {} answers for {} targets", answer.len(), targets.len()));
        }
        all.extend(some.iter().map(|(goal, _)| goal.clone()).zip(answer));
    }
    Ok(all)
}

impl Round {
    fn without_agents(mut self, reason: &str) -> Self {
        tracing::warn!(reason, "agents can't be asked to probe");
        for site in self.sites.clone() {
            self.fails(&site, NO_AGENT, 1);
        }
        self
    }

    fn fails(&mut self, site: &SiteName, reason: &'static str, times: u64) {
        *self.failures.entry((site.clone(), reason)).or_default() += times;
    }

    fn note(&mut self, from: &SiteName, goal: Goal, probed: Probed) {
        let time = match probed {
            // What an agent says is believed within what it can have measured.
            Probed::RoundTrip(time) if time > Millis::ZERO && time <= Millis::from_duration(LIMIT) => time,
            Probed::RoundTrip(_) => return self.fails(from, NO_AGENT, 1),
            Probed::Unanswered(why) => return self.fails(from, why.name(), 1),
        };
        let least = match goal {
            Goal::Site(site) => self.to_sites.entry((from.clone(), site)).or_insert(time),
            Goal::Users(users) => self.to_users.entry((from.clone(), users)).or_insert(time),
        };
        *least = time.min(*least);
    }
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
