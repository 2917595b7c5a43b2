//! What is wrong with what was seen of a namespace, and what to do.

use k8s_openapi::api::core::v1::Service;
use kube::core::Status;
use sterna_core::continuum::Continuum;

use super::{Asked, Image, NamespaceCheck, Purpose, Seen};
use crate::platform::kubernetes::node::checkup::Problem;
use crate::platform::kubernetes::node::condition::{Refusal, refusal};
use crate::platform::kubernetes::service_endpoints::reconcile::{misfit, names, unknown};

impl Purpose {
    /// As `sterna rbac` and the settings call it.
    const fn word(self) -> &'static str {
        match self {
            Self::Migrations => "migrations",
            Self::Services => "services",
            Self::Endpoints => "endpoints",
        }
    }

    /// The kind of objects that it takes: as people know it, and as rights name it.
    const fn kind(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Migrations => Some(("Migration", "migrations")),
            Self::Services => Some(("MigratableService", "migratableservices")),
            Self::Endpoints => None,
        }
    }

    /// What happens there.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Migrations => "where migrations are shown",
            Self::Services => "where services are declared",
            Self::Endpoints => "where services lead straight to nodes",
        }
    }
}

/// What is to be said of a namespace.
pub fn of(asked: &Asked<'_>, seen: &Seen) -> NamespaceCheck {
    let namespace = asked.namespace;
    let mut problems = Vec::new();
    if seen.is_there == Some(false) {
        problems.push(problem(
            "there is no such namespace",
            format!(
                "`kubectl create namespace {namespace}` makes it; or name another as `{}` in `[kubernetes]` of the settings.",
                asked.purpose.word()
            ),
        ));
    }
    problems.extend(unknown_kind(asked.purpose, seen));
    problems.extend(lacking(asked, seen));
    problems.extend(seen.refused.as_deref().map(|status| refused(namespace, status)));
    problems.extend(seen.services.iter().filter_map(|service| astray(namespace, service, asked.continuum)));
    let mut notes = Vec::new();
    match asked.purpose {
        Purpose::Services => notes.push(pictured(asked.image)),
        Purpose::Endpoints if problems.is_empty() => notes.extend(nothing_leads(asked, seen)),
        Purpose::Migrations | Purpose::Endpoints => {}
    }
    NamespaceCheck { purpose: asked.purpose, namespace: namespace.to_owned(), problems, notes }
}

fn problem(finding: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { node: None, finding: finding.into(), remedy: remedy.into() }
}

fn unknown_kind(purpose: Purpose, seen: &Seen) -> Option<Problem> {
    let (kind, resource) = purpose.kind()?;
    let kinds = seen.kinds.as_ref()?;
    (!kinds.iter().any(|name| name == resource)).then(|| {
        problem(
            format!("the cluster does not know objects of the kind {kind}"),
            format!("`sterna crd {} | kubectl apply -f -` makes them known.", purpose.word()),
        )
    })
}

fn lacking(asked: &Asked<'_>, seen: &Seen) -> Option<Problem> {
    let (namespace, word) = (asked.namespace, asked.purpose.word());
    let perhaps = match seen.is_there {
        None => " Is there such a namespace? That it may not ask.",
        Some(_) => "",
    };
    (!seen.lacks.is_empty()).then(|| {
        problem(
            format!("the kubeconfig's user may not {} in namespace {namespace}", seen.lacks.join(", ")),
            format!(
                "`sterna rbac --{word} {namespace}` prints what it takes; whoever runs the cluster applies that.{perhaps}"
            ),
        )
    })
}

/// Stand-ins need no privilege, so what helps nodes does not help them.
fn refused(namespace: &str, status: &Status) -> Problem {
    let remedy = match refusal(status) {
        Refusal::PodSecurity => format!(
            "A stand-in keeps to `restricted` as it is now. Is an older version enforced? `kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce-version=latest --overwrite` sets that."
        ),
        Refusal::Quota => format!(
            "`kubectl -n {namespace} describe quota` shows what is used. Raise it: each service that is declared takes one pod. \
             Where it wants a limit that is not said, a limit range may give a default."
        ),
        Refusal::LimitRange => format!(
            "`kubectl -n {namespace} describe limitrange` shows the bounds. They must let a pod through that asks for as little as \
             a stand-in, or `services` in `[kubernetes]` of the settings names another namespace."
        ),
        Refusal::Webhook => {
            "Ask whoever runs the cluster to let stand-ins through there: they need no privilege.".to_owned()
        }
        Refusal::NoNamespace => format!("`kubectl create namespace {namespace}` makes it."),
        Refusal::Forbidden => "Ask whoever runs the cluster what forbids it there.".to_owned(),
        Refusal::Exists => return known_name(namespace),
        // The same for any pod.
        other @ (Refusal::NoPrivilege
        | Refusal::Terminating
        | Refusal::NoAccount
        | Refusal::Unauthorized
        | Refusal::Other) => other.remedy(None, namespace),
    };
    problem(format!("the namespace takes no stand-in: {}", status.message), remedy)
}

fn known_name(namespace: &str) -> Problem {
    problem(
        "a stand-in can't be tried: its name is taken",
        format!("`kubectl -n {namespace} get pods sterna-doctor-stand-in` shows by what."),
    )
}

/// A service of the cluster that leads nowhere, or elsewhere.
fn astray(namespace: &str, service: &Service, continuum: &Continuum) -> Option<Problem> {
    let named = names(service, &continuum.name)?;
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let kubectl = format!("kubectl -n {namespace}");
    let finding = |why: &str| format!("service {name}: {why}");
    if let Some(why) = misfit(service) {
        let remedy = format!(
            "`{kubectl} edit service {name}` changes that; `{kubectl} label service {name} sterna.io/service-` has it left alone."
        );
        return Some(problem(finding(why), remedy));
    }
    (!continuum.services.contains_key(&named)).then(|| {
        let remedy = format!(
            "`{kubectl} label --overwrite service {name} sterna.io/service=NAME` names another one; `sterna status` shows those that \
             there are."
        );
        problem(finding(&unknown(&named)), remedy)
    })
}

fn nothing_leads(asked: &Asked<'_>, seen: &Seen) -> Option<String> {
    let ours = |service: &Service| names(service, &asked.continuum.name).is_some();
    (!seen.services.iter().any(ours)).then(|| "no service there has the label `sterna.io/service`".to_owned())
}

fn pictured(image: Image<'_>) -> String {
    let name = image.name;
    if image.is_given {
        format!("stand-ins have the image {name}, as the settings say")
    } else {
        format!(
            "stand-ins have the image of nodes, {name}, which is in no registry: it must be loaded on each node of the cluster that \
             they may be on (`sterna sites image`), or `stand_in_image` in the settings names another"
        )
    }
}
