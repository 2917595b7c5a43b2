//! `sterna doctor` where nodes are pods, and where the settings name namespaces, against a real API server without nodes of its own: each
//! usual mistake is told with what to do, and nothing is changed. The test says what a kubelet would.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use tokio::time::{Instant, sleep};

#[path = "kubernetes_doctor/namespaces.rs"]
mod namespaces;

const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
const POD: &str = "sterna-e2e-doctor-n1";

/// An API server, a namespace of its own, and settings with a continuum of one node in it.
async fn raised() -> anyhow::Result<Ground> {
    let ground = Ground::up().await?;
    let policy = "schema_version = 1\nname = \"p\"\n[[objective.term]]\nmetric = \"power\"\n";
    std::fs::write(ground.folder.path().join("policy.toml"), policy)?;
    settings(&ground, "")?;
    inventory(&ground, "")?;
    Ok(ground)
}

fn settings(ground: &Ground, more: &str) -> anyhow::Result<()> {
    let settings =
        format!("inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\n{more}");
    Ok(std::fs::write(ground.folder.path().join("sterna.toml"), settings)?)
}

fn inventory(ground: &Ground, place: &str) -> anyhow::Result<()> {
    let text = format!(
        "schema_version = 1\nname = \"e2e-doctor\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
         price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n[[site.node]]\nname = \"n1\"\n\
         cpu = \"1\"\nmemory = \"1GiB\"\nkubernetes = {{ namespace = \"{}\"{place} }}\n",
        ground.namespace
    );
    Ok(std::fs::write(ground.folder.path().join("inventory.toml"), text)?)
}

/// What the doctor ends with and says with that kubeconfig, and the same as JSON.
async fn looked(ground: &Ground, kubeconfig: &str) -> anyhow::Result<(Option<i32>, String, Value)> {
    let environment = [("KUBECONFIG", kubeconfig), ("NO_COLOR", "1")];
    let arguments = ["doctor", "--config", "sterna.toml"];
    let shown = ground.sterna.run_in(ground.folder.path(), &environment, &arguments).await?;
    let arguments = [&arguments[..], &["--output", "json"]].concat();
    let json = ground.sterna.run_in(ground.folder.path(), &environment, &arguments).await?;
    let read = serde_json::from_str(&json.stdout);
    let read = read.with_context(|| format!("{}: {}{}", json.status, json.stdout, json.stderr))?;
    Ok((shown.status.code(), shown.stdout, read))
}

/// Waits until it says these words, in text and as JSON: the API server may hear of a change a moment later.
async fn says(ground: &Ground, kubeconfig: &str, words: &[&str]) -> anyhow::Result<()> {
    // Line breaks of a remedy are indented in the text.
    shown(ground, kubeconfig, |text, json| {
        words.iter().all(|word| text.contains(word) && json.contains(word))
    })
    .await
    .with_context(|| format!("{words:?} is not said"))
}

/// The same of the text alone.
async fn shows(ground: &Ground, kubeconfig: &str, words: &[&str]) -> anyhow::Result<()> {
    shown(ground, kubeconfig, |text, _| words.iter().all(|word| text.contains(word)))
        .await
        .with_context(|| format!("{words:?} is not shown"))
}

async fn shown(ground: &Ground, kubeconfig: &str, so: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let (code, text, json) = looked(ground, kubeconfig).await?;
        let json = json.to_string().replace("\\\"", "\"");
        if so(&text, &json) {
            ensure!(code == Some(1), "it ended with {code:?}: {text}");
            ensure!(text.contains(" in Kubernetes"), "{text}");
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "{text}{json}");
        sleep(POLL).await;
    }
}

async fn label(ground: &Ground, level: &str) -> anyhow::Result<()> {
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
    let all = Api::<Namespace>::all(ground.client.clone());
    all.patch(&ground.namespace, &PatchParams::default(), &Patch::Merge(labels)).await?;
    Ok(())
}

async fn status(ground: &Ground, status: Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "status": status }));
    ground.api::<Pod>().patch_status(POD, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The kubeconfig of an account of the namespace that may do nothing.
async fn nobody(ground: &Ground) -> anyhow::Result<String> {
    ground.make_account("nobody").await?;
    ground.kubeconfig_of("nobody").await
}

fn container(state: &Value) -> Value {
    json!([{ "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state }])
}

#[tokio::test]
async fn each_usual_mistake_is_told_with_what_to_do_and_nothing_is_changed() -> anyhow::Result<()> {
    let ground = raised().await?;
    let (admin, namespace) = (ground.admin(), ground.namespace.clone());
    says(&ground, &admin, &["its pod is not there", "`sterna sites up` makes it", "no `[leader]`"]).await?;

    // Where the cluster is.
    let away = ground.folder.path().join("away");
    let text = std::fs::read_to_string(ground.cluster.kubeconfig())?;
    let server = text.split("https://127.0.0.1:").nth(1).context("no server")?;
    let port: String = server.chars().take_while(char::is_ascii_digit).collect();
    std::fs::write(&away, text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1"))?;
    let away = away.display().to_string();
    says(&ground, &away, &["the API server does not answer", "kubectl cluster-info"]).await?;
    inventory(&ground, ", context = \"elsewhere\"")?;
    says(&ground, &admin, &["can't use the context `elsewhere`"]).await?;
    inventory(&ground, "")?;

    // What the account may do.
    let nobody = nobody(&ground).await?;
    let rbac = format!("sterna rbac --nodes {namespace} --mode act");
    let may_not = format!("may not list pods, watch pods in namespace {namespace}");
    says(&ground, &nobody, &[&may_not, &rbac]).await?;
    settings(&ground, &format!("[kubernetes]\nmigrations = \"{namespace}\"\n"))?;
    let untold = format!("may not create events in namespace {namespace}: of migrations nothing is told");
    let rbac = format!("`sterna rbac --migrations {namespace} --nodes {namespace}`");
    says(&ground, &nobody, &[&untold, &rbac]).await?;
    settings(
        &ground,
        &format!("[leader]\nlease = \"one\"\nnamespace = \"{namespace}\"\nkubeconfig = \"{nobody}\"\n"),
    )?;
    let lease = format!(
        "no scheduler can lead by the lease {namespace}/one: it may not create leases, get leases, update leases"
    );
    says(&ground, &admin, &[&lease, &format!("sterna rbac --namespace {namespace} --lease one")]).await?;
    settings(&ground, "")?;

    // What would refuse its pod.
    label(&ground, "baseline").await?;
    let command =
        format!("kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged");
    says(&ground, &admin, &["violates PodSecurity", &command]).await?;
    label(&ground, "privileged").await?;
    let quotas: Api<ResourceQuota> = ground.api();
    let hard = json!({ "requests.cpu": "500m" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "requests.cpu": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    says(&ground, &admin, &["exceeded quota: small", "describe quota"]).await?;
    quotas.delete("small", &DeleteParams::default()).await?;
    ensure!(ground.api::<Pod>().list(&ListParams::default()).await?.items.is_empty(), "a pod was made");

    // How its pod is.
    let pod = json!({
        "metadata": { "name": POD, "labels": { "sterna.continuum": "e2e-doctor", "sterna.node": "n1" } },
        "spec": { "containers": [{ "name": "node", "image": "i" }] },
    });
    let made =
        async || Ok(ground.api().create(&PostParams::default(), &Pod::deserialize(&pod)?).await.is_ok());
    // The quota is gone a moment later.
    eventually(SOON, "a pod can be made", made).await?;
    let absent = json!({ "waiting": { "reason": "ErrImageNeverPull", "message": "image is not present" } });
    status(&ground, json!({ "phase": "Pending", "containerStatuses": container(&absent) })).await?;
    says(&ground, &admin, &["n1", "without its image", "sterna sites image --out node.tar"]).await?;
    // An address at which no agent is.
    let running = json!({ "phase": "Running", "podIP": "127.0.0.9", "podIPs": [{ "ip": "127.0.0.9" }],
        "containerStatuses": container(&json!({ "running": {} })) });
    status(&ground, running).await?;
    says(&ground, &admin, &["its pod is running", "can this host reach addresses of pods?"]).await?;

    ground.down().await
}
