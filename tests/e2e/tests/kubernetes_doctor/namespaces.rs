//! The namespaces that `[kubernetes]` of the settings names.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, Service};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use sterna_e2e::sterna::Sterna;
use tokio::time::{Instant, sleep};

use super::{Ground, POLL, SOON};

/// A continuum of which nothing can be wrong: nobody is there.
const EMPTY: &str = "schema_version = 1\nname = \"e2e-doctor\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
    price = { node = \"0.1USD/h\" }\npower = { idle = \"5W\", full = \"20W\" }\n";

impl Ground {
    /// Settings that name these namespaces for migrations, for services, and for endpoints.
    fn kept(&self, kubeconfig: &str, [migrations, services, endpoints]: [&str; 3]) -> anyhow::Result<()> {
        self.settings(&format!(
            "[kubernetes]\nmigrations = \"{migrations}\"\nservices = \"{services}\"\nendpoints = [\"{endpoints}\"]\n\
             stand_in_image = \"registry.example/sterna:1\"\nkubeconfig = \"{kubeconfig}\"\n"
        ))
    }

    /// Waits until nothing is wrong at all.
    async fn is_well(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let (code, text, json) = self.looked(&self.admin()).await?;
            if code == Some(0) {
                ensure!(text.matches("  nothing is wrong").count() == 3, "{text}");
                ensure!(
                    text.contains("all is well") && text.contains("image registry.example/sterna:1"),
                    "{text}"
                );
                let found = json["namespaces"].as_array().context("no namespaces")?;
                let purposes: Vec<_> = found.iter().map(|one| &one["purpose"]).collect();
                ensure!(purposes == ["migrations", "services", "endpoints"], "{json}");
                ensure!(found.iter().all(|one| one["problems"] == json!([])), "{json}");
                return Ok(());
            }
            ensure!(began.elapsed() < SOON, "something is wrong:\n{text}");
            sleep(POLL).await;
        }
    }

    /// Makes Sterna's kinds of objects known, as people do it.
    async fn know(&self) -> anyhow::Result<()> {
        let all: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let printed = Sterna::built()?.must(&["crd"]).await?;
        for definition in serde_saphyr::from_multiple::<Value>(&printed)? {
            let name = definition["metadata"]["name"].as_str().context("it has no name")?;
            all.patch(name, &PatchParams::apply("sterna-e2e"), &Patch::Apply(&definition)).await?;
        }
        Ok(())
    }

    /// Gives an account what `sterna rbac` prints.
    async fn allow(&self, account: &str) -> anyhow::Result<()> {
        let home = self.namespace.as_str();
        let of = ["--migrations", home, "--services", home, "--endpoints", home];
        let printed = Sterna::built()?
            .must(&[&["rbac", "--namespace", home, "--account", account], &of[..]].concat())
            .await?;
        let creates = PostParams::default();
        for object in serde_saphyr::from_multiple::<Value>(&printed)? {
            match object["kind"].as_str() {
                Some("Role") => {
                    let roles = Api::namespaced(self.client.clone(), home);
                    roles.create(&creates, &Role::deserialize(object)?).await.map(drop)?;
                }
                Some("RoleBinding") => {
                    let bindings = Api::namespaced(self.client.clone(), home);
                    bindings.create(&creates, &RoleBinding::deserialize(object)?).await.map(drop)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until the namespace refuses a pod that says nothing of its privileges, or a privileged one.
    async fn enforces(&self, level: &str) -> anyhow::Result<()> {
        self.label(level).await?;
        let privileged = json!({ "privileged": level == "baseline" });
        let pod = json!({
            "metadata": { "name": "loose" },
            "spec": { "containers": [{ "name": "c", "image": "i", "securityContext": privileged }] },
        });
        let (pod, tries) = (Pod::deserialize(&pod)?, PostParams { dry_run: true, field_manager: None });
        let (began, words) = (Instant::now(), format!("violates PodSecurity \"{level}"));
        while !self.pods().create(&tries, &pod).await.is_err_and(|error| error.to_string().contains(&words)) {
            ensure!(began.elapsed() < SOON, "{level} is not enforced");
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn service(&self, name: &str, named: &str, spec: Value) -> anyhow::Result<()> {
        let labels = json!({ "sterna.io/service": named });
        let object = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec });
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        services.create(&PostParams::default(), &Service::deserialize(object)?).await.map(drop)?;
        Ok(())
    }
}

#[tokio::test]
async fn what_is_wrong_in_the_namespaces_of_the_settings_is_told_and_nothing_is_changed() -> anyhow::Result<()>
{
    let ground = Ground::up().await?;
    let (admin, namespace) = (ground.admin(), ground.namespace.clone());
    let here = [namespace.as_str(); 3];
    std::fs::write(ground.folder.path().join("inventory.toml"), EMPTY)?;
    ground.kept(&admin, here)?;

    // What the cluster knows.
    if ground.cluster.is_own() {
        let kinds = ["kind Migration", "`sterna crd migrations | kubectl apply -f -`"];
        ground.says(&admin, &kinds).await?;
        let kinds = ["kind MigratableService", "`sterna crd services | kubectl apply -f -`", "2 problems"];
        ground.shows(&admin, &kinds).await?;
    }
    ground.know().await?;
    ground.is_well().await?;

    // Where the namespaces are.
    for (at, word) in ["migrations", "services", "endpoints"].into_iter().enumerate() {
        let mut names = here;
        names[at] = "sterna-e2e-nowhere";
        ground.kept(&admin, names)?;
        let another = format!("name another as `{word}`");
        let words = ["no such namespace", "`kubectl create namespace sterna-e2e-nowhere`", another.as_str()];
        ground.says(&admin, &words).await?;
    }
    let away = ground.folder.path().join("none").display().to_string();
    ground.kept(&away, here)?;
    ground
        .says(&admin, &["can't use the kubeconfig", "`kubeconfig` in `[kubernetes]` of the settings"])
        .await?;

    // What the account may do.
    let nobody = ground.nobody().await?;
    ground.kept(&nobody, here)?;
    let may_not = [
        (
            "migrations",
            "list migrations, create migrations, patch migrations, delete migrations, patch migrations/status, create events",
        ),
        (
            "services",
            "list migratableservices, patch migratableservices, patch migratableservices/status, list pods, create pods",
        ),
        ("endpoints", "list services, list endpointslices, create endpointslices"),
    ];
    for (word, rights) in may_not {
        let (lacks, rbac) = (format!("may not {rights}"), format!("`sterna rbac --{word} {namespace}`"));
        ground.says(&admin, &[&lacks, &rbac, "Is there such a namespace?"]).await?;
    }
    ground.allow("nobody").await?;
    ground.is_well().await?;
    let roles: Api<Role> = Api::namespaced(ground.client.clone(), &namespace);
    let name = "nobody-services";
    let given = roles.get(name).await?.rules.context("the role allows nothing")?;
    let resource = |rule: &k8s_openapi::api::rbac::v1::PolicyRule| {
        rule.resources.iter().flatten().cloned().collect::<Vec<_>>()
    };
    let fewer: Vec<_> = given.iter().filter(|rule| resource(rule) != ["secrets"]).collect();
    ensure!(fewer.len() + 1 == given.len(), "no rule of secrets: {given:?}");
    roles.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "rules": fewer }))).await?;
    let lacks = format!("may not create secrets in namespace {namespace}");
    ground.says(&admin, &[&lacks, &format!("`sterna rbac --services {namespace}`")]).await?;
    roles.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "rules": given }))).await?;
    ground.is_well().await?;
    ground.kept(&admin, here)?;

    // What would refuse a stand-in.
    for level in ["baseline", "restricted"] {
        ground.enforces(level).await?;
        ground.is_well().await?;
    }
    let quotas: Api<ResourceQuota> = Api::namespaced(ground.client.clone(), &namespace);
    let hard = json!({ "pods": "0" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "pods": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    let words = ["the namespace takes no stand-in: ", "exceeded quota: small", "describe quota"];
    ground.says(&admin, &words).await?;
    quotas.delete("small", &DeleteParams::default()).await?;
    ground.is_well().await?;
    ensure!(ground.pods().list(&ListParams::default()).await?.items.is_empty(), "a pod was made");

    // What leads nowhere.
    let ports = json!([{ "port": 6379 }]);
    ground.service("web", "nginx", json!({ "ports": ports })).await?;
    ground
        .says(&admin, &["service web: the inventory has no service `nginx`", "sterna.io/service=NAME"])
        .await?;
    ground.service("cache", "redis", json!({ "ports": ports, "selector": { "app": "cache" } })).await?;
    ground.says(&admin, &["service cache: it has a selector", "edit service cache"]).await?;

    let all = Api::<Namespace>::all(ground.client);
    all.delete(&namespace, &DeleteParams::default()).await?;
    Ok(())
}
