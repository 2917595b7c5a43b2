//! Nodes that are pods, against a real API server without nodes of its own: what is made, what is told when the cluster refuses or
//! a pod does not come up, and which rights that takes. The tests say what a kubelet would.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use sterna_e2e::process::{Finished, Running};
use sterna_e2e::rights::{Rights, cannot};
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);
const IMAGE_ABSENT: &str = "Container image \"sterna-node:1\" is not present with pull policy of Never";

/// An API server, the name of a namespace there for the nodes of one test, and a continuum of one node in it.
async fn raised() -> anyhow::Result<Ground> {
    let ground = Ground::unmade().await?;
    inventory(&ground, "storage = \"1GiB\"")?;
    Ok(ground)
}

/// Writes the inventory; `place` is what it says of the pod's place on top of its namespace.
fn inventory(ground: &Ground, place: &str) -> anyhow::Result<()> {
    let text = format!(
        "schema_version = 1\nname = \"e2e-pods\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
         price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n[[site.node]]\nname = \"n1\"\n\
         cpu = \"1\"\nmemory = \"1GiB\"\nkubernetes = {{ namespace = \"{}\", {place} }}\n",
        ground.namespace
    );
    Ok(std::fs::write(ground.folder.path().join("inventory.toml"), text)?)
}

async fn sites(ground: &Ground, what: &[&str], kubeconfig: &str) -> anyhow::Result<Finished> {
    sites_while(ground, what, kubeconfig, &Value::Null).await
}

/// Runs a command while a kubelet that is not there says this of each pod of which it said nothing yet, and a controller that is
/// not there either lets claims go.
async fn sites_while(
    ground: &Ground,
    what: &[&str],
    kubeconfig: &str,
    status: &Value,
) -> anyhow::Result<Finished> {
    let arguments = [&["sites"], what, &["inventory.toml", "--state", "state"]].concat();
    let environment = [("KUBECONFIG", kubeconfig)];
    tokio::select! {
        ended = ground.sterna.run_in(ground.folder.path(), &environment, &arguments) => ended,
        failed = act(ground, status) => failed,
    }
}

/// Acts as kubelet and controller for ever.
async fn act(ground: &Ground, status: &Value) -> anyhow::Result<Finished> {
    let pods: Api<Pod> = ground.api();
    let claims: Api<PersistentVolumeClaim> = ground.api();
    loop {
        for pod in pods.list(&ListParams::default()).await? {
            let told = pod.status.is_some_and(|status| {
                status.container_statuses.is_some() || status.phase.as_deref() == Some("Failed")
            });
            if !told && !status.is_null() {
                let name = pod.metadata.name.context("a pod without a name")?;
                let patch = Patch::Merge(json!({ "status": status }));
                if_there(pods.patch_status(&name, &PatchParams::default(), &patch).await)?;
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
async fn administer(ground: &Ground, what: &[&str]) -> anyhow::Result<Finished> {
    sites(ground, what, &ground.admin()).await
}

/// Of pods, secrets and claims how many there are.
async fn left(ground: &Ground) -> anyhow::Result<[usize; 3]> {
    let all = ListParams::default();
    Ok([
        ground.api::<Pod>().list(&all).await?.items.len(),
        ground.api::<Secret>().list(&all).await?.items.len(),
        ground.api::<PersistentVolumeClaim>().list(&all).await?.items.len(),
    ])
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
    let ground = raised().await?;
    let admin = ground.admin();
    let began = Instant::now();
    let finished = sites_while(&ground, &["up"], &admin, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
    says(&finished, &[IMAGE_ABSENT, "sterna sites image --out", "ctr -n k8s.io images import"])?;
    ensure!(began.elapsed() < SOON, "only after {:?}", began.elapsed());
    ensure!(left(&ground).await? == [0, 0, 0], "{:?} are left", left(&ground).await?);
    // Made with the label that Pod Security asks for.
    let namespace = Api::<Namespace>::all(ground.client.clone()).get(&ground.namespace).await?;
    let labels = namespace.metadata.labels.context("it has no labels")?;
    ensure!(labels["pod-security.kubernetes.io/enforce"] == "privileged", "{labels:?}");
    ground.down().await
}

#[tokio::test]
async fn each_refusal_is_told_with_what_to_do() -> anyhow::Result<()> {
    let ground = raised().await?;
    let namespace = &ground.namespace;

    ground.make(&ground.namespace, json!({ "pod-security.kubernetes.io/enforce": "baseline" })).await?;
    let finished = administer(&ground, &["up"]).await?;
    let label = format!("kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged");
    says(&finished, &["violates PodSecurity \"baseline", &label])?;
    ensure!(left(&ground).await? == [0, 0, 0], "{:?} are left", left(&ground).await?);

    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "privileged" } } });
    let all = Api::<Namespace>::all(ground.client.clone());
    all.patch(namespace, &PatchParams::default(), &Patch::Merge(labels)).await?;
    let quotas: Api<ResourceQuota> = ground.api();
    let hard = json!({ "requests.cpu": "500m" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "requests.cpu": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    let mut finished = administer(&ground, &["up"]).await?;
    let began = Instant::now();
    // The server hears of a quota a moment later.
    while !finished.stderr.contains("exceeded quota") && began.elapsed() < SOON {
        finished = administer(&ground, &["up"]).await?;
    }
    says(&finished, &["exceeded quota: small", &format!("kubectl -n {namespace} describe quota")])?;
    ensure!(left(&ground).await? == [0, 0, 0], "{:?} are left", left(&ground).await?);

    ground.make_account("nobody").await?;
    let nobody = ground.kubeconfig_of("nobody").await?;
    let rbac = format!("sterna rbac --nodes {namespace} --mode act");
    says(&sites(&ground, &["up"], &nobody).await?, &["cannot list resource \"pods\"", &rbac])?;
    says(&sites(&ground, &["down"], &nobody).await?, &["cannot list resource \"pods\"", &rbac])?;

    // In `status` it is the node that is unknown, and the reason is told.
    let finished = sites(&ground, &["status", "--output", "json"], &nobody).await?;
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
    says(
        &sites(&ground, &["up"], &away).await?,
        &["the API server does not answer", "kubectl cluster-info"],
    )?;
    let finished = sites(&ground, &["status", "--output", "json"], &away).await?;
    let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(nodes[0]["state"] == "unknown", "{nodes}");
    says(&sites(&ground, &["up"], "/nowhere").await?, &["nothing says where the Kubernetes API server is"])?;
    inventory(&ground, "context = \"elsewhere\"")?;
    says(&administer(&ground, &["up"]).await?, &["can't use the context `elsewhere`"])?;
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
    let ground = raised().await?;
    ground.make(&ground.namespace, json!({})).await?;
    let look = async || -> anyhow::Result<Value> {
        let finished = administer(&ground, &["status", "--output", "json"]).await?;
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
    ground.api::<Pod>().create(&PostParams::default(), &pod).await?;
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
        ground.api::<Pod>().patch_status("sterna-e2e-pods-n1", &PatchParams::default(), &patch).await?;
        let node = look().await?;
        ensure!(node["state"] == state, "{status}: {node}");
        ensure!(node["notes"].to_string().contains(&said.replace('"', "\\\"")), "{status}: {node}");
        ensure!(node["remedy"].is_string(), "{status}: {node}");
    }

    // One that has ended is made anew.
    let admin = ground.admin();
    let up = sites_while(&ground, &["up"], &admin, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
    says(&up, &["has ended", "low on resource", "made anew", IMAGE_ABSENT])?;

    // What goes by a pod's name and is not one of ours is left alone.
    administer(&ground, &["down"]).await?;
    ensure!(left(&ground).await? == [0, 0, 0], "{:?} are left", left(&ground).await?);
    let mut foreign = pod;
    foreign.metadata.labels = None;
    ground.api::<Pod>().create(&PostParams::default(), &foreign).await?;
    says(&administer(&ground, &["up"]).await?, &["another pod is named sterna-e2e-pods-n1"])?;
    administer(&ground, &["down"]).await?;
    ensure!(left(&ground).await? == [1, 0, 0], "{:?} are left", left(&ground).await?);
    ground.down().await
}

#[tokio::test]
async fn what_is_made_is_gone_again_when_the_caller_asks_to_stop() -> anyhow::Result<()> {
    let ground = raised().await?;
    let mut command = ground.sterna.command();
    command.current_dir(ground.folder.path()).args(["sites", "up", "inventory.toml", "--state", "state"]);
    command.env("KUBECONFIG", ground.cluster.kubeconfig()).stderr(std::process::Stdio::null());
    let mut running = Running::start(&mut command)?;
    let all_made = async || Ok(left(&ground).await? == [1, 1, 1]);
    let made_and_asked = async {
        eventually(SOON, "all is made", all_made).await?;
        running.ask_to_end();
        let ended = timeout(SOON, running.child().wait()).await.context("it does not end")??;
        ensure!(ended.code() == Some(1), "{ended}");
        Ok(())
    };
    tokio::select! {
        done = made_and_asked => done?,
        failed = act(&ground, &Value::Null) => drop(failed?),
    }
    ensure!(left(&ground).await? == [0, 0, 0], "{:?} are left", left(&ground).await?);
    ground.down().await
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = raised().await?;
    let namespace = ground.namespace.as_str();
    let rights = Rights::given(&ground, "maker", &["--nodes", namespace, "--mode", "act"]).await?;
    ensure!(rights.printed.len() == 6, "six objects: {:?}", rights.printed);
    ensure!(rights.printed[3]["kind"] == "Namespace", "{}", rights.printed[3]);
    let maker = ground.kubeconfig_of("maker").await?;

    // What is refused, of all that `up`, its undoing and `down` do; `None` when nothing is.
    let refused = async || -> anyhow::Result<Option<String>> {
        let up = sites_while(&ground, &["up"], &maker, &waiting("ErrImageNeverPull", IMAGE_ABSENT)).await?;
        let down = sites(&ground, &["down"], &maker).await?;
        let all = up.stderr + &down.stderr;
        let cannot = cannot(&all);
        ensure!(cannot.is_some() || all.contains(IMAGE_ABSENT), "{all}");
        administer(&ground, &["down"]).await?;
        // `down` finds secrets by their pods, and no controller is here that removes those of pods that are gone.
        ground.api::<Secret>().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        Ok(cannot)
    };
    // `sterna run` alone watches; that it needs to is seen where pods end.
    let needed = rights.suffice_and_each_is_needed(SOON, &["watch"], refused).await?;
    ensure!(needed.len() == 8, "{needed:?}");

    // Those who only look need less, and can't do more.
    let observe = ["rbac", "--namespace", namespace, "--account", "maker", "--nodes", namespace];
    let documents = ground.printed(&observe).await?;
    let [_, _, _, role, _] = &documents[..] else { bail!("five objects: {documents:?}") };
    rights.allow(&Role::deserialize(role)?.rules.context("it allows nothing")?).await?;
    let looks_only = async || {
        let up = sites(&ground, &["up"], &maker).await?;
        administer(&ground, &["down"]).await?;
        Ok(up.stderr.contains(" cannot create resource "))
    };
    eventually(SOON, "those who only look can do no more", looks_only).await?;
    let finished = sites(&ground, &["status", "--output", "json"], &maker).await?;
    let nodes: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(nodes[0]["state"] == "missing", "{nodes}");
    ground.down().await
}
