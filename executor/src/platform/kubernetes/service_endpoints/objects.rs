//! Reading services of a cluster and writing where they lead.
//!
//! Whatever is written names the version that was looked at, so what somebody else has written meanwhile is looked at first.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use thiserror::Error;

use super::reconcile::Step;
use super::slice::{MANAGED_BY, MANAGER};
use crate::error_chain::chain;
use crate::platform::kubernetes::migration_object::objects::Written;
use crate::platform::kubernetes::migration_object::resource::{CONTINUUM, SERVICE};

/// Who writes, as managed fields say.
const WRITER: &str = "sterna";

/// Services can't be read, or slices not written.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// A right is missing.
    #[error(
        "Kubernetes does not let this scheduler {verb} {resource} in the namespace {namespace}: {message}; `sterna rbac \
         --endpoints {namespace}` prints what it needs"
    )]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// With what.
        resource: &'static str,
        /// The namespace.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// It does not work otherwise.
    #[error("can't {verb} {resource} in the namespace {namespace}: {reason}")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// With what.
        resource: &'static str,
        /// The namespace.
        namespace: String,
        /// Why.
        reason: String,
    },
}

/// What there is in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The services that name one of an inventory.
    pub services: Vec<Service>,
    /// The slices that are kept for a continuum.
    pub slices: Vec<EndpointSlice>,
}

/// A namespace, wherever it is.
pub trait Slices: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// What there is.
    ///
    /// # Errors
    /// When it can't be read.
    fn list(&self, continuum: &str) -> impl Future<Output = Result<Seen, EndpointError>> + Send;

    /// Does what a step says.
    ///
    /// # Errors
    /// When it can't be done; whether it was is seen at the next look.
    fn write(&self, step: &Step) -> impl Future<Output = Result<Written, EndpointError>> + Send;
}

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Namespace {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    name: String,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Namespace {
    /// That of this name.
    pub fn new(client: Client, name: &str) -> Self {
        let (services, slices) = (Api::namespaced(client.clone(), name), Api::namespaced(client, name));
        Self { services, slices, name: name.to_owned() }
    }

    fn failed(&self, verb: &'static str, resource: &'static str, error: kube::Error) -> EndpointError {
        let namespace = self.name.clone();
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                EndpointError::Forbidden { verb, resource, namespace, message: status.message.clone() }
            }
            error => EndpointError::Failed { verb, resource, namespace, reason: chain(&error) },
        }
    }

    /// What came of writing a slice that was there, or was not.
    fn written<T>(
        &self,
        verb: &'static str,
        result: Result<T, kube::Error>,
    ) -> Result<Written, EndpointError> {
        match result {
            Ok(_) => Ok(Written::Done),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Written::Overtaken)
            }
            // Gone. Where there is no such namespace nothing can be made either, and that is to be told.
            Err(kube::Error::Api(status)) if status.is_not_found() && verb != "create" => {
                Ok(Written::Overtaken)
            }
            Err(error) => Err(self.failed(verb, "endpointslices", error)),
        }
    }
}

impl Slices for Namespace {
    fn name(&self) -> &str {
        &self.name
    }

    async fn list(&self, continuum: &str) -> Result<Seen, EndpointError> {
        let kept = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER},{CONTINUUM}={continuum}"));
        let naming = ListParams::default().labels(SERVICE);
        let services = self.services.list(&naming).await;
        let services = services.map_err(|error| self.failed("list", "services", error))?.items;
        let slices = self.slices.list(&kept).await;
        let slices = slices.map_err(|error| self.failed("list", "endpointslices", error))?.items;
        Ok(Seen { services, slices })
    }

    async fn write(&self, step: &Step) -> Result<Written, EndpointError> {
        let manager = || Some(WRITER.to_owned());
        match step {
            Step::Create(slice) => {
                let parameters = PostParams { field_manager: manager(), ..PostParams::default() };
                self.written("create", self.slices.create(&parameters, slice).await)
            }
            Step::Write { slice, version } => {
                let patch = Patch::Merge(json!({
                    "metadata": {
                        "resourceVersion": version,
                        "labels": slice.metadata.labels,
                        "ownerReferences": slice.metadata.owner_references,
                    },
                    "endpoints": slice.endpoints,
                    "ports": slice.ports,
                }));
                let parameters = PatchParams { field_manager: manager(), ..PatchParams::default() };
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                self.written("patch", self.slices.patch(name, &parameters, &patch).await)
            }
            Step::Remove { name, uid } => {
                let that_one = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(that_one), ..DeleteParams::default() };
                self.written("delete", self.slices.delete(name, &parameters).await)
            }
        }
    }
}
