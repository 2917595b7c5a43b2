//! What is wrong in the namespaces that `[kubernetes]` of the settings names: asked, and nothing changed.
//!
//! | module | what lives there |
//! |---|---|
//! | [`verdict`] | what is wrong with what was seen, and what to do: pure |
//! | `trial` | the pod of a service that nobody has declared, to see what would refuse it |

use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{ListParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde::Serialize;
use sterna_core::continuum::Continuum;

use super::access::lacking;
use super::connection;
use super::migration_object::resource::SERVICE;
use super::node::ClusterError;
use super::node::checkup::Problem;
use super::node::failure::Failure;
use super::node::place::Place;
use super::rights::{endpoint_rights, migration_rights, service_rights};

mod trial;
pub mod verdict;

#[cfg(test)]
mod tests;

/// Group and version of the kinds of objects that are Sterna's own.
const KINDS: &str = "sterna.io/v1alpha1";

/// What a namespace is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Migrations are shown there.
    Migrations,
    /// Services are declared there.
    Services,
    /// Services of the cluster there lead straight to where services run.
    Endpoints,
}

impl Purpose {
    /// What it takes there, as `sterna rbac` prints it.
    fn rules(self, namespace: &str) -> Vec<PolicyRule> {
        let (account, home) = ("sterna", namespace);
        let role = match self {
            Self::Migrations => migration_rights(namespace, account, home).role,
            Self::Services => service_rights(namespace, account, home).role,
            Self::Endpoints => endpoint_rights(namespace, account, home).role,
        };
        role.rules.unwrap_or_default()
    }
}

/// What was found in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamespaceCheck {
    /// What it is for.
    pub purpose: Purpose,
    /// The namespace.
    pub namespace: String,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing, and no mistake.
    pub notes: Vec<String>,
}

/// The image of pods that stand for services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether the settings name it; else it is that of nodes.
    pub is_given: bool,
}

/// A namespace as the settings name it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// Its name.
    pub namespace: &'a str,
    /// The image of pods that stand for services.
    pub image: Image<'a>,
    /// The continuum.
    pub continuum: &'a Continuum,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// Whether there is such a namespace; `None`: whoever asks may not know.
    pub is_there: Option<bool>,
    /// Names of the kinds of objects that the cluster has of Sterna's, as rights name them; `None`: whoever asks may not know.
    pub kinds: Option<Vec<String>>,
    /// Rights that are missing: verb and resource.
    pub lacks: Vec<String>,
    /// What refuses a stand-in, were one made now.
    pub refused: Option<Box<Status>>,
    /// The services of the cluster that name one of the inventory.
    pub services: Vec<Service>,
}

/// Looks at these namespaces of the cluster that a kubeconfig names, as `sterna run` finds it.
pub async fn check(kubeconfig: Option<&Path>, all: &[Asked<'_>]) -> Vec<NamespaceCheck> {
    let client =
        connection::client(kubeconfig).await.map_err(|error| ClusterError::NoCluster(error.to_string()));
    let mut found = Vec::new();
    for asked in all {
        let seen = match &client {
            Ok(client) => look(client, asked).await.map_err(|error| Problem::of(&error)),
            Err(error) => Err(Problem {
                remedy: "Mend the kubeconfig, or `kubeconfig` in `[kubernetes]` of the settings.".to_owned(),
                ..Problem::of(error)
            }),
        };
        match seen {
            Ok(seen) => found.push(verdict::of(asked, &seen)),
            Err(problem) => {
                let (purpose, namespace) = (asked.purpose, asked.namespace.to_owned());
                found.push(NamespaceCheck { purpose, namespace, problems: vec![problem], notes: Vec::new() });
                // Nor would it answer about the others.
                break;
            }
        }
    }
    found
}

async fn look(client: &Client, asked: &Asked<'_>) -> Result<Seen, ClusterError> {
    let place = Place { context: None, namespace: asked.namespace.to_owned() };
    let failed =
        |doing: &str, error: kube::Error| Failure::from(error).told(format!("{doing} {place}"), &place);
    let mut seen = Seen {
        is_there: known(Api::<Namespace>::all(client.clone()).get(asked.namespace).await)
            .map_err(|error| failed("looking for", error))?
            .map(|there| there.is_some()),
        ..Seen::default()
    };
    if asked.purpose != Purpose::Endpoints {
        let kinds = known(client.list_api_group_resources(KINDS).await);
        let kinds = kinds.map_err(|error| failed("asking for kinds of objects, for", error))?;
        let names = |kinds: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList| {
            kinds.resources.into_iter().map(|kind| kind.name).collect()
        };
        seen.kinds = kinds.map(|kinds| kinds.map(names).unwrap_or_default());
    }
    if seen.is_there == Some(false) {
        return Ok(seen);
    }
    seen.lacks = lacking(client, &place, &asked.purpose.rules(asked.namespace)).await?;
    let may = |what: &str| !seen.lacks.iter().any(|lacks| lacks == what);
    match asked.purpose {
        Purpose::Services if may("create pods") => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), asked.namespace);
            let Some(pod) = trial::pod(asked.namespace, asked.image.name) else { return Ok(seen) };
            let parameters = PostParams { dry_run: true, field_manager: None };
            match pods.create(&parameters, &pod).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) => seen.refused = Some(status),
                Err(error) => return Err(failed("trying a stand-in in", error)),
            }
        }
        Purpose::Endpoints if may("list services") => {
            let services: Api<Service> = Api::namespaced(client.clone(), asked.namespace);
            let listed = services.list(&ListParams::default().labels(SERVICE)).await;
            seen.services = listed.map_err(|error| failed("listing services in", error))?.items;
        }
        Purpose::Migrations | Purpose::Services | Purpose::Endpoints => {}
    }
    Ok(seen)
}

/// What there is, `Some(None)` where there is nothing, `None` where whoever asks may not know.
fn known<T>(answer: Result<T, kube::Error>) -> Result<Option<Option<T>>, kube::Error> {
    match answer {
        Ok(there) => Ok(Some(Some(there))),
        // Of a group that it does not know, a server says no more than the number.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(None)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}
