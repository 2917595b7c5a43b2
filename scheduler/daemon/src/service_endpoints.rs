//! Services of a Kubernetes cluster that lead straight to where services run, kept at what the agents say.
//!
//! Beside the loop, which never waits for it: a cluster that is away is told of a move when it is back, and until then its services
//! lead where they led. Level-triggered: each look reads all services and slices, and the next look is the retry. What an agent says
//! brings one at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sterna_core::continuum::{Continuum, ServiceName};
use sterna_executor::platform::kubernetes::service_endpoints::objects::{EndpointError, Seen, Slices};
use sterna_executor::platform::kubernetes::service_endpoints::reconcile::{names, reconcile};
use sterna_executor::traffic::hearing::{Hearing, Known};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::control::desk::Desk;

/// Between two looks where no agent says anything new: services of the cluster come and change without a word.
const LOOK: Duration = Duration::from_secs(3);
/// Looks at once, one after the other, until nothing is left to be written.
const LOOKS: usize = 6;

/// Keeps the slices of one continuum.
pub struct Keeper<S, L> {
    /// The namespaces.
    pub namespaces: Vec<S>,
    /// What is heard of where services are.
    pub hearing: Hearing,
    /// Whether this scheduler may write: one that does not lead may not.
    pub leads: L,
    /// What the loop saw last.
    pub desk: Arc<Desk>,
}

/// What was said of a namespace, so that it is said once.
#[derive(Debug, Default)]
struct Told {
    /// Why it could not be looked at, or written to.
    failed: Option<String>,
    /// What keeps services of the cluster from leading where they should.
    notes: BTreeSet<(String, String)>,
}

impl<S: Slices, L: Fn() -> bool + Send + Sync> Keeper<S, L> {
    /// Keeps them until `ended`. They stay as they are then.
    pub async fn keep(mut self, ended: oneshot::Receiver<()>) {
        let mut told: Vec<Told> = self.namespaces.iter().map(|_| Told::default()).collect();
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                _ = &mut ended => return,
                () = self.round(&mut told) => {}
            }
            tokio::select! {
                biased;
                _ = &mut ended => return,
                () = self.hearing.news() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Looks until nothing is left to be written, so often at most.
    async fn round(&mut self, told: &mut [Told]) {
        for _ in 0..LOOKS {
            if !self.look(told).await {
                return;
            }
        }
    }

    /// Whether something was written, or would have been if nobody had been faster: another look is due at once.
    async fn look(&mut self, told: &mut [Told]) -> bool {
        if !(self.leads)() {
            return false;
        }
        let continuum = self.desk.standing().continuum;
        let mut seen = Vec::new();
        for (namespace, told) in self.namespaces.iter().zip(&mut *told) {
            seen.push(told.unless_failed(namespace.name(), namespace.list(&continuum.name).await));
        }
        let named = seen.iter().flatten().flat_map(|seen| &seen.services);
        let named = named.filter_map(|service| names(service, &continuum.name));
        let named: BTreeSet<ServiceName> =
            named.filter(|name| continuum.services.contains_key(name)).collect();
        let mut listened = named.clone();
        if !seen.iter().all(Option::is_some) {
            // What can't be seen now may be named there still.
            listened.extend(self.hearing.services().iter().cloned());
        }
        self.hearing.listen(&continuum, listened).await;
        let known: BTreeMap<ServiceName, Known> =
            named.into_iter().map(|name| (name.clone(), self.hearing.of(&name))).collect();
        let mut again = false;
        for ((namespace, seen), told) in self.namespaces.iter().zip(&seen).zip(told) {
            let Some(seen) = seen else { continue };
            again |= self.write(namespace, seen, &continuum, &known, told).await;
        }
        again
    }

    async fn write(
        &self,
        namespace: &S,
        seen: &Seen,
        continuum: &Continuum,
        known: &BTreeMap<ServiceName, Known>,
        told: &mut Told,
    ) -> bool {
        let due = reconcile(&continuum.name, known, &seen.services, &seen.slices);
        told.notes(namespace.name(), due.notes);
        for step in &due.steps {
            // Another one may lead by now.
            if !(self.leads)() {
                return false;
            }
            if told.unless_failed(namespace.name(), namespace.write(step).await).is_none() {
                return false;
            }
        }
        if due.steps.is_empty() && told.failed.take().is_some() {
            tracing::info!(
                namespace = namespace.name(),
                "services in Kubernetes lead where they should again"
            );
        }
        !due.steps.is_empty()
    }
}

impl Told {
    /// What was asked for, or nothing and why, once.
    fn unless_failed<T>(&mut self, namespace: &str, result: Result<T, EndpointError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        };
        if self.failed.as_ref() != Some(&error) {
            tracing::warn!(
                error,
                namespace,
                "services in Kubernetes stay where they lead; what runs goes on"
            );
        }
        self.failed = Some(error);
        None
    }

    fn notes(&mut self, namespace: &str, notes: Vec<(String, String)>) {
        let notes: BTreeSet<_> = notes.into_iter().collect();
        for (service, why) in notes.difference(&self.notes) {
            tracing::warn!(
                namespace,
                service,
                why,
                "a service in Kubernetes does not lead where its label says"
            );
        }
        self.notes = notes;
    }
}

#[cfg(test)]
mod tests;
