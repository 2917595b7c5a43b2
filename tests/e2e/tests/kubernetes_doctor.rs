//! `sterna doctor` where nodes are pods, and where the settings name namespaces, against a real API server without nodes of its own: each
//! usual mistake is told with what to do, and nothing is changed. The test says what a kubelet would.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use sterna_e2e::cluster::Cluster;
use sterna_e2e::sterna::Sterna;
use sterna_executor::platform::kubernetes::connection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

#[path = "kubernetes_doctor/namespaces.rs"]
mod namespaces;

const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
const POD: &str = "sterna-e2e-doctor-n1";

struct Ground {
    cluster: Cluster,
    client: Client,
    namespace: String,
    folder: TempDir,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::up().await?;
        let client = connection::client(Some(cluster.kubeconfig())).await?;
        let namespace = format!("sterna-e2e-{}", fastrand::u32(..));
        let folder = tempfile::tempdir()?;
        let ground = Self { cluster, client, namespace, folder };
        let policy = "schema_version = 1\nname = \"p\"\n[[objective.term]]\nmetric = \"power\"\n";
        std::fs::write(ground.folder.path().join("policy.toml"), policy)?;
        ground.settings("")?;
        ground.inventory("")?;
        let metadata = json!({ "metadata": { "name": ground.namespace } });
        let all = Api::<Namespace>::all(ground.client.clone());
        all.create(&PostParams::default(), &Namespace::deserialize(metadata)?).await?;
        Ok(ground)
    }

    fn settings(&self, more: &str) -> anyhow::Result<()> {
        let settings =
            format!("inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\n{more}");
        Ok(std::fs::write(self.folder.path().join("sterna.toml"), settings)?)
    }

    fn inventory(&self, place: &str) -> anyhow::Result<()> {
        let text = format!(
            "schema_version = 1\nname = \"e2e-doctor\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
             price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n[[site.node]]\nname = \"n1\"\n\
             cpu = \"1\"\nmemory = \"1GiB\"\nkubernetes = {{ namespace = \"{}\"{place} }}\n",
            self.namespace
        );
        Ok(std::fs::write(self.folder.path().join("inventory.toml"), text)?)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn admin(&self) -> String {
        self.cluster.kubeconfig().display().to_string()
    }

    /// What the doctor ends with and says with that kubeconfig, and the same as JSON.
    async fn looked(&self, kubeconfig: &str) -> anyhow::Result<(Option<i32>, String, Value)> {
        let environment = [("KUBECONFIG", kubeconfig), ("NO_COLOR", "1")];
        let sterna = Sterna::built()?;
        let arguments = ["doctor", "--config", "sterna.toml"];
        let shown = sterna.run_in(self.folder.path(), &environment, &arguments).await?;
        let arguments = [&arguments[..], &["--output", "json"]].concat();
        let json = sterna.run_in(self.folder.path(), &environment, &arguments).await?;
        let read = serde_json::from_str(&json.stdout);
        let read = read.with_context(|| format!("{}: {}{}", json.status, json.stdout, json.stderr))?;
        Ok((shown.status.code(), shown.stdout, read))
    }

    /// Waits until it says these words, in text and as JSON: the API server may hear of a change a moment later.
    async fn says(&self, kubeconfig: &str, words: &[&str]) -> anyhow::Result<()> {
        // Line breaks of a remedy are indented in the text.
        self.shown(kubeconfig, |text, json| {
            words.iter().all(|word| text.contains(word) && json.contains(word))
        })
        .await
        .with_context(|| format!("{words:?} is not said"))
    }

    /// The same of the text alone.
    async fn shows(&self, kubeconfig: &str, words: &[&str]) -> anyhow::Result<()> {
        self.shown(kubeconfig, |text, _| words.iter().all(|word| text.contains(word)))
            .await
            .with_context(|| format!("{words:?} is not shown"))
    }

    async fn shown(&self, kubeconfig: &str, so: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let (code, text, json) = self.looked(kubeconfig).await?;
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

    /// A kubeconfig file with the token of an account of the namespace that may do nothing.
    async fn nobody(&self) -> anyhow::Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let metadata = ObjectMeta { name: Some("nobody".to_owned()), ..ObjectMeta::default() };
        accounts
            .create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() })
            .await?;
        let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let answer = accounts.create_token_request("nobody", &PostParams::default(), &asked).await?;
        let token = answer.status.context("no token")?.token;
        let mut file = Kubeconfig::read_from(self.cluster.kubeconfig())?;
        for user in &mut file.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({ "token": token }))?);
        }
        let path = self.folder.path().join("nobody.json");
        std::fs::write(&path, serde_json::to_string(&file)?)?;
        Ok(path.display().to_string())
    }

    async fn label(&self, level: &str) -> anyhow::Result<()> {
        let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
        let all = Api::<Namespace>::all(self.client.clone());
        all.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(labels)).await?;
        Ok(())
    }

    async fn status(&self, status: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.pods().patch_status(POD, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

fn container(state: &Value) -> Value {
    json!([{ "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state }])
}

#[tokio::test]
async fn each_usual_mistake_is_told_with_what_to_do_and_nothing_is_changed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let (admin, namespace) = (ground.admin(), ground.namespace.clone());
    ground.says(&admin, &["its pod is not there", "`sterna sites up` makes it", "no `[leader]`"]).await?;

    // Where the cluster is.
    let away = ground.folder.path().join("away");
    let text = std::fs::read_to_string(ground.cluster.kubeconfig())?;
    let server = text.split("https://127.0.0.1:").nth(1).context("no server")?;
    let port: String = server.chars().take_while(char::is_ascii_digit).collect();
    std::fs::write(&away, text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1"))?;
    let away = away.display().to_string();
    ground.says(&away, &["the API server does not answer", "kubectl cluster-info"]).await?;
    ground.inventory(", context = \"elsewhere\"")?;
    ground.says(&admin, &["can't use the context `elsewhere`"]).await?;
    ground.inventory("")?;

    // What the account may do.
    let nobody = ground.nobody().await?;
    let rbac = format!("sterna rbac --nodes {namespace} --mode act");
    let may_not = format!("may not list pods, watch pods in namespace {namespace}");
    ground.says(&nobody, &[&may_not, &rbac]).await?;
    ground.settings(&format!("[kubernetes]\nmigrations = \"{namespace}\"\n"))?;
    let untold = format!("may not create events in namespace {namespace}: of migrations nothing is told");
    let rbac = format!("`sterna rbac --migrations {namespace} --nodes {namespace}`");
    ground.says(&nobody, &[&untold, &rbac]).await?;
    ground.settings(&format!(
        "[leader]\nlease = \"one\"\nnamespace = \"{namespace}\"\nkubeconfig = \"{nobody}\"\n"
    ))?;
    let lease = format!(
        "no scheduler can lead by the lease {namespace}/one: it may not create leases, get leases, update leases"
    );
    ground.says(&admin, &[&lease, &format!("sterna rbac --namespace {namespace} --lease one")]).await?;
    ground.settings("")?;

    // What would refuse its pod.
    ground.label("baseline").await?;
    let label = format!("kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged");
    ground.says(&admin, &["violates PodSecurity", &label]).await?;
    ground.label("privileged").await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(ground.client.clone(), &namespace);
    let hard = json!({ "requests.cpu": "500m" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "requests.cpu": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    ground.says(&admin, &["exceeded quota: small", "describe quota"]).await?;
    quotas.delete("small", &DeleteParams::default()).await?;
    ensure!(ground.pods().list(&ListParams::default()).await?.items.is_empty(), "a pod was made");

    // How its pod is.
    let pod = json!({
        "metadata": { "name": POD, "labels": { "sterna.continuum": "e2e-doctor", "sterna.node": "n1" } },
        "spec": { "containers": [{ "name": "node", "image": "i" }] },
    });
    let made = async || -> anyhow::Result<bool> {
        Ok(ground.pods().create(&PostParams::default(), &Pod::deserialize(&pod)?).await.is_ok())
    };
    let began = Instant::now();
    // The quota is gone a moment later.
    while !made().await? {
        ensure!(began.elapsed() < SOON, "no pod can be made");
        sleep(Duration::from_millis(100)).await;
    }
    let absent = json!({ "waiting": { "reason": "ErrImageNeverPull", "message": "image is not present" } });
    ground.status(json!({ "phase": "Pending", "containerStatuses": container(&absent) })).await?;
    ground.says(&admin, &["n1", "without its image", "sterna sites image --out node.tar"]).await?;
    // An address at which no agent is.
    let running = json!({ "phase": "Running", "podIP": "127.0.0.9", "podIPs": [{ "ip": "127.0.0.9" }],
        "containerStatuses": container(&json!({ "running": {} })) });
    ground.status(running).await?;
    ground.says(&admin, &["its pod is running", "can this host reach addresses of pods?"]).await?;

    let all = Api::<Namespace>::all(ground.client);
    all.delete(&namespace, &DeleteParams::default()).await?;
    Ok(())
}
