//! Hearing where services are, for who serves no clients: as a front does, but for the gates. So an agent that is about to freeze a
//! service is answered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use sterna_core::continuum::{Continuum, ServiceName};
use tokio::sync::watch;

use crate::identity::Credentials;

use super::follow::{Agent, Believed, Desk};
use super::followers::Followers;
use super::place::Owned;
use super::roster::Roster;

/// An agent tells of so many services in one stream.
const SERVICES: usize = 64;

/// What was heard of where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Not enough to say anything: not all agents have been heard, and none that was has had it.
    Nothing,
    /// That nobody has it.
    Nowhere,
    /// That this node has it.
    At(Owned),
}

/// Listens to the agents of a continuum. Dropped, it does not any more.
pub struct Hearing {
    credentials: Credentials,
    services: BTreeSet<ServiceName>,
    streams: Vec<Streams>,
}

/// One stream of each agent.
struct Streams {
    services: BTreeSet<ServiceName>,
    desk: Arc<Desk>,
    followers: Followers<Agent>,
    changes: watch::Receiver<BTreeMap<ServiceName, Believed>>,
}

impl Hearing {
    /// As a front, by its certificate. Nobody is listened to yet.
    pub const fn new(credentials: Credentials) -> Self {
        Self { credentials, services: BTreeSet::new(), streams: Vec::new() }
    }

    /// Listens from now on to the agents of this continuum, for these services. Where those are others than before, everything is
    /// heard anew.
    pub async fn listen(&mut self, continuum: &Arc<Continuum>, services: BTreeSet<ServiceName>) {
        if self.services != services {
            let all: Vec<ServiceName> = services.iter().cloned().collect();
            let streams = |part: &[ServiceName]| {
                let none = part.iter().map(|service| (service.clone(), BTreeMap::new()));
                let desk = Desk::new(none, Duration::ZERO);
                let followers = Followers::of_agents(Arc::clone(&desk), self.credentials.clone());
                let changes = desk.believed();
                Streams { services: part.iter().cloned().collect(), desk, followers, changes }
            };
            self.streams = all.chunks(SERVICES).map(streams).collect();
            self.services = services;
        }
        let roster = Roster::Inventory(Arc::clone(continuum));
        for streams in &mut self.streams {
            streams.followers.follow(&roster).await;
        }
    }

    /// What is listened for.
    pub const fn services(&self) -> &BTreeSet<ServiceName> {
        &self.services
    }

    /// What was heard of a service.
    pub fn of(&self, service: &ServiceName) -> Known {
        let Some(streams) = self.streams.iter().find(|streams| streams.services.contains(service)) else {
            return Known::Nothing;
        };
        let believed = streams.changes.borrow().get(service).cloned().unwrap_or_default();
        match believed.owned {
            Some(owned) => Known::At(owned),
            None if streams.desk.has_had(service)
                || streams.desk.has_heard_all(streams.followers.nodes()) =>
            {
                Known::Nowhere
            }
            None => Known::Nothing,
        }
    }

    /// Done when anything was heard of any service that was not known before.
    pub async fn news(&mut self) {
        if self.streams.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.streams.iter_mut().map(|streams| Box::pin(streams.changes.changed()));
        // Each lives as long as what it is told by.
        let _ = select_all(changes).await;
    }
}
