//! The Helm chart and the plain manifests: what they make, what a real API server says to it, and what the scheduler reads of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sterna_e2e::charts;
use sterna_e2e::process::{Running, bound, run};
use sterna_e2e::sterna::Sterna;
use sterna_executor::identity::Authority;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::timeout;

mod chart {
    pub mod front;
    pub mod ground;
    pub mod plain;
}

use chart::front::PLAIN_FRONT;
use chart::ground::{DEFINITION, Ground, documents, named, of_kind, pod, refused, tools};

/// How long the scheduler may take to do what it is asked for.
const SOON: Duration = Duration::from_secs(60);

/// What the chart has where nothing is put in.
const INVENTORY: &str = include_str!("../../../deploy/chart/files/inventory.toml");
const POLICY: &str = include_str!("../../../deploy/chart/files/policy.toml");

/// The title of the values with which migrations are shown as objects.
const OBJECTS: &str = "migrations as objects";

/// The title of the values with which services are declared.
const SERVICES: &str = "declared services";

/// Values that people may have.
const VARIANTS: [(&str, &str); 7] = [
    ("as it comes", ""),
    (
        "two replicas, each with its own state",
        "replicas: 2\npersistence: {enabled: false}\n\
         authority: {existingSecret: sterna-authority}\napiToken: {existingSecret: sterna-token}\n",
    ),
    (
        "three replicas on one claim",
        "replicas: 3\npersistence: {accessModes: [ReadWriteMany], size: 5Gi, storageClass: shared}\n\
         networkPolicy: {enabled: true, from: [{namespaceSelector: {matchLabels: {team: ops}}}]}\n",
    ),
    (
        "a claim, an account and a name of one's own",
        "persistence: {existingClaim: mine}\nserviceAccount: {create: false, name: mine}\nrbac: {create: false}\n\
         fullnameOverride: tern\nnetworkPolicy: {enabled: true}\nscrape: false\n\
         image: {repository: registry.example/sterna, tag: abc, pullPolicy: Always}\n\
         imagePullSecrets: [{name: pull}]\npriorityClassName: system-cluster-critical\n",
    ),
    (OBJECTS, "migrations: {enabled: true, keep: 7}\n"),
    (SERVICES, "services: {enabled: true}\nimage: {tag: one}\n"),
    ("everything else", EVERYTHING),
];

const EVERYTHING: &str = r#"
policies:
  web.toml: |
    schema_version = 1
    name = "web"
    priority = 2
    mode = "recommend"
    [select]
    services = ["web-*"]
    [[objective.term]]
    metric = "cost_rate"
  all.toml: |
    schema_version = 1
    name = "all"
    [[objective.term]]
    metric = "power"
calibration: ""
settings:
  seed: 9007199254740991
  prometheus: {url: "https://user:p%3Ca%26ss@prometheus.example/<a>&'b'", timeout: 1.5s}
  history: {keep: 30d}
  probes: {interval: 2m}
  leader: {lease: shared, term: 6s}
  extra: |
    [[webhook]]
    url = "https://hooks.example.org/sterna"
    events = ["approval", "breaker"]
    secret_file = "/run/sterna/webhook/secret"
address: "[::]"
port: 8000
apiToken: {existingSecret: token}
env: [{name: STERNA__PROMETHEUS__TIMEOUT, value: 3s}]
service: {type: NodePort, port: 80, annotations: {a: b}}
log: {filter: "debug,kube=info", json: false}
terminationGracePeriodSeconds: 60
podAnnotations: {c: "true"}
podLabels: {d: "1"}
nodeSelector: {disk: fast}
tolerations: [{key: edge, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {d: "1"}}}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {d: "1"}}}]
extraVolumes: [{name: webhook, secret: {secretName: webhook}}]
extraVolumeMounts: [{name: webhook, mountPath: /run/sterna/webhook}]
"#;

#[tokio::test]
async fn the_api_server_takes_what_the_chart_makes_and_restricted_pods_suffice() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let ground = Ground::up().await?;
    for (title, values) in VARIANTS {
        let documents = documents(&charts.render(&ground.namespace, values).await?)?;
        for document in &documents {
            let name = format!("{title}: {} {}", document["kind"], document["metadata"]["name"]);
            let expected = if document["kind"] == DEFINITION { Value::Null } else { json!(ground.namespace) };
            ensure!(document["metadata"]["namespace"] == expected, "{name}: elsewhere");
            ground.would_take(document).await.context(name)?;
        }
        let deployment = of_kind(&documents, "Deployment")?;
        ground.would_take(&pod(deployment)).await.with_context(|| format!("{title}: its pod"))?;
        let budget = of_kind(&documents, "PodDisruptionBudget").is_ok();
        ensure!(budget == deployment["spec"]["replicas"].as_i64().is_some_and(|count| count > 1), "{title}");
    }

    // It would say so if anything were wrong.
    let documents = documents(&charts.render(&ground.namespace, "").await?)?;
    let deployment = of_kind(&documents, "Deployment")?;
    let mut misspelt = deployment.clone();
    misspelt["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = json!("Never");
    refused(ground.would_take(&misspelt).await, "imagePolicy")?;
    let mut wrong = deployment.clone();
    wrong["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = json!(0);
    refused(ground.would_take(&wrong).await, "maxUnavailable")?;
    for (changed, why) in [
        (
            json!({ "privileged": true, "allowPrivilegeEscalation": true }),
            "must not set securityContext.privileged",
        ),
        (json!({ "allowPrivilegeEscalation": true }), "allowPrivilegeEscalation != false"),
        (json!({ "capabilities": {} }), "unrestricted capabilities"),
        (json!({ "runAsUser": 0 }), "runAsUser=0"),
    ] {
        let mut pod = pod(deployment);
        for (key, value) in changed.as_object().context("no object")? {
            pod["spec"]["containers"][0]["securityContext"][key] = value.clone();
        }
        refused(ground.would_take(&pod).await, why)?;
    }
    ground.down().await
}

#[tokio::test]
async fn helm_finds_nothing_to_complain_about() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let chart = charts::chart().display().to_string();
    let told = charts.helm(&["lint", "--strict", &chart]).await?;
    ensure!(told.status.success(), "{}{}", told.stdout, told.stderr);
    let version = env!("CARGO_PKG_VERSION");
    let said: Value = serde_saphyr::from_str(&charts.helm(&["show", "chart", &chart]).await?.stdout)?;
    ensure!(said["appVersion"] == version && said["version"] == version, "not of version {version}: {said}");
    Ok(())
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused_with_their_key() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let fronted =
        |services: &str| format!("front: {{enabled: true, existingSecret: a, services: [{services}]}}");
    let ports = |from: u16, to: u16| {
        let ports = (from..=to).map(|port| format!("{{port: {port}, protocol: tcp, name: p{port}}}"));
        ports.collect::<Vec<_>>().join(", ")
    };
    let many = format!("{{name: a, ports: [{}]}}, {{name: b, ports: [{}]}}", ports(1, 200), ports(1, 57));
    for (values, named) in [
        ("replcas: 2", "replcas"),
        ("replicas: 0", "/replicas"),
        ("replicas: 2", "/persistence/accessModes"),
        ("persistence: {enabled: false}", "/authority/existingSecret"),
        ("persistence: {size: much}", "/persistence/size"),
        ("policies: {sterna.toml: x}", "sterna.toml"),
        ("policies: {a/b.toml: x}", "a/b.toml"),
        ("settings: {prometheus: {url: prometheus}}", "/settings/prometheus/url"),
        ("settings: {seed: 1.5}", "/settings/seed"),
        ("settings: {leader: {term: \"15\"}}", "/settings/leader/term"),
        ("settings: {probe: {}}", "probe"),
        ("settings: {leader: {lease: A_b}}", "/settings/leader/lease"),
        ("migrations: {enabled: true, keep: -1}", "/migrations/keep"),
        ("port: 80", "/port"),
        ("address: localhost", "/address"),
        ("image: {pullPolicy: Sometimes}", "/image/pullPolicy"),
        ("inventory: \"name = \"", "inventory"),
        (
            "front: {enabled: true, services: [{name: a, ports: [{port: 1, protocol: tcp}]}]}",
            "/front/existingSecret",
        ),
        ("front: {enabled: true, existingSecret: a}", "/front/services"),
        ("front: {services: [{name: a, ports: []}]}", "/front/services/0/ports"),
        ("front: {services: [{name: a}]}", "/front/services/0': missing property 'ports'"),
        (
            "front: {services: [{name: a, ports: [{port: 1, protocol: smtp}]}]}",
            "/services/0/ports/0/protocol",
        ),
        ("front: {services: [{name: a, ports: [{port: 0, protocol: tcp}]}]}", "/services/0/ports/0/port"),
        ("front: {services: [{name: a, ports: [{protocol: tcp}]}]}", "/services/0/ports/0': missing"),
        (
            "front: {services: [{name: a, ports: [{port: 1, targetPort: web, protocol: tcp}]}]}",
            "/services/0/ports/0/targetPort",
        ),
        // What one port was said by has no meaning of its own beside several.
        (
            "front: {services: [{name: a, port: 1, protocol: tcp}]}",
            "/front/services/0': additional properties",
        ),
        ("front: {leave: 5s}", "/front/leave"),
        (
            &fronted("{name: a, serviceName: sterna, ports: [{port: 1, protocol: tcp}]}"),
            "of the scheduler: say",
        ),
        (
            &fronted(
                "{name: a, ports: [{port: 1, protocol: tcp}]}, {name: a, serviceName: b, ports: [{port: 2, protocol: tcp}]}",
            ),
            "`a` stands there twice: put all its `ports` into one",
        ),
        (
            &fronted(
                "{name: a, ports: [{port: 1, protocol: tcp}, {port: 1, targetPort: 2, protocol: http}]}",
            ),
            "front.services: `a`: two ports are 1",
        ),
        (
            &fronted(
                "{name: a, ports: [{port: 1, protocol: tcp}, {port: 2, targetPort: 1, protocol: http}]}",
            ),
            "front.services: `a`: two ports lead to its port 1",
        ),
        (
            &fronted("{name: a, ports: [{port: 1, protocol: tcp}, {port: 2, protocol: tcp}]}"),
            "front.services: `a`: two ports are named `tcp`",
        ),
        (&fronted(&many), "there are 257 ports"),
        ("inventory: \"schema_version = 1\"", "inventory"),
        ("inventory: \"name = '../x'\"", "inventory"),
        ("endpoints: ['']", "endpoints"),
        ("endpoints: [Apps]", "endpoints"),
    ] {
        match charts.render("sterna", values).await {
            Ok(_) => bail!("`{values}` was taken"),
            Err(error) => ensure!(error.to_string().contains(named), "`{values}`: no {named} in\n{error}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn rights_are_those_that_sterna_prints() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let sterna = Sterna::built()?;
    for (values, lease, account, more) in [
        ("", "sterna", "sterna", [].as_slice()),
        ("settings: {leader: {lease: one}}\nserviceAccount: {name: two}\n", "one", "two", &[]),
        (
            "migrations: {enabled: true}\nserviceAccount: {name: two}\n",
            "sterna",
            "two",
            &["--migrations", "three"],
        ),
        ("services: {enabled: true, namespace: apps}\n", "sterna", "sterna", &["--services", "apps"]),
        ("endpoints: [apps, shop]\n", "sterna", "sterna", &["--endpoints", "apps", "--endpoints", "shop"]),
    ] {
        let usual = ["rbac", "--namespace", "three", "--lease", lease, "--account", account];
        let printed = sterna.must(&[&usual, more].concat()).await?;
        let rendered = documents(&charts.render("three", values).await?)?;
        let printed = documents(&printed)?;
        for kind in ["ServiceAccount", "Role", "RoleBinding"] {
            let (ours, theirs) = (named(&rendered, kind), named(&printed, kind));
            ensure!(ours == theirs, "{kind}: the chart has {ours:?}, `sterna rbac` prints {theirs:?}");
        }
        if more.contains(&"--endpoints") {
            let settings = &of_kind(&rendered, "ConfigMap")?["data"]["sterna.toml"];
            let wanted = "[kubernetes]\nendpoints = [\"apps\",\"shop\"]\n";
            ensure!(settings.as_str().is_some_and(|text| text.contains(wanted)), "{settings}");
        }
        ensure!(
            of_kind(&rendered, "Deployment")?["spec"]["template"]["spec"]["serviceAccountName"] == account
        );
    }
    let printed = sterna.must(&["rbac", "--front", "--namespace", "three", "--nodes", "edge"]).await?;
    let printed = documents(&printed)?;
    let rendered = documents(&charts.render_of("three", PLAIN_FRONT, &[charts::FRONT]).await?)?;
    let account = of_kind(&printed, "ServiceAccount")?;
    ensure!(of_kind(&rendered, "ServiceAccount")? == account, "{account}");
    let pod = &of_kind(&rendered, "Deployment")?["spec"]["template"]["spec"];
    ensure!(pod["serviceAccountName"] == account["metadata"]["name"], "{pod}");
    // A front asks where nodes are and does nothing else.
    let role = of_kind(&printed, "Role")?;
    ensure!(role["metadata"]["namespace"] == "edge", "{role}");
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    ensure!(role["rules"] == rules && printed.len() == 3, "{printed:?}");
    Ok(())
}

/// Writes files into a folder as the kubelet does: behind links, and replaced all at once.
fn mount(folder: &Path, version: &str, files: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let content = folder.join(version);
    std::fs::create_dir(&content)?;
    for (name, text) in files {
        std::fs::write(content.join(name), text)?;
        if folder.join(name).symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), folder.join(name))?;
        }
    }
    symlink(version, folder.join("..data_tmp"))?;
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    Ok(())
}

fn files(rendered: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let documents = documents(rendered)?;
    Ok(serde_json::from_value(of_kind(&documents, "ConfigMap")?["data"].clone())?)
}

/// The scheduler as in a pod, on files that were mounted; what differs there is told it by its environment.
struct Scheduler {
    _running: Running,
    said: Lines<BufReader<ChildStdout>>,
}

impl Scheduler {
    fn start(ground: &Ground, mounted: &Path, state: &Path, token: &Path) -> anyhow::Result<Self> {
        let mut command = Sterna::built()?.command();
        command.args(["run", "--config"]).arg(mounted.join("sterna.toml"));
        command.env("STERNA__STATE", state).env("STERNA__LISTEN", "127.0.0.1:0");
        command.env("STERNA__API__TOKEN_FILE", token).env("STERNA__PROMETHEUS__URL", "http://127.0.0.1:1");
        command.env("KUBECONFIG", ground.cluster.kubeconfig());
        command.env("STERNA__LEADER__NAMESPACE", &ground.namespace);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Running::start(&mut command)?;
        let out = running.child().stdout.take().context("it has no output")?;
        Ok(Self { _running: running, said: BufReader::new(out).lines() })
    }

    /// Waits until it says so.
    async fn says(&mut self, words: &str) -> anyhow::Result<String> {
        let found = async {
            while let Some(line) = self.said.next_line().await? {
                if line.contains(words) {
                    return Ok(line);
                }
            }
            bail!("it ended and never said `{words}`")
        };
        timeout(SOON, found).await.with_context(|| format!("it does not say `{words}`"))?
    }
}

#[tokio::test]
async fn the_scheduler_reads_what_the_chart_makes_and_reads_it_again() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let ground = Ground::up().await?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef")?;
    for (number, (title, values)) in VARIANTS.into_iter().enumerate() {
        let [mounted, state] = ["files", "state"].map(|name| folder.path().join(format!("{name}-{number}")));
        std::fs::create_dir(&mounted)?;
        // A secret of a webhook is read at the start.
        let values = values.replace("/run/sterna/webhook/secret", &token.display().to_string());
        mount(&mounted, "..1", &files(&charts.render(&ground.namespace, &values).await?)?)?;
        let mut scheduler = Scheduler::start(&ground, &mounted, &state, &token)?;
        let lease = scheduler.says("by the lease").await.with_context(|| title.to_owned())?;
        let name = if title == "everything else" { "shared" } else { "" };
        ensure!(lease.contains(&format!("{}/{name}", ground.namespace)), "{title}: {lease}");
        scheduler.says("continuum  example").await.with_context(|| title.to_owned())?;
        if title == OBJECTS {
            // Its first decision: all that the settings want is begun by then.
            scheduler.says(" UTC ").await.with_context(|| title.to_owned())?;
        }
    }

    // Whoever changes the policy changes the config map, and the kubelet swaps the folder.
    let (mounted, state) = (folder.path().join("files"), folder.path().join("state"));
    std::fs::create_dir(&mounted)?;
    let of =
        |policy: &str| json!({ "inventory": INVENTORY, "policies": { "mine.toml": policy } }).to_string();
    let policy = format!("{POLICY}\n[trigger]\ninterval = \"1s\"\n");
    let first = charts.render(&ground.namespace, &of(&policy)).await?;
    mount(&mounted, "..1", &files(&first)?)?;
    let mut scheduler = Scheduler::start(&ground, &mounted, &state, &token)?;
    scheduler.says("continuum  example").await?;
    let second = charts.render(&ground.namespace, &of(&policy.replace("20%", "30%"))).await?;
    mount(&mounted, "..2", &files(&second)?)?;
    std::fs::remove_dir_all(mounted.join("..1"))?;
    scheduler.says("policy reloaded").await?;
    scheduler.says("hysteresis.min_gain: 20% -> 30%").await?;

    // For that no pod is replaced; for other settings it is.
    let third = charts.render(&ground.namespace, "settings: {history: {keep: 10d}}").await?;
    let [first, second, third] = [first, second, third].map(|rendered| {
        let documents = documents(&rendered)?;
        anyhow::Ok(of_kind(&documents, "Deployment")?["spec"]["template"].clone())
    });
    let first = first?;
    ensure!(first == second? && first != third?);
    ground.down().await
}

#[tokio::test]
async fn an_authority_from_a_secret_is_its_owners_alone() -> anyhow::Result<()> {
    let Some(charts) = tools().await? else { return Ok(()) };
    let values = "authority: {existingSecret: known}\n";
    let documents = documents(&charts.render("sterna", values).await?)?;
    let first = &of_kind(&documents, "Deployment")?["spec"]["template"]["spec"]["initContainers"][0];
    let folder = tempfile::tempdir()?;
    let [secret, state] = ["secret", "state"].map(|name| folder.path().join(name));
    Authority::open(&secret)?;
    for file in ["ca.pem", "ca.key.pem"] {
        // As one of a group reads it in a pod.
        std::fs::set_permissions(secret.join(file), std::fs::Permissions::from_mode(0o440))?;
    }
    let script = first["args"][0].as_str().context("no script")?;
    let script = script
        .replace("/run/sterna/authority", &secret.display().to_string())
        .replace("/var/lib/sterna", &state.display().to_string());
    // Again, as at each start of a pod.
    for _ in 0..2 {
        let mut command = bound(Path::new("/bin/sh"));
        command.args(["-euc", &script]);
        ensure!(run(&mut command).await?.status.success(), "{script}");
        let ours = state.join("example/authority");
        Authority::open(&ours)?;
        for file in ["ca.pem", "ca.key.pem"] {
            ensure!(std::fs::read(ours.join(file))? == std::fs::read(secret.join(file))?, "another {file}");
        }
    }
    Ok(())
}
