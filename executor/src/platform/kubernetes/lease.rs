//! The Lease that says who leads. Read and written with its version, so of two who write at once one fails.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;

use super::election::{Candidate, Claim, Step};
use crate::error_chain::chain;

/// A clock that only goes forward; the time since some fixed moment.
pub type Steady = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The machine's clock that only goes forward.
pub fn steady() -> Steady {
    let zero = tokio::time::Instant::now();
    Arc::new(move || zero.elapsed())
}

/// Where a Lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The lease can't be read or written.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The server refuses it for want of a right.
    #[error(
        "Kubernetes does not let this scheduler {verb} the lease {place}: {message}; `sterna rbac` prints what it needs"
    )]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// The lease.
        place: Place,
        /// The server's words.
        message: String,
    },
    /// There is no answer in time.
    #[error("no answer in time about the lease {0}")]
    Silent(Place),
    /// It did not work otherwise.
    #[error("can't {verb} the lease {place}: {reason}")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// The lease.
        place: Place,
        /// Why.
        reason: String,
    },
}

/// How things stand after a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It leads.
    Leads,
    /// Another one does, as far as is known.
    Follows {
        /// Its name.
        leader: Option<String>,
    },
}

/// One that contends for the lease.
pub struct Contender {
    api: Api<Lease>,
    place: Place,
    candidate: Candidate,
    clock: Steady,
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("place", &self.place).field("candidate", &self.candidate).finish()
    }
}

impl Contender {
    /// One with that clock.
    pub fn new(client: Client, place: Place, candidate: Candidate, clock: Steady) -> Self {
        Self { api: Api::namespaced(client, &place.namespace), place, candidate, clock }
    }

    /// Where the lease is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The candidate.
    pub const fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Its clock.
    pub fn clock(&self) -> Steady {
        Arc::clone(&self.clock)
    }

    /// Looks at the lease, and takes or renews it where it may. A round that fails is followed by another one.
    ///
    /// # Errors
    /// When the lease can't be read or written. It leads on until its term ends.
    pub async fn round(&mut self) -> Result<Standing, LeaseError> {
        let found = self.api.get_opt(&self.place.name).await.map_err(|error| self.failed("get", error))?;
        let claim = found.as_ref().map(claim);
        let step = self.candidate.step(claim.as_ref(), (self.clock)());
        let asked = (self.clock)();
        let written = match (step, found) {
            (Step::Wait, _) => {
                return Ok(Standing::Follows { leader: claim.and_then(|claim| claim.holder) });
            }
            (Step::Create, _) | (_, None) => {
                let metadata = ObjectMeta { name: Some(self.place.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(LeaseSpec::default())) };
                self.api.create(&PostParams::default(), &lease).await.map_err(|error| ("create", error))
            }
            (Step::Take | Step::Renew, Some(mut lease)) => {
                lease.spec = Some(self.spec(lease.spec.unwrap_or_default()));
                self.replace(&lease).await
            }
        };
        match written {
            Ok(_) => {
                self.candidate.granted(asked);
                Ok(Standing::Leads)
            }
            // Somebody else was faster; the next round sees who.
            Err((_, kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Ok(Standing::Follows { leader: None })
            }
            Err((verb, error)) => Err(self.failed(verb, error)),
        }
    }

    /// Leads no more, and says so in the lease, so that another one need not wait for the end of the term.
    ///
    /// # Errors
    /// When the lease can't be read or written.
    pub async fn give_up(&mut self) -> Result<(), LeaseError> {
        // Before another one may know.
        self.candidate.stand_down();
        let found = self.api.get_opt(&self.place.name).await.map_err(|error| self.failed("get", error))?;
        let own = |lease: &Lease| claim(lease).holder.as_deref() == Some(self.candidate.identity());
        let Some(mut lease) = found.filter(own) else { return Ok(()) };
        let spec = lease.spec.take().unwrap_or_default();
        lease.spec = Some(LeaseSpec { holder_identity: None, ..spec });
        match self.replace(&lease).await {
            Ok(_) => Ok(()),
            Err((_, kube::Error::Api(status))) if status.is_conflict() => Ok(()),
            Err((verb, error)) => Err(self.failed(verb, error)),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, (&'static str, kube::Error)> {
        // With the version that was read; the server refuses it once there is another.
        let replaced = self.api.replace(&self.place.name, &PostParams::default(), lease).await;
        replaced.map_err(|error| ("update", error))
    }

    /// What the lease says when it is this one's.
    fn spec(&self, before: LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let own = before.holder_identity.as_deref() == Some(self.candidate.identity());
        // How often it has changed hands, the first time not counted.
        let transitions = match (&before.acquire_time, before.lease_transitions) {
            (None, transitions) => transitions.unwrap_or_default(),
            (Some(_), transitions) => transitions.unwrap_or_default().saturating_add(i32::from(!own)),
        };
        LeaseSpec {
            holder_identity: Some(self.candidate.identity().to_owned()),
            // Whole seconds; a part of one is another one for those who wait.
            lease_duration_seconds: i32::try_from(self.candidate.term().as_millis().div_ceil(1000)).ok(),
            acquire_time: before.acquire_time.filter(|_| own).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        }
    }

    fn failed(&self, verb: &'static str, error: kube::Error) -> LeaseError {
        let place = self.place.clone();
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                LeaseError::Forbidden { verb, place, message: status.message.clone() }
            }
            error => LeaseError::Failed { verb, place, reason: chain(&error) },
        }
    }
}

/// What a lease says.
fn claim(lease: &Lease) -> Claim {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    Claim {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        term: seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
