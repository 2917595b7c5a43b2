//! Reading and writing what declared services are made of in a cluster.
//!
//! Whatever is written of an object names the version that was looked at, so what somebody else has written meanwhile is looked at
//! first.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use thiserror::Error;

use super::resource::{FINALIZER, MigratableService, MigratableServiceStatus};
use super::stand_in::{STANDS_FOR, Stand, digest};
use crate::error_chain::chain;
use crate::identity::Credentials;

/// Who writes, as managed fields and events say.
const MANAGER: &str = "sterna";
/// What an event does, in a word.
const ACTION: &str = "Serve";
/// How long events may take: nobody waits for them.
const TO_ANNOUNCE: Duration = Duration::from_secs(3);
/// The annotation of a stand-in with the digest of what it was told.
const TOLD: &str = "sterna.io/told";
/// The longest note of an event, in bytes.
const NOTE: usize = 1000;

/// What declared services are made of can't be read or written.
#[derive(Debug, Error)]
pub enum DeclarationError {
    /// The cluster does not know their kind, or has no such namespace.
    #[error(
        "the cluster has no migratable services in the namespace {namespace} ({message}): `sterna crd | kubectl apply -f -` makes \
         them known, `kubectl create namespace {namespace}` makes the namespace"
    )]
    Absent {
        /// The namespace.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// A right is missing.
    #[error(
        "Kubernetes does not let this scheduler {doing} in the namespace {namespace}: {message}; `sterna rbac --services {namespace}` \
         prints what it needs, and a quota or Pod Security may be in the way"
    )]
    Forbidden {
        /// What was tried.
        doing: String,
        /// The namespace.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// It does not work otherwise.
    #[error("can't {doing} in the namespace {namespace}: {reason}")]
    Failed {
        /// What was tried.
        doing: String,
        /// The namespace.
        namespace: String,
        /// Why.
        reason: String,
    },
}

/// The declared services of a namespace, and the pods that stand for them.
#[derive(Clone)]
pub struct Declarations {
    client: Client,
    namespace: String,
    reporter: Reporter,
}

impl std::fmt::Debug for Declarations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declarations").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Declarations {
    /// Those of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), reporter: Reporter::from(MANAGER) }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(kube::Error) -> DeclarationError {
        let (doing, namespace) = (doing.into(), self.namespace.clone());
        move |error| match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                DeclarationError::Forbidden { doing, namespace, message: status.message.clone() }
            }
            // Of a kind that it does not know, a server says no more than the number.
            kube::Error::Api(status) if status.code == 404 => {
                DeclarationError::Absent { namespace, message: status.message.clone() }
            }
            error => DeclarationError::Failed { doing, namespace, reason: chain(&error) },
        }
    }

    /// All objects, and all pods that stand for one.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list(&self) -> Result<(Vec<MigratableService>, Vec<Pod>), DeclarationError> {
        let objects = self.api::<MigratableService>().list(&ListParams::default()).await;
        let objects = objects.map_err(self.failed("list migratable services"))?.items;
        let pods = self.api::<Pod>().list(&ListParams::default().labels(STANDS_FOR)).await;
        Ok((objects, pods.map_err(self.failed("list pods"))?.items))
    }

    /// Keeps an object until its service is gone, or lets it go. Another one may have written it meanwhile: then nothing is done.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn keep(&self, object: &MigratableService, keep: bool) -> Result<(), DeclarationError> {
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|one| one != FINALIZER);
        if keep {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": { "resourceVersion": object.metadata.resource_version, "finalizers": finalizers },
        });
        let patched =
            self.api::<MigratableService>().patch(object.name(), &parameters(), &Patch::Merge(patch)).await;
        written(patched).map_err(self.failed("patch migratable services"))
    }

    /// Says something of an object, and tells in events what is new about that. As above, where another one was faster.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn tell(
        &self,
        object: &MigratableService,
        status: &MigratableServiceStatus,
    ) -> Result<(), DeclarationError> {
        let patch = json!({
            "metadata": { "resourceVersion": object.metadata.resource_version },
            "status": status,
        });
        let patched = self
            .api::<MigratableService>()
            .patch_status(object.name(), &parameters(), &Patch::Merge(patch))
            .await;
        let doing = "patch the status of migratable services";
        match patched {
            Ok(_) => self.announce(object, status).await,
            Err(error) => written::<()>(Err(error)).map_err(self.failed(doing))?,
        }
        Ok(())
    }

    /// Each condition that says another thing than before is an event.
    async fn announce(&self, object: &MigratableService, status: &MigratableServiceStatus) {
        let before = object.said();
        let same = |one: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            before.conditions.iter().any(|was| was.type_ == one.type_ && was.reason == one.reason)
        };
        let news: Vec<_> = status.conditions.iter().filter(|one| !same(one)).collect();
        let reference = object.object_ref(&());
        let all = async {
            for one in news {
                let warns = matches!(
                    one.reason.as_str(),
                    "Refused"
                        | "NotApplied"
                        | "NoPlace"
                        | "Exists"
                        | "Held"
                        | "Lost"
                        | "NoImage"
                        | "NotStarted"
                        | "NotMade"
                );
                let event = Event {
                    type_: if warns { EventType::Warning } else { EventType::Normal },
                    reason: one.reason.clone(),
                    note: Some(one.message[..one.message.floor_char_boundary(NOTE)].to_owned()),
                    action: ACTION.to_owned(),
                    secondary: None,
                };
                let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
                if let Err(error) = recorder.publish(&event, &reference).await {
                    tracing::warn!(error = chain(&error), on = object.name(), "an event can't be written");
                }
            }
        };
        if tokio::time::timeout(TO_ANNOUNCE, all).await.is_err() {
            tracing::warn!(on = object.name(), "its events are not all written: no answer in time");
        }
    }

    /// Writes what a stand-in is told, and that it was.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn tell_stand_in(&self, stand: &Stand<'_>) -> Result<(), DeclarationError> {
        let config = self.config(stand)?;
        let name = config.metadata.name.clone().unwrap_or_default();
        let applied = self.api::<ConfigMap>().patch(&name, &applying(), &Patch::Apply(&config)).await;
        applied.map_err(self.failed(format!("write the config map {name}")))?;
        // A kubelet looks at config maps every minute or so, and at once when the pod changes.
        let hint = json!({ "metadata": { "annotations": { TOLD: digest(&config) } } });
        let hinted = self.api::<Pod>().patch(&name, &parameters(), &Patch::Merge(hint)).await;
        written(hinted).map_err(self.failed(format!("patch the pod {name}")))?;
        let told = Patch::Merge(json!({ "status": { "told": digest(&config) } }));
        let patched =
            self.api::<MigratableService>().patch_status(stand.object.name(), &parameters(), &told).await;
        written(patched).map_err(self.failed("patch the status of migratable services"))
    }

    fn config(&self, stand: &Stand<'_>) -> Result<ConfigMap, DeclarationError> {
        stand.config().map_err(|error| DeclarationError::Failed {
            doing: "write the settings of a stand-in".to_owned(),
            namespace: self.namespace.clone(),
            reason: error.to_string(),
        })
    }

    /// Makes a stand-in, with what it is told and what it proves itself with.
    ///
    /// # Errors
    /// When something can't be made.
    pub async fn make_stand_in(
        &self,
        stand: &Stand<'_>,
        credentials: &Credentials,
    ) -> Result<(), DeclarationError> {
        self.tell_stand_in(stand).await?;
        let mut life = uuid::Uuid::now_v7().simple().to_string();
        let secret = format!("{}-{}", super::stand_in::name(stand.object.name()), life.split_off(20));
        let posting = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        // Before the pod, which would wait for it for ever if nobody came to make it.
        let made = self.api::<Secret>().create(&posting, &stand.secret(&secret, credentials)).await;
        made.map_err(self.failed(format!("make the secret {secret}")))?;
        let pod = stand.pod(&secret);
        let name = pod.metadata.name.clone().unwrap_or_default();
        match self.api::<Pod>().create(&posting, &pod).await {
            Ok(_) => Ok(()),
            // Another one was faster, or it has not gone yet.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(self.failed(format!("make the pod {name}"))(error)),
        }
    }

    /// Removes the pod of that name and UID; there need not be one.
    ///
    /// # Errors
    /// When it can't be removed.
    pub async fn remove_stand_in(&self, name: &str, uid: &str) -> Result<(), DeclarationError> {
        let that_one = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(that_one), ..DeleteParams::default() };
        let removed = self.api::<Pod>().delete(name, &parameters).await;
        written(removed).map_err(self.failed(format!("delete the pod {name}")))
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// What is applied is Sterna's alone.
fn applying() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// Gone, or not as it was: it is looked at again.
fn written<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
