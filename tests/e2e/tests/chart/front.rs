//! What the chart makes for clients of services that move: fronts, and a Kubernetes service for each service behind them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sterna_e2e::charts;
use sterna_e2e::process::{bound, run};
use sterna_executor::identity::{Authority, Credentials, Role};
use sterna_executor::traffic::config::FrontConfig;

use super::ground::{Ground, documents, named, of_kind, pod, tools};
use crate::INVENTORY;

/// Fronts, with as little and with as much as may be said.
const FRONTS: [(&str, &str); 2] = [
    ("fronts of one service", PLAIN_FRONT),
    (
        "fronts and everything else",
        r#"
address: "[::]"
scrape: false
front:
  enabled: true
  existingSecret: mine
  services:
    - {name: redis, ports: [{port: 6379, protocol: redis, hold: 10s, connections: 100, held: 50}]}
    - name: web
      serviceName: shop
      type: NodePort
      annotations: {a: b}
      ports:
        - {port: 80, targetPort: 8104, protocol: http}
        - {port: 8104, targetPort: 80, protocol: http, name: administration}
        - {port: 9121, protocol: tcp, held: 7}
    - {name: books, ports: [{port: 5432, protocol: tcp}], type: LoadBalancer}
  replicas: 1
  drain: 80ms
  leave: 40
  port: 9000
  serviceAccount: {create: false, name: mine}
  podAnnotations: {c: "true"}
  podLabels: {d: "1"}
imagePullSecrets: [{name: pull}]
nodeSelector: {disk: fast}
tolerations: [{key: edge, operator: Exists, effect: NoSchedule}]
"#,
    ),
];

/// Where clients connect to, and the port of the service in the inventory that they reach.
const LEADS: [(&str, u16, (&str, u16)); 5] = [
    ("redis", 6379, ("redis", 6379)),
    ("shop", 80, ("web", 8104)),
    ("shop", 8104, ("web", 80)),
    ("shop", 9121, ("web", 9121)),
    ("books", 5432, ("books", 5432)),
];

/// What the plain manifests of fronts are made of.
pub const PLAIN_FRONT: &str = "front: {enabled: true, existingSecret: sterna-front, \
                               services: [{name: redis, ports: [{port: 6379, protocol: redis}]}]}\n";

#[tokio::test]
async fn the_api_server_takes_fronts_and_each_service_leads_to_theirs_alone() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let ground = Ground::up().await?;
    for (title, values) in FRONTS {
        let all = documents(&charts.render(&ground.namespace, values).await?)?;
        let front = documents(&charts.render_of(&ground.namespace, values, &[charts::FRONT]).await?)?;
        for document in &all {
            let name = format!("{title}: {} {}", document["kind"], document["metadata"]["name"]);
            ensure!(document["metadata"]["namespace"] == json!(ground.namespace), "{name}: elsewhere");
            ground.would_take(document).await.context(name)?;
        }
        let pod = pod(of_kind(&front, "Deployment")?);
        ground.would_take(&pod).await.with_context(|| format!("{title}: its pod"))?;
        let labels = |selector: &Value, pod: &Value| {
            let selector = selector.as_object().into_iter().flatten();
            selector.clone().count() > 0
                && selector.clone().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        };
        for document in all.iter().filter(|document| document["kind"] == "Service") {
            let name = &document["metadata"]["name"];
            let leads = labels(&document["spec"]["selector"], &pod);
            ensure!(leads != (*name == "sterna"), "{title}: {name} leads to fronts: {leads}");
        }

        // What is mounted is read, by the names that users know.
        let folder = tempfile::tempdir()?;
        let data = of_kind(&front, "ConfigMap")?["data"].clone();
        for (name, text) in serde_json::from_value::<BTreeMap<String, String>>(data)? {
            std::fs::write(folder.path().join(name), text)?;
        }
        let read = FrontConfig::load(&folder.path().join("front.toml"))?;
        for (service, port, target) in LEADS.iter().take(read.services.len()) {
            let led = led(&named(&all, "Service"), &pod, service, *port)?;
            let found = read.services.iter().find(|one| u64::from(one.listen.port()) == led);
            let found = found.with_context(|| format!("{title}: nothing listens behind {service}:{port}"))?;
            ensure!((found.name.as_str(), found.port) == *target, "{title}: {service}:{port}: {found:?}");
        }
        let ends = pod["spec"]["terminationGracePeriodSeconds"].as_u64().context("it has no time to end")?;
        ensure!(Duration::from_secs(ends) > read.leave, "{title}: killed before clients have left");
    }
    // Each kind is asked for what it alone is: a budget for one replica would keep it from ever being evicted.
    let [one, two] = [1, 0].map(|at| charts.render_of("sterna", FRONTS[at].1, &[charts::FRONT]));
    ensure!(of_kind(&documents(&one.await?)?, "PodDisruptionBudget").is_err());
    of_kind(&documents(&two.await?)?, "PodDisruptionBudget")?;

    // For other settings the pods are replaced. An inventory is read again when it changes.
    let mut templates = Vec::new();
    let inventory = json!({ "inventory": format!("{INVENTORY}\n# more\n") }).to_string();
    for more in ["{}", r#"{"policies": {"a.toml": "x"}}"#, &inventory, r#"{"address": "[::]"}"#] {
        let values = merged(PLAIN_FRONT, more)?;
        let rendered = documents(&charts.render_of("sterna", &values, &[charts::FRONT]).await?)?;
        templates.push(of_kind(&rendered, "Deployment")?["spec"]["template"].clone());
    }
    ensure!(templates[..3].iter().all(|template| *template == templates[0]) && templates[0] != templates[3]);
    ground.down().await
}

/// The port of a pod that a port of a Kubernetes service leads to.
fn led(services: &BTreeMap<&str, &Value>, pod: &Value, service: &str, port: u16) -> anyhow::Result<u64> {
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let service = services.get(service).with_context(|| format!("no service {service}"))?;
    let entry = entries(&service["spec"]["ports"]).into_iter().find(|one| one["port"] == port);
    let target = entry.with_context(|| format!("no port {port}: {service}"))?["targetPort"].clone();
    let ports = entries(&pod["spec"]["containers"][0]["ports"]);
    let found = ports.iter().find(|one| one["name"] == target);
    found.and_then(|one| one["containerPort"].as_u64()).with_context(|| format!("{port} leads to {target}"))
}

/// A port's number in the pod may change, and what a Kubernetes service leads to by its name never does.
#[tokio::test]
async fn a_port_that_is_added_changes_no_name_of_another() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let mut before = BTreeMap::new();
    for ports in ["{port: 80, protocol: http}", "{port: 81, protocol: tcp}, {port: 80, protocol: http}"] {
        let values = format!(
            "front: {{enabled: true, existingSecret: a, services: [{{name: one, ports: [{ports}]}}, \
             {{name: two, ports: [{{port: 80, protocol: http}}]}}]}}\n"
        );
        let rendered = documents(&charts.render_of("sterna", &values, &[charts::FRONT]).await?)?;
        let services = named(&rendered, "Service");
        let mut now = BTreeMap::new();
        for (name, service) in services {
            for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                now.insert((name.to_owned(), port["port"].to_string()), port["targetPort"].clone());
            }
        }
        ensure!(before.iter().all(|(key, target)| now.get(key) == Some(target)), "{before:?}, {now:?}");
        before = now;
    }
    ensure!(before.len() == 3, "{before:?}");
    Ok(())
}

/// Two sets of values as one.
fn merged(one: &str, other: &str) -> anyhow::Result<String> {
    let mut values: BTreeMap<String, Value> = serde_saphyr::from_str(one)?;
    values.extend(serde_saphyr::from_str::<BTreeMap<String, Value>>(other)?);
    Ok(serde_json::to_string(&values)?)
}

#[tokio::test]
async fn a_fronts_identity_from_a_secret_is_its_owners_alone() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let documents = documents(&charts.render_of("sterna", PLAIN_FRONT, &[charts::FRONT]).await?)?;
    let first = &of_kind(&documents, "Deployment")?["spec"]["template"]["spec"]["initContainers"][0];
    let folder = tempfile::tempdir()?;
    let [authority, secret, own] = ["authority", "secret", "own"].map(|name| folder.path().join(name));
    Authority::open(&authority)?.issue(&Role::Front)?.store(&secret)?;
    std::fs::create_dir(&own)?;
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        // As one of a group reads it in a pod.
        std::fs::set_permissions(secret.join(file), std::fs::Permissions::from_mode(0o440))?;
    }
    ensure!(Credentials::load(&secret).is_err(), "what others may read is taken for a secret");
    let script = first["args"][0].as_str().context("no script")?;
    let script = script
        .replace("/run/sterna/secret", &secret.display().to_string())
        .replace("/run/sterna/identity", &own.display().to_string());
    // Again, as when the container is started again in the same pod.
    for _ in 0..2 {
        let mut command = bound(Path::new("/bin/sh"));
        command.args(["-euc", &script]);
        ensure!(run(&mut command).await?.status.success(), "{script}");
        ensure!(matches!(Credentials::load(&own)?.role()?, Role::Front));
    }
    Ok(())
}
