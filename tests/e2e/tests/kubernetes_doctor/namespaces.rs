//! The namespaces that `[kubernetes]` of the settings names.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use tokio::time::{Instant, sleep};

use super::{POLL, SOON, label, looked, nobody, raised, says, settings, shows};

/// A continuum of which nothing can be wrong: nobody is there.
const EMPTY: &str = "schema_version = 1\nname = \"e2e-doctor\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
    price = { node = \"0.1USD/h\" }\npower = { idle = \"5W\", full = \"20W\" }\n";

/// Settings that name these namespaces for migrations, for services, and for endpoints.
fn kept(
    ground: &Ground,
    kubeconfig: &str,
    [migrations, services, endpoints]: [&str; 3],
) -> anyhow::Result<()> {
    let text = format!(
        "[kubernetes]\nmigrations = \"{migrations}\"\nservices = \"{services}\"\nendpoints = [\"{endpoints}\"]\n\
         stand_in_image = \"registry.example/sterna:1\"\nkubeconfig = \"{kubeconfig}\"\n"
    );
    settings(ground, &text)
}

/// Waits until nothing is wrong at all.
async fn is_well(ground: &Ground) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let (code, text, json) = looked(ground, &ground.admin()).await?;
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

/// Waits until the namespace refuses a pod that says nothing of its privileges, or a privileged one.
async fn enforces(ground: &Ground, level: &str) -> anyhow::Result<()> {
    label(ground, level).await?;
    let privileged = json!({ "privileged": level == "baseline" });
    let pod = json!({
        "metadata": { "name": "loose" },
        "spec": { "containers": [{ "name": "c", "image": "i", "securityContext": privileged }] },
    });
    let (pod, tries) = (Pod::deserialize(&pod)?, PostParams { dry_run: true, field_manager: None });
    let words = format!("violates PodSecurity \"{level}");
    let refused = async || {
        Ok(ground.api().create(&tries, &pod).await.is_err_and(|error| error.to_string().contains(&words)))
    };
    eventually(SOON, &format!("{level} is enforced"), refused).await
}

async fn service(ground: &Ground, name: &str, named: &str, spec: Value) -> anyhow::Result<()> {
    let labels = json!({ "sterna.io/service": named });
    let object = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec });
    let services: Api<Service> = ground.api();
    services.create(&PostParams::default(), &Service::deserialize(object)?).await.map(drop)?;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_in_the_namespaces_of_the_settings_is_told_and_nothing_is_changed() -> anyhow::Result<()>
{
    let ground = raised().await?;
    let (admin, namespace) = (ground.admin(), ground.namespace.clone());
    let here = [namespace.as_str(); 3];
    std::fs::write(ground.folder.path().join("inventory.toml"), EMPTY)?;
    kept(&ground, &admin, here)?;

    // What the cluster knows.
    if ground.cluster.is_own() {
        let kinds = ["kind Migration", "`sterna crd migrations | kubectl apply -f -`"];
        says(&ground, &admin, &kinds).await?;
        let kinds = ["kind MigratableService", "`sterna crd services | kubectl apply -f -`", "2 problems"];
        shows(&ground, &admin, &kinds).await?;
    }
    ground.apply(&ground.printed(&["crd"]).await?).await?;
    is_well(&ground).await?;

    // Where the namespaces are.
    for (at, word) in ["migrations", "services", "endpoints"].into_iter().enumerate() {
        let mut names = here;
        names[at] = "sterna-e2e-nowhere";
        kept(&ground, &admin, names)?;
        let another = format!("name another as `{word}`");
        let words = ["no such namespace", "`kubectl create namespace sterna-e2e-nowhere`", another.as_str()];
        says(&ground, &admin, &words).await?;
    }
    let away = ground.folder.path().join("none").display().to_string();
    kept(&ground, &away, here)?;
    says(&ground, &admin, &["can't use the kubeconfig", "`kubeconfig` in `[kubernetes]` of the settings"])
        .await?;

    // What the account may do.
    let nobody = nobody(&ground).await?;
    kept(&ground, &nobody, here)?;
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
        says(&ground, &admin, &[&lacks, &rbac, "Is there such a namespace?"]).await?;
    }
    let [migrations, services, endpoints] = ["--migrations", "--services", "--endpoints"];
    let rbac = ["rbac", "--namespace", &namespace, "--account", "nobody"];
    let what_for = [migrations, &namespace, services, &namespace, endpoints, &namespace];
    ground.apply(&ground.printed(&[&rbac[..], &what_for].concat()).await?).await?;
    is_well(&ground).await?;
    let roles: Api<Role> = ground.api();
    let name = "nobody-services";
    let given = roles.get(name).await?.rules.context("the role allows nothing")?;
    let resource = |rule: &k8s_openapi::api::rbac::v1::PolicyRule| {
        rule.resources.iter().flatten().cloned().collect::<Vec<_>>()
    };
    let fewer: Vec<_> = given.iter().filter(|rule| resource(rule) != ["secrets"]).collect();
    ensure!(fewer.len() + 1 == given.len(), "no rule of secrets: {given:?}");
    roles.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "rules": fewer }))).await?;
    let lacks = format!("may not create secrets in namespace {namespace}");
    says(&ground, &admin, &[&lacks, &format!("`sterna rbac --services {namespace}`")]).await?;
    roles.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "rules": given }))).await?;
    is_well(&ground).await?;
    kept(&ground, &admin, here)?;

    // What would refuse a stand-in.
    for level in ["baseline", "restricted"] {
        enforces(&ground, level).await?;
        is_well(&ground).await?;
    }
    let quotas: Api<ResourceQuota> = ground.api();
    let hard = json!({ "pods": "0" });
    let quota = json!({ "metadata": { "name": "small" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &ResourceQuota::deserialize(quota)?).await?;
    // As the controller that counts would.
    let counted = json!({ "status": { "hard": hard, "used": { "pods": "0" } } });
    quotas.patch_status("small", &PatchParams::default(), &Patch::Merge(counted)).await?;
    let words = ["the namespace takes no stand-in: ", "exceeded quota: small", "describe quota"];
    says(&ground, &admin, &words).await?;
    quotas.delete("small", &DeleteParams::default()).await?;
    is_well(&ground).await?;
    ensure!(ground.api::<Pod>().list(&ListParams::default()).await?.items.is_empty(), "a pod was made");

    // What leads nowhere.
    let ports = json!([{ "port": 6379 }]);
    service(&ground, "web", "nginx", json!({ "ports": ports })).await?;
    says(&ground, &admin, &["service web: the inventory has no service `nginx`", "sterna.io/service=NAME"])
        .await?;
    service(&ground, "cache", "redis", json!({ "ports": ports, "selector": { "app": "cache" } })).await?;
    says(&ground, &admin, &["service cache: it has a selector", "edit service cache"]).await?;

    ground.down().await
}
