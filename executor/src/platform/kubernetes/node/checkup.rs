//! What keeps the nodes of a continuum from being found in their clusters, made there, or reached: asked, and nothing changed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use serde::Serialize;
use sterna_core::continuum::{Continuum, NodeName};

use super::ClusterError;
use super::cluster::PodNodes;
use super::condition::{Refusal, refusal};
use super::failure::Failure;
use super::manifest::{self, PodNode};
use super::place::{Place, places, pod_nodes};
use crate::identity::Credentials;
use crate::platform::kubernetes::access::lacking;
use crate::platform::kubernetes::rights::{Reach, events, node_rights, rights};
use crate::platform::kubernetes::{connection, lease};
use crate::platform::status::State;

/// What was found in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceCheck {
    /// The context that names the cluster; `None` for the current one.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing, and no mistake.
    pub notes: Vec<String>,
}

/// Clocks may differ by so much before it is worth a word: certificates and tokens hold from a moment on.
const CLOCKS_AGREE: Duration = Duration::from_secs(30);

/// Something wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The node that it is about; `None` where it is about all of the namespace.
    pub node: Option<NodeName>,
    /// What is wrong.
    pub finding: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// An error, whose first line is what is wrong.
    pub(in crate::platform::kubernetes) fn of(error: &ClusterError) -> Self {
        let text = error.to_string();
        let (finding, remedy) =
            text.split_once('\n').unwrap_or((&text, "Mend the kubeconfig, or `context` in the inventory."));
        Self { node: None, finding: finding.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Looks at every namespace that the inventory has nodes in. `image` is for nodes for which the inventory names none; `migrations` is
/// the namespace in which migrations are shown, where they are: what happens to a node is then told in its namespace too.
pub async fn check(
    continuum: &Continuum,
    credentials: Option<&Credentials>,
    image: &str,
    migrations: Option<&str>,
) -> Vec<PlaceCheck> {
    let clusters = PodNodes::of(continuum.nodes.values()).await;
    let mut all = Vec::new();
    for place in places(continuum) {
        let mut found = PlaceCheck {
            context: place.context.clone(),
            namespace: place.namespace.clone(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        let looked = async {
            look(&clusters, continuum, &place, credentials, image, &mut found).await?;
            match migrations {
                Some(migrations) => tells(&clusters, &place, migrations).await,
                None => Ok(None),
            }
        };
        match looked.await {
            Ok(untold) => found.problems.extend(untold),
            Err(error) => found.problems.push(Problem::of(&error)),
        }
        all.push(found);
    }
    all
}

async fn look(
    clusters: &PodNodes,
    continuum: &Continuum,
    place: &Place,
    credentials: Option<&Credentials>,
    image: &str,
    found: &mut PlaceCheck,
) -> Result<(), ClusterError> {
    let client = clusters.client(place)?;
    let rules = |reach| {
        node_rights(&place.namespace, reach, false, "sterna", &place.namespace).role.rules.unwrap_or_default()
    };
    let lacks = lacking(&client, place, &rules(Reach::Observe)).await?;
    if !lacks.is_empty() {
        found.problems.push(Problem {
            node: None,
            finding: format!("the kubeconfig's user may not {} in {place}", lacks.join(", ")),
            remedy: Refusal::Forbidden.remedy(place.context.as_deref(), &place.namespace),
        });
    }
    found.notes.extend(clock(&client).await.and_then(apart));
    let pods: Api<Pod> = clusters.api(place)?;
    let with = ListParams::default().labels(&manifest::selector(&continuum.name));
    if lacks.iter().any(|what| what == "list pods") || pods.list(&with).await.is_err() {
        return Ok(());
    }
    let unable = lacking(&client, place, &rules(Reach::Act)).await?;
    let here = |node: &PodNode<'_>| Place::of(node.place) == *place;
    let known = clusters.pods_in(&continuum.name, [place.clone()].into()).await;
    let has_pod = |name: &NodeName| known.values().flatten().any(|pods| pods.contains_key(name));
    for node in pod_nodes(continuum, image).filter(here).filter(|node| !has_pod(node.name)) {
        found.problems.push(match tried(&pods, &node, &unable).await {
            Some(failure) => {
                let told = failure.told(format!("pod {} can't be made in {place}", node.pod_name()), place);
                Problem { node: Some(node.name.clone()), ..Problem::of(&told) }
            }
            None => Problem {
                node: Some(node.name.clone()),
                finding: "its pod is not there".to_owned(),
                remedy: "`sterna sites up` makes it".to_owned(),
            },
        });
    }
    if let Some(credentials) = credentials {
        for status in clusters.status(continuum, credentials, image).await? {
            let ours = pod_nodes(continuum, image).filter(here).any(|node| *node.name == status.node);
            if !ours || !has_pod(&status.node) {
                continue;
            }
            let said = status.notes.join("; ");
            if status.state == State::Ready {
                found.notes.extend(status.notes.iter().map(|note| format!("{}: {note}", status.node)));
            } else {
                found.problems.push(Problem {
                    node: Some(status.node),
                    finding: said,
                    remedy: status.remedy.unwrap_or_default(),
                });
            }
        }
    }
    if !unable.is_empty() {
        found.notes.push(format!(
            "the kubeconfig's user may not {}: `sterna sites up` and `down` need that, nothing else does",
            unable.join(", ")
        ));
    }
    Ok(())
}

/// What keeps migrations from being told where the pods of nodes are.
async fn tells(
    clusters: &PodNodes,
    place: &Place,
    migrations: &str,
) -> Result<Option<Problem>, ClusterError> {
    let lacks = lacking(&clusters.client(place)?, place, &[events()]).await?;
    Ok((!lacks.is_empty()).then(|| Problem {
        node: None,
        finding: format!(
            "the kubeconfig's user may not {} in {place}: of migrations nothing is told at the pods of nodes",
            lacks.join(", ")
        ),
        remedy: format!(
            "`sterna rbac --migrations {migrations} --nodes {}` prints what it takes; whoever runs the cluster applies that.",
            place.namespace
        ),
    }))
}

/// What refuses a node's pod, were it made now; nothing is made. Not tried without the right to.
async fn tried(pods: &Api<Pod>, node: &PodNode<'_>, unable: &[String]) -> Option<Failure> {
    if unable.iter().any(|what| what == "create pods") {
        return None;
    }
    let parameters = PostParams { dry_run: true, field_manager: None };
    match pods.create(&parameters, &node.pod("sterna-doctor")).await {
        Ok(_) => None,
        // `sites up` makes both of these, or waits for them.
        Err(kube::Error::Api(status))
            if matches!(refusal(&status), Refusal::NoNamespace | Refusal::NoAccount) =>
        {
            None
        }
        Err(error) => Some(error.into()),
    }
}

/// What is wrong with the lease by which one of several schedulers leads.
pub async fn check_lease(
    kubeconfig: Option<&std::path::Path>,
    namespace: Option<&str>,
    lease: &str,
) -> Option<Problem> {
    let checked = async {
        let client = connection::client(kubeconfig)
            .await
            .map_err(|error| ClusterError::NoCluster(error.to_string()))?;
        let namespace = namespace.map_or_else(|| client.default_namespace().to_owned(), str::to_owned);
        let at = lease::Place { namespace: namespace.clone(), name: lease.to_owned() };
        let rules = rights(&at, "sterna").role.rules.unwrap_or_default();
        let place = Place { context: None, namespace };
        Ok::<_, ClusterError>((lacking(&client, &place, &rules).await?, at))
    };
    match checked.await {
        Ok((lacks, _)) if lacks.is_empty() => None,
        Ok((lacks, at)) => Some(Problem {
            node: None,
            finding: format!("no scheduler can lead by the lease {at}: it may not {}", lacks.join(", ")),
            remedy: format!(
                "`sterna rbac --namespace {} --lease {lease}` prints what it takes; whoever runs the cluster applies that.",
                at.namespace
            ),
        }),
        Err(error) => Some(Problem::of(&error)),
    }
}

/// How far the API server's clock is ahead of ours; `None` where it does not say.
async fn clock(client: &Client) -> Option<SignedDuration> {
    let request = axum::http::Request::get("/version").body(Body::empty()).ok()?;
    let answer = client.send(request).await.ok()?;
    let date = answer.headers().get("date")?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(theirs.duration_since(Timestamp::now()))
}

/// What is to be said of clocks that differ by so much.
fn apart(ahead: SignedDuration) -> Option<String> {
    let side = if ahead.is_negative() { "behind" } else { "ahead of" };
    (ahead.unsigned_abs() > CLOCKS_AGREE).then(|| {
        format!("the clock of the API server is {} s {side} this machine's", ahead.unsigned_abs().as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_by_much_are_told_and_by_which_side() {
        let said = |seconds| apart(SignedDuration::from_secs(seconds));
        assert_eq!(said(30), None);
        assert_eq!(said(-30), None);
        assert_eq!(said(95).as_deref(), Some("the clock of the API server is 95 s ahead of this machine's"));
        assert_eq!(said(-95).as_deref(), Some("the clock of the API server is 95 s behind this machine's"));
    }

    #[test]
    fn an_error_is_told_with_its_remedy() {
        let refused = ClusterError::Refused {
            doing: "looking for pods".to_owned(),
            said: "no".to_owned(),
            remedy: "Ask.".to_owned(),
        };
        let problem = Problem::of(&refused);
        assert_eq!((problem.finding.as_str(), problem.remedy.as_str()), ("looking for pods: no", "Ask."));
        assert!(Problem::of(&ClusterError::NoCluster("x".to_owned())).remedy.contains("kubeconfig"));
    }
}
