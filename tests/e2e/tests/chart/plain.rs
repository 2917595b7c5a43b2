//! The plain manifests, for who has no Helm: all are made of the chart, and kustomize puts them together.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sterna_daemon::settings::Settings;
use sterna_e2e::charts::{self, Charts, manifests};
use sterna_e2e::sterna::Sterna;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::front::PLAIN_FRONT;
use super::ground::{DEFINITION, Ground, documents, named, of_kind, pod, tools};

const UPDATE: &str = "STERNA_UPDATE_MANIFESTS";

/// The namespace that stands in the manifests.
const HOME: &str = "sterna";

/// The image of an overlay's own.
const REPOSITORY: &str = "registry.example/sterna";
const TAG: &str = "one";

/// What may be added to the scheduler. Each is what the chart has more with the values of that name.
const COMPONENTS: [&str; 3] = ["endpoints", "migrations", "services"];

/// The kinds of objects that `sterna crd` prints, by the component that brings them.
const KINDS: [&str; 2] = ["migrations", "services"];

/// The values for a component in a namespace.
fn values(component: &str, namespace: &str) -> String {
    match component {
        "endpoints" => format!("endpoints: [{namespace}]\n"),
        other => format!("{other}: {{enabled: true}}\n"),
    }
}

/// Holds a file to what it has to be, and writes it where that is asked for.
fn renewed(file: &Path, what: &str, text: &str) -> anyhow::Result<()> {
    let renew = format!("{UPDATE}=1 cargo test --workspace --test chart");
    let wanted = format!("# {what}. Renew it with {renew}\n{text}");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file, &wanted)?;
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    ensure!(written == wanted, "{} is not: {what}; renew it with {renew}", file.display());
    Ok(())
}

/// What `sterna crd` prints of a kind, which is what the chart's file of it holds.
async fn definition(kind: &str) -> anyhow::Result<String> {
    let printed = Sterna::built()?.must(&["crd", kind]).await?;
    renewed(&charts::chart().join(format!("files/{kind}.yaml")), "What `sterna crd` prints", &printed)?;
    Ok(printed)
}

/// Holds all plain manifests to what the chart makes, once for all tests.
async fn written(charts: &Charts) -> anyhow::Result<()> {
    static WRITTEN: OnceCell<()> = OnceCell::const_new();
    WRITTEN.get_or_try_init(|| async { write(charts).await }).await.copied()
}

async fn write(charts: &Charts) -> anyhow::Result<()> {
    // The chart has them in it.
    for kind in KINDS {
        definition(kind).await?;
    }
    let base = charts.render(HOME, "").await?;
    renewed(&manifests("base/sterna.yaml"), "What deploy/chart makes of its default values", &base)?;
    let front = charts.render_of(HOME, PLAIN_FRONT, &[charts::FRONT]).await?;
    renewed(&manifests("front/front.yaml"), "What deploy/chart makes of fronts of one service", &front)?;
    let usual = documents(&base)?;
    for component in COMPONENTS {
        let all = documents(&charts.render(HOME, &values(component, HOME)).await?)?;
        let (added, variables) = more(&usual, all)?;
        let texts = added.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
        let what = format!("What deploy/chart has more with `{component}`");
        renewed(&manifests(component).join(format!("{component}.yaml")), &what, &texts.join("---\n"))?;
        let patch = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "sterna", "namespace": HOME },
            "spec": { "template": { "spec": { "containers": [{ "name": "sterna", "env": variables }] } } },
        });
        let what = format!("What deploy/chart says in its settings with `{component}`, as variables");
        renewed(&manifests(component).join("settings.yaml"), &what, &serde_saphyr::to_string(&patch)?)?;
    }
    Ok(())
}

/// What the chart has more than by default: objects, and variables that say what its settings say more.
fn more(usual: &[Value], mut all: Vec<Value>) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let mut settings = table(&all)?;
    let kubernetes = settings.remove("kubernetes").context("the settings say nothing of it")?;
    ensure!(settings == table(usual)?, "the settings say something else, too: {settings}");
    let variables = variables(kubernetes.as_table().context("no table")?)?;

    let known = by_name(usual)?;
    let added = all.extract_if(.., |one| !known.contains_key(&title(one))).collect();
    ensure!(by_name(&all)? == known, "something else is changed, too");
    Ok((added, variables))
}

/// The settings in a ConfigMap.
fn table(documents: &[Value]) -> anyhow::Result<toml::Table> {
    let files = named(documents, "ConfigMap");
    let text = files.get("sterna").and_then(|files| files["data"]["sterna.toml"].as_str());
    Ok(text.context("no settings")?.parse()?)
}

/// `[kubernetes]` as variables of a container.
fn variables(kubernetes: &toml::Table) -> anyhow::Result<Vec<Value>> {
    let mut variables = Vec::new();
    for (key, value) in kubernetes {
        let text = match value {
            // As by default, and so an overlay's own settings may say another number.
            _ if key == "keep" => continue,
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(names) => {
                names.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => bail!("no variable for {key} = {other}"),
        };
        let name = format!("STERNA__KUBERNETES__{}", key.to_uppercase());
        // Where an overlay puts the pod, and so the rights.
        let home =
            json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } });
        variables.push(if text == HOME { home } else { json!({ "name": name, "value": text }) });
    }
    Ok(variables)
}

fn title(document: &Value) -> String {
    format!("{} {}", document["kind"], document["metadata"]["name"])
}

/// All objects but for how the scheduler is told its settings.
fn by_name(documents: &[Value]) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for document in documents {
        let mut one = document.clone();
        if one["metadata"]["name"] == "sterna" && one["kind"] == "ConfigMap" {
            one["data"].as_object_mut().context("no files")?.remove("sterna.toml");
        } else if one["metadata"]["name"] == "sterna" && one["kind"] == "Deployment" {
            let template = &mut one["spec"]["template"];
            let annotations = template["metadata"]["annotations"].as_object_mut();
            annotations.context("no annotations")?.remove("sterna/settings");
            let variables =
                template["spec"]["containers"][0]["env"].as_array_mut().context("no variables")?;
            variables.retain(|one| {
                !one["name"].as_str().is_some_and(|name| name.starts_with("STERNA__KUBERNETES__"))
            });
        }
        ensure!(all.insert(title(document), one).is_none(), "{} is there twice", title(document));
    }
    Ok(all)
}

#[tokio::test]
async fn definitions_are_those_that_sterna_prints() -> anyhow::Result<()> {
    let printed = [definition(KINDS[0]).await?, definition(KINDS[1]).await?];
    let Some(charts) = tools().await? else { return Ok(()) };
    for (kind, printed) in KINDS.into_iter().zip(printed) {
        let all = documents(&charts.render("sterna", &values(kind, HOME)).await?)?;
        let mut definition = of_kind(&all, DEFINITION)?.clone();
        ensure!(definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", "{definition}");
        definition["metadata"].as_object_mut().context("no metadata")?.remove("annotations");
        ensure!(vec![definition] == documents(&printed)?, "the chart has another one of {kind}");
    }
    for (values, wanted) in [
        ("migrations: {enabled: true}\n", "[kubernetes]\nmigrations = \"sterna\"\nkeep = 50\n"),
        (
            "services: {enabled: true}\nimage: {tag: one}\n",
            "[kubernetes]\nservices = \"sterna\"\nstand_in_image = \"sterna-node:one\"\n",
        ),
    ] {
        let all = documents(&charts.render("sterna", values).await?)?;
        let settings = &of_kind(&all, "ConfigMap")?["data"]["sterna.toml"];
        ensure!(settings.as_str().is_some_and(|text| text.contains(wanted)), "{settings}");
    }
    Ok(())
}

/// A copy of all plain manifests, beside which overlays may stand.
fn copied() -> anyhow::Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for name in ["base", "front"].into_iter().chain(COMPONENTS) {
        let to = copy.path().join(name);
        std::fs::create_dir(&to)?;
        for file in std::fs::read_dir(manifests(name))? {
            let file = file?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(copy)
}

/// What kustomize makes of an overlay beside the copies.
async fn overlay(charts: &Charts, copy: &TempDir, text: &str) -> anyhow::Result<Vec<Value>> {
    let folder = copy.path().join("overlay");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("kustomization.yaml"), text)?;
    documents(&charts.build(&folder).await?)
}

#[tokio::test]
async fn plain_manifests_are_the_chart_with_its_default_values() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    written(&charts).await?;
    let sorted = |text: &str| {
        let mut documents = documents(text)?;
        documents.sort_by_key(title);
        anyhow::Ok(documents)
    };
    for (name, file) in [("base", "base/sterna.yaml"), ("front", "front/front.yaml")] {
        let written = std::fs::read_to_string(manifests(file))?;
        ensure!(
            sorted(&charts.build(&manifests(name)).await?)? == sorted(&written)?,
            "kustomize changes {name}"
        );
    }
    let copy = copied()?;
    let own = "resources: [../base]\nnamespace: other\npatches:\n\
               - target: {kind: ConfigMap, name: sterna}\n  patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    \
               metadata: {name: sterna}\n    data: {policy.toml: mine}\n";
    let other = overlay(&charts, &copy, own).await?;
    ensure!(other.iter().all(|document| document["metadata"]["namespace"] == "other"), "{other:?}");
    ensure!(of_kind(&other, "RoleBinding")?["subjects"][0]["namespace"] == "other", "{other:?}");
    let files = &of_kind(&other, "ConfigMap")?["data"];
    ensure!(files["policy.toml"] == "mine" && files["sterna.toml"].is_string(), "{files}");
    Ok(())
}

/// What the scheduler reads of its file and its variables.
fn settings(documents: &[Value], folder: &Path) -> anyhow::Result<Settings> {
    let file = folder.join("sterna.toml");
    std::fs::write(&file, table(documents)?.to_string())?;
    let deployments = named(documents, "Deployment");
    let deployment = deployments.get("sterna").context("no scheduler")?;
    let mut environment = Vec::new();
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    for variable in variables.into_iter().flatten() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => &deployment["metadata"]["namespace"],
            _ => &variable["value"],
        };
        let [name, value] = [&variable["name"], value].map(Value::as_str);
        environment.push((name.context("no name")?.to_owned(), value.context("no value")?.to_owned()));
    }
    Ok(Settings::load_with(&file, environment)?)
}

/// Each alone, and all together in either order, beside fronts.
#[tokio::test]
async fn components_make_of_the_base_what_the_chart_makes() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    written(&charts).await?;
    let ground = Ground::up().await?;
    let namespace = &ground.namespace;
    let copy = copied()?;
    let mut backwards = COMPONENTS;
    backwards.reverse();
    let each = COMPONENTS.chunks(1).map(|one| (one, false));
    for (components, fronts) in each.chain([(&COMPONENTS[..], true), (&backwards[..], true)]) {
        let named_so = components.join(" ");
        let with_fronts = if fronts { ", ../front" } else { "" };
        let paths: Vec<String> = components.iter().map(|name| format!("../{name}")).collect();
        let text = format!(
            "resources: [../base{with_fronts}]\ncomponents: [{}]\nnamespace: {namespace}\n\
             images: [{{name: sterna-node, newName: {REPOSITORY}, newTag: {TAG}}}]\n",
            paths.join(", ")
        );
        let built = overlay(&charts, &copy, &text).await?;

        let mut values: String = components.iter().map(|name| values(name, namespace)).collect();
        values += &format!("image: {{repository: {REPOSITORY}, tag: {TAG}}}\n");
        if fronts {
            values += PLAIN_FRONT;
        }
        let rendered = documents(&charts.render(namespace, &values).await?)?;
        let [ours, theirs] = [by_name(&built)?, by_name(&rendered)?];
        ensure!(ours.keys().eq(theirs.keys()), "{named_so}: {:?}, {:?}", ours.keys(), theirs.keys());
        for (name, one) in &ours {
            ensure!(*one == theirs[name], "{named_so}: {name}: {one}, and the chart's is {}", theirs[name]);
        }
        let folder = tempfile::tempdir()?;
        let [ours, theirs] = [settings(&built, folder.path())?, settings(&rendered, folder.path())?];
        ensure!(ours == theirs, "{named_so}: {ours:?}, and the chart's are {theirs:?}");

        for document in &built {
            let name = format!("{named_so}: {}", title(document));
            ground.would_take(document).await.context(name)?;
        }
        for (name, deployment) in named(&built, "Deployment") {
            ground
                .would_take(&pod(deployment))
                .await
                .with_context(|| format!("{named_so}: pod of {name}"))?;
        }
    }

    // By themselves they would be rights of nobody.
    for component in COMPONENTS {
        let alone = format!("components: [../{component}]\nnamespace: {namespace}\n");
        ensure!(overlay(&charts, &copy, &alone).await.is_err(), "{component} needs no base");
    }
    ground.down().await
}
