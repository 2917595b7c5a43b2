//! Reading and writing objects of a cluster.
//!
//! Whatever is written names the version that was looked at, so what somebody else has written meanwhile is looked at first.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use sterna_core::continuum::{Continuum, NodeName};
use thiserror::Error;

use super::occurrence::Occurrence;
use super::reconcile::Step;
use super::resource::Migration;
use crate::error_chain::chain;
use crate::platform::kubernetes::node::cluster::pods_of;

/// Who writes, as managed fields and events say.
const MANAGER: &str = "sterna";
/// What an event does, in a word.
const ACTION: &str = "Migrate";
/// How long events may take: nobody waits for them.
const TO_ANNOUNCE: Duration = Duration::from_secs(3);
/// The longest note of an event, in bytes.
const NOTE: usize = 1000;

/// Objects can't be read or written.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The cluster does not know their kind, or has no such namespace.
    #[error(
        "the cluster has no migrations in the namespace {namespace} ({message}): `sterna crd | kubectl apply -f -` makes them \
         known, `kubectl create namespace {namespace}` makes the namespace"
    )]
    Absent {
        /// The namespace.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// A right is missing.
    #[error(
        "Kubernetes does not let this scheduler {verb} migrations in the namespace {namespace}: {message}; `sterna rbac \
         --migrations {namespace}` prints what it needs"
    )]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// The namespace.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// It does not work otherwise.
    #[error("can't {verb} migrations in the namespace {namespace}: {reason}")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// The namespace.
        namespace: String,
        /// Why.
        reason: String,
    },
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Done,
    /// Somebody else was faster: it must be looked at again.
    Overtaken,
}

/// The objects, wherever they are.
pub trait Objects: Send + Sync {
    /// All that there are, also those of other continua.
    ///
    /// # Errors
    /// When they can't be read.
    fn list(&self) -> impl Future<Output = Result<Vec<Migration>, ObjectError>> + Send;

    /// Writes what a step says.
    ///
    /// # Errors
    /// When it can't be written; whether it was is seen at the next look.
    fn write(&self, step: &Step) -> impl Future<Output = Result<Written, ObjectError>> + Send;

    /// Tells what happened, on the object and on the nodes concerned.
    fn announce(
        &self,
        object: &Migration,
        happened: &[Occurrence],
        continuum: &Continuum,
    ) -> impl Future<Output = ()> + Send;
}

/// The objects of a namespace.
#[derive(Clone)]
pub struct Namespace {
    api: Api<Migration>,
    name: String,
    client: Client,
    reporter: Reporter,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Namespace {
    /// That of this name.
    pub fn new(client: Client, name: &str) -> Self {
        let api = Api::namespaced(client.clone(), name);
        Self { api, name: name.to_owned(), client, reporter: Reporter::from(MANAGER) }
    }

    fn failed(&self, verb: &'static str, error: kube::Error) -> ObjectError {
        let namespace = self.name.clone();
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                ObjectError::Forbidden { verb, namespace, message: status.message.clone() }
            }
            // Of a kind that it does not know, a server says no more than the number.
            kube::Error::Api(status) if status.code == 404 => {
                ObjectError::Absent { namespace, message: status.message.clone() }
            }
            error => ObjectError::Failed { verb, namespace, reason: chain(&error) },
        }
    }

    /// What came of writing an object that was there.
    fn written<T>(&self, verb: &'static str, result: Result<T, kube::Error>) -> Result<Written, ObjectError> {
        match result {
            Ok(_) => Ok(Written::Done),
            // Gone, or not as it was.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(Written::Overtaken)
            }
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    async fn publish(
        &self,
        client: &Client,
        event: &Event,
        on: &k8s_openapi::api::core::v1::ObjectReference,
    ) {
        let recorder = Recorder::new(client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(event, on).await {
            let (on, reason) = (on.name.as_deref().unwrap_or_default(), &event.reason);
            tracing::warn!(error = chain(&error), on, reason, "an event can't be written");
        }
    }
}

impl Objects for Namespace {
    async fn list(&self) -> Result<Vec<Migration>, ObjectError> {
        let found = self.api.list(&ListParams::default()).await;
        Ok(found.map_err(|error| self.failed("list", error))?.items)
    }

    async fn write(&self, step: &Step) -> Result<Written, ObjectError> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match step {
            Step::Create(object) => {
                let parameters =
                    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                match self.api.create(&parameters, object).await {
                    Ok(_) => Ok(Written::Done),
                    // An answer that was lost, most likely.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Written::Overtaken),
                    Err(error) => Err(self.failed("create", error)),
                }
            }
            Step::Tell { object, status, .. } => {
                let patch = Patch::Merge(json!({
                    "metadata": { "resourceVersion": object.metadata.resource_version },
                    "status": status,
                }));
                let told = self.api.patch_status(object.name(), &parameters, &patch).await;
                self.written("patch the status of", told)
            }
            Step::Hold { name, version, finalizers } => {
                let patch = Patch::Merge(json!({
                    "metadata": { "resourceVersion": version, "finalizers": finalizers },
                }));
                self.written("patch", self.api.patch(name, &parameters, &patch).await)
            }
            Step::Remove { name, uid } => {
                let that_one = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(that_one), ..DeleteParams::default() };
                self.written("delete", self.api.delete(name, &parameters).await)
            }
            Step::Cancel { .. } => Ok(Written::Done),
        }
    }

    async fn announce(&self, object: &Migration, happened: &[Occurrence], continuum: &Continuum) {
        let reference = object.object_ref(&());
        let all = async {
            for one in happened {
                self.publish(&self.client, &event(one, None), &reference).await;
            }
            if happened.is_empty() {
                return;
            }
            let ends = [&object.spec.from, &object.spec.to].map(|name| NodeName::from(name.as_str()));
            for (client, pod) in pods_of(continuum, &ends.each_ref()).await {
                for one in happened {
                    // Named with the migration, two of a pod are two and not one that happened twice.
                    let event = event(one, Some(reference.clone()));
                    self.publish(&client, &event, &Pod::object_ref(&pod, &())).await;
                }
            }
        };
        if tokio::time::timeout(TO_ANNOUNCE, all).await.is_err() {
            tracing::warn!(migration = object.name(), "its events are not all written: no answer in time");
        }
    }
}

fn event(one: &Occurrence, secondary: Option<k8s_openapi::api::core::v1::ObjectReference>) -> Event {
    Event {
        type_: if one.warns { EventType::Warning } else { EventType::Normal },
        reason: one.reason.to_owned(),
        note: Some(one.note[..one.note.floor_char_boundary(NOTE)].to_owned()),
        action: ACTION.to_owned(),
        secondary,
    }
}
