//! Nodes that are pods, against a real API server without nodes of its own: what is made, what is told when the cluster refuses or
//! a pod does not come up, and which rights that takes. The tests say what a kubelet would.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use sterna_e2e::cluster::Cluster;
use sterna_e2e::process::{Finished, Running};
use sterna_e2e::sterna::Sterna;
use sterna_executor::platform::kubernetes::connection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);
const IMAGE_ABSENT: &str = "Container image \"sterna-node:1\" is not present with pull policy of Never";

/// An API server, a namespace of its own for the nodes of one test, and a continuum of one node there.
struct Ground {
    cluster: Cluster,
    client: Client,
    namespace: String,
    sterna: Sterna,
    folder: TempDir,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::up().await?;
        let client = connection::client(Some(cluster.kubeconfig())).await?;
        let namespace = format!("sterna-e2e-{}", fastrand::u32(..));
        let folder = tempfile::tempdir()?;
        let ground = Self { cluster, client, namespace, sterna: Sterna::built()?, folder };
        ground.inventory("storage = \"1GiB\"")?;
        Ok(ground)
    }

    /// Writes the inventory; `place` is what it says of the pod's place on top of its namespace.
    fn inventory(&self, place: &str) -> anyhow::Result<()> {
        let text = format!(
            "schema_version = 1\nname = \"e2e-pods\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
             price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n[[site.node]]\nname = \"n1\"\n\
             cpu = \"1\"\nmemory = \"1GiB\"\nkubernetes = {{ namespace = \"{}\", {place} }}\n",
            self.namespace
        );
        Ok(std::fs::write(self.folder.path().join("inventory.toml"), text)?)
    }

    async fn sites(&self, what: &[&str], kubeconfig: &str) -> anyhow::Result<Finished> {
        self.sites_while(what, kubeconfig, &Value::Null).await
    }

    /// Runs a command while a kubelet that is not there says this of each pod of which it said nothing yet, and a controller that is
    /// not there either lets claims go.
    async fn sites_while(&self, what: &[&str], kubeconfig: &str, status: &Value) -> anyhow::Result<Finished> {
        let arguments = [&["sites"], what, &["inventory.toml", "--state", "state"]].concat();
        let environment = [("KUBECONFIG", kubeconfig)];
        tokio::select! {
            ended = self.sterna.run_in(self.folder.path(), &environment, &arguments) => ended,
            failed = self.act(status) => failed,
        }
    }

    /// Acts as kubelet and controller for ever.
    async fn act(&self, status: &Value) -> anyhow::Result<Finished> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            for pod in self.pods().list(&ListParams::default()).await? {
                let told = pod.status.is_some_and(|status| {
                    status.container_statuses.is_some() || status.phase.as_deref() == Some("Failed")
                });
                if !told && !status.is_null() {
                    let name = pod.metadata.name.context("a pod without a name")?;
                    let patch = Patch::Merge(json!({ "status": status }));
                    if_there(self.pods().patch_status(&name, &PatchParams::default(), &patch).await)?;
                }
            }
            for claim in claims.list(&ListParams::default()).await? {
                if claim.metadata.deletion_timestamp.is_some() {
                    let name = claim.metadata.name.context("a claim without a name")?;
                    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
                    if_there(claims.patch(&name, &PatchParams::default(), &patch).await)?;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// As the administrator.
    async fn administer(&self, what: &[&str]) -> anyhow::Result<Finished> {
        self.sites(what, &self.cluster.kubeconfig().display().to_string()).await
    }

    async fn namespace(&self, labels: Value) -> anyhow::Result<()> {
        let metadata = json!({ "metadata": { "name": self.namespace, "labels": labels } });
        let namespace = Namespace::deserialize(metadata)?;
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Of pods, secrets and claims how many there are.
    async fn left(&self) -> anyhow::Result<[usize; 3]> {
        let all = ListParams::default();
        let (client, namespace) = (&self.client, &self.namespace);
        Ok([
            self.pods().list(&all).await?.items.len(),
            Api::<Secret>::namespaced(client.clone(), namespace).list(&all).await?.items.len(),
            Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace).list(&all).await?.items.len(),
        ])
    }

    /// A kubeconfig file with the token of an account of the namespace.
    async fn of_account(&self, account: &str) -> anyhow::Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &asked).await?;
        let token = answer.status.context("no token")?.token;
        let mut file = Kubeconfig::read_from(self.cluster.kubeconfig())?;
        for user in &mut file.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({ "token": token }))?);
        }
        let path: PathBuf = self.folder.path().join(format!("{account}.json"));
        std::fs::write(&path, serde_json::to_string(&file)?)?;
        Ok(path.display().to_string())
    }

    async fn down(self) -> anyhow::Result<()> {
        let all = Api::<Namespace>::all(self.client);
        all.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// It may be gone again.
fn if_there<K>(answer: kube::Result<K>) -> anyhow::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}

/// What a kubelet says of a container that waits.
fn waiting(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "containerStatuses": [{
        "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": message } } }] })
}

fn says(finished: &Finished, words: &[&str]) -> anyhow::Result<()> {
    ensure!(!finished.status.success(), "it did not fail: {}", finished.stdout);
    for word in words {
        ensure!(finished.stderr.contains(word), "`{word}` is not said:\n{}", finished.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_without_its_image_is_told_at_once_and_nothing_is_left() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let admin = ground.cluster.kubeconfig().display().to_string();
    let began = Instant::now();
    let finished = ground.sites_while(&["up"], &admin, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
    says(&finished, &[IMAGE_ABSENT, "sterna sites image --out", "ctr -n k8s.io images import"])?;
    ensure!(began.elapsed() < SOON, "only after {:?}", began.elapsed());
    ensure!(ground.left().await? == [0, 0, 0], "{:?} are left", ground.left().await?);
    // Made with the label that Pod Security asks for.
    let namespace = Api::<Namespace>::all(ground.client.clone()).get(&ground.namespace).await?;
    let labels = namespace.metadata.labels.context("it has no labels")?;
    ensure!(labels["pod-security.kubernetes.io/enforce"] == "privileged", "{labels:?}");
    ground.down().await
}

#[tokio::test]
async fn each_refusal_is_told_with_what_to_do() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let namespace = &ground.namespace;

    ground.namespace(json!({ "pod-security.kubernetes.io/enforce": "baseline" })).await?;
    let finished = ground.administer(&["up"]).await?;
    let label = format!("kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged");
    says(&finished, &["violates PodSecurity \"baseline", &label])?;
    ensure!(ground.left().await? == [0, 0, 0], "{:?} are left", ground.left().await?);

    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "privileged" } } });
    let all = Api::<Namespace>::all(ground.client.clone());
    all.patch(namespace, &PatchParams::default(), &Patch::Merge(labels)).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(ground.client.clone(), namespace);
    let hard = json!({ "requests.cpu": "500m" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "requests.cpu": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    let mut finished = ground.administer(&["up"]).await?;
    let began = Instant::now();
    // The server hears of a quota a moment later.
    while !finished.stderr.contains("exceeded quota") && began.elapsed() < SOON {
        finished = ground.administer(&["up"]).await?;
    }
    says(&finished, &["exceeded quota: small", &format!("kubectl -n {namespace} describe quota")])?;
    ensure!(ground.left().await? == [0, 0, 0], "{:?} are left", ground.left().await?);

    let metadata = ObjectMeta { name: Some("nobody".to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    Api::namespaced(ground.client.clone(), namespace).create(&PostParams::default(), &account).await?;
    let nobody = ground.of_account("nobody").await?;
    let rbac = format!("sterna rbac --nodes {namespace} --mode act");
    says(&ground.sites(&["up"], &nobody).await?, &["cannot list resource \"pods\"", &rbac])?;
    says(&ground.sites(&["down"], &nobody).await?, &["cannot list resource \"pods\"", &rbac])?;

    // In `status` it is the node that is unknown, and the reason is told.
    let finished = ground.sites(&["status", "--output", "json"], &nobody).await?;
    let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(nodes[0]["state"] == "unknown" && nodes[0]["platform"] == "kubernetes", "{nodes}");
    let remedy = nodes[0]["remedy"].as_str().context("no remedy")?;
    ensure!(remedy.contains("cannot list resource \"pods\"") && remedy.contains(&rbac), "{remedy}");

    // A cluster that is not there.
    let text = std::fs::read_to_string(ground.cluster.kubeconfig())?;
    let away: String = text.lines().map(|line| format!("{}\n", moved(line))).collect();
    let path = ground.folder.path().join("away");
    std::fs::write(&path, away)?;
    let away = path.display().to_string();
    says(&ground.sites(&["up"], &away).await?, &["the API server does not answer", "kubectl cluster-info"])?;
    let finished = ground.sites(&["status", "--output", "json"], &away).await?;
    let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(nodes[0]["state"] == "unknown", "{nodes}");
    says(&ground.sites(&["up"], "/nowhere").await?, &["nothing says where the Kubernetes API server is"])?;
    ground.inventory("context = \"elsewhere\"")?;
    says(&ground.administer(&["up"]).await?, &["can't use the context `elsewhere`"])?;
    ground.down().await
}

/// The server of a kubeconfig's line at a port that nobody listens on.
fn moved(line: &str) -> String {
    match line.split_once("https://127.0.0.1:") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}https://127.0.0.1:1{rest}")
        }
        None => line.to_owned(),
    }
}

#[tokio::test]
async fn status_shows_each_pod_as_it_is() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    ground.namespace(json!({})).await?;
    let look = async || -> anyhow::Result<Value> {
        let finished = ground.administer(&["status", "--output", "json"]).await?;
        let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
        let nodes = nodes.as_array().context("no list")?;
        let pods: Vec<&Value> = nodes.iter().filter(|node| node["platform"] == "kubernetes").collect();
        let [node] = pods[..] else { bail!("{nodes:?}") };
        ensure!(finished.status.code() == Some(2), "{}", finished.status);
        Ok(node.clone())
    };
    ensure!(look().await?["state"] == "missing");

    let pod = json!({
        "metadata": { "name": "sterna-e2e-pods-n1", "labels": { "sterna.continuum": "e2e-pods", "sterna.node": "n1" } },
        "spec": { "containers": [{ "name": "node", "image": "i" }] },
    });
    let pod = Pod::deserialize(pod)?;
    ground.pods().create(&PostParams::default(), &pod).await?;
    let scheduled = |status: &str, message: &str| {
        json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message }] })
    };
    let evicted =
        json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource" });
    for (status, state, said) in [
        (scheduled("False", "0/2 nodes are available: 2 Insufficient cpu."), "stuck", "2 Insufficient cpu"),
        (scheduled("True", ""), "starting", ""),
        (waiting("ErrImageNeverPull", IMAGE_ABSENT), "stuck", IMAGE_ABSENT),
        (waiting("ImagePullBackOff", "no such host"), "stuck", "no such host"),
        (evicted, "stopped", "low on resource"),
    ] {
        let patch = Patch::Merge(json!({ "status": status }));
        ground.pods().patch_status("sterna-e2e-pods-n1", &PatchParams::default(), &patch).await?;
        let node = look().await?;
        ensure!(node["state"] == state, "{status}: {node}");
        ensure!(node["notes"].to_string().contains(&said.replace('"', "\\\"")), "{status}: {node}");
        ensure!(node["remedy"].is_string(), "{status}: {node}");
    }

    // One that has ended is made anew.
    let admin = ground.cluster.kubeconfig().display().to_string();
    let up = ground.sites_while(&["up"], &admin, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
    says(&up, &["has ended", "low on resource", "made anew", IMAGE_ABSENT])?;

    // What goes by a pod's name and is not one of ours is left alone.
    ground.administer(&["down"]).await?;
    ensure!(ground.left().await? == [0, 0, 0], "{:?} are left", ground.left().await?);
    let mut foreign = pod;
    foreign.metadata.labels = None;
    ground.pods().create(&PostParams::default(), &foreign).await?;
    says(&ground.administer(&["up"]).await?, &["another pod is named sterna-e2e-pods-n1"])?;
    ground.administer(&["down"]).await?;
    ensure!(ground.left().await? == [1, 0, 0], "{:?} are left", ground.left().await?);
    ground.down().await
}

#[tokio::test]
async fn what_is_made_is_gone_again_when_the_caller_asks_to_stop() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let mut command = ground.sterna.command();
    command.current_dir(ground.folder.path()).args(["sites", "up", "inventory.toml", "--state", "state"]);
    command.env("KUBECONFIG", ground.cluster.kubeconfig()).stderr(std::process::Stdio::null());
    let mut running = Running::start(&mut command)?;
    let all_made = async || Ok(ground.left().await? == [1, 1, 1]);
    let made_and_asked = async {
        eventually(all_made).await.context("it makes nothing")?;
        running.ask_to_end();
        let ended = timeout(SOON, running.child().wait()).await.context("it does not end")??;
        ensure!(ended.code() == Some(1), "{ended}");
        Ok(())
    };
    tokio::select! {
        done = made_and_asked => done?,
        failed = ground.act(&Value::Null) => drop(failed?),
    }
    ensure!(ground.left().await? == [0, 0, 0], "{:?} are left", ground.left().await?);
    ground.down().await
}

/// Waits until it is so.
async fn eventually(what: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !what().await? {
        ensure!(start.elapsed() < SOON, "not within {SOON:?}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let namespace = ground.namespace.clone();
    let rbac =
        ["rbac", "--namespace", &namespace, "--account", "maker", "--nodes", &namespace, "--mode", "act"];
    let printed = ground.sterna.must(&rbac).await?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&printed)?;
    let [account, _, _, made, role, binding] = &documents[..] else { bail!("six objects:\n{printed}") };
    ensure!(made["kind"] == "Namespace", "{made}");
    let creates = PostParams::default();
    Api::all(ground.client.clone()).create(&creates, &Namespace::deserialize(made)?).await?;
    let client = || ground.client.clone();
    Api::namespaced(client(), &namespace).create(&creates, &ServiceAccount::deserialize(account)?).await?;
    let roles: Api<Role> = Api::namespaced(client(), &namespace);
    let role = roles.create(&creates, &Role::deserialize(role)?).await?;
    Api::namespaced(client(), &namespace).create(&creates, &RoleBinding::deserialize(binding)?).await?;
    let maker = ground.of_account("maker").await?;
    let name = role.metadata.name.clone().context("the role has no name")?;

    // What is refused, of all that `up`, its undoing and `down` do; `None` when nothing is.
    let refused = async || -> anyhow::Result<Option<String>> {
        let up = ground.sites_while(&["up"], &maker, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
        let down = ground.sites(&["down"], &maker).await?;
        let all = up.stderr + &down.stderr;
        let cannot = all.split(" cannot ").nth(1).map(|rest| rest.chars().take(60).collect());
        ensure!(cannot.is_some() || all.contains(IMAGE_ABSENT), "{all}");
        ground.administer(&["down"]).await?;
        // `down` finds secrets by their pods, and no controller is here that removes those of pods that are gone.
        let secrets: Api<Secret> = Api::namespaced(client(), &namespace);
        secrets.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        Ok(cannot)
    };
    eventually(async || Ok(refused().await?.is_none())).await.context("the rights do not suffice")?;

    let rules = role.rules.context("the role allows nothing")?;
    let with = |rules: &[PolicyRule]| Patch::Merge(json!({ "rules": rules }));
    let mut verbs = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let resource = rule.resources.iter().flatten().next().context("a rule for nothing")?;
        // `sterna run` alone watches; that it needs to is seen where pods end.
        for removed in rule.verbs.iter().filter(|verb| *verb != "watch") {
            let mut fewer = rules.clone();
            fewer[number].verbs.retain(|verb| verb != removed);
            fewer.retain(|rule| !rule.verbs.is_empty());
            roles.patch(&name, &PatchParams::default(), &with(&fewer)).await?;
            let expected = format!("{removed} resource \"{resource}\"");
            let missed = async || Ok(refused().await?.is_some_and(|cannot| cannot.starts_with(&expected)));
            eventually(missed).await.with_context(|| format!("{removed} {resource} is not needed"))?;
            roles.patch(&name, &PatchParams::default(), &with(&rules)).await?;
            let works = async || Ok(refused().await?.is_none());
            eventually(works).await.with_context(|| format!("{expected} is given back and does not help"))?;
            verbs.push(expected);
        }
    }
    ensure!(verbs.len() == 8, "{verbs:?}");

    // Those who only look need less, and can't do more.
    let observe = ground
        .sterna
        .must(&["rbac", "--namespace", &namespace, "--account", "maker", "--nodes", &namespace])
        .await?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&observe)?;
    let [_, _, _, role, _] = &documents[..] else { bail!("five objects:\n{observe}") };
    let fewer = Role::deserialize(role)?.rules.context("it allows nothing")?;
    roles.patch(&name, &PatchParams::default(), &with(&fewer)).await?;
    let looks_only = async || {
        let up = ground.sites(&["up"], &maker).await?;
        ground.administer(&["down"]).await?;
        Ok(up.stderr.contains(" cannot create resource "))
    };
    eventually(looks_only).await.context("those who only look can do more")?;
    let finished = ground.sites(&["status", "--output", "json"], &maker).await?;
    let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(nodes[0]["state"] == "missing", "{nodes}");
    ground.down().await
}
