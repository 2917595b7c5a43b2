//! What there is: Docker engines and contexts, clusters, a Prometheus with its exporters, local nodes of Sterna.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sterna_daemon::observe::prometheus::Prometheus;
use sterna_daemon::observe::store::{MetricStore as _, StoreError};
use sterna_executor::engine::docker::Engine;
use sterna_policies::load::is_name;
use sterna_policies::quantity::Millis;

use super::exporters::{self, Exporter};

/// Where Prometheus is looked for where nobody says.
pub const USUAL: &str = "http://127.0.0.1:9090";
/// Longest time for one question.
const PATIENCE: Duration = Duration::from_secs(3);
/// The image of the demo's services: a Redis is in it.
pub const DEMO_IMAGE: &str = "sterna-services:latest";

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// The folder of Docker's client.
    pub docker_folder: Option<PathBuf>,
    /// Kubeconfigs.
    pub kubeconfigs: Vec<PathBuf>,
    /// Address of Prometheus, where one was named.
    pub prometheus: Option<String>,
    /// An image that was named.
    pub image: Option<String>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// Version of this host's engine, or why there is none.
    pub engine: Result<String, String>,
    /// An image of which a first service can be started.
    pub image: Option<String>,
    /// Local nodes that there are.
    pub nodes: Vec<LocalNode>,
    /// Docker contexts, by name, with their address.
    pub contexts: BTreeMap<String, String>,
    /// Contexts of kubeconfigs, with their file.
    pub clusters: Vec<(PathBuf, String)>,
    /// Files that could not be read, with the reason.
    pub unread: Vec<String>,
    /// Address of Prometheus.
    pub prometheus: String,
    /// What Prometheus has, by exporter, with what it is good for; or why it can't be asked.
    pub exporters: Result<BTreeMap<Exporter, &'static str>, String>,
}

/// A local node of Sterna.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalNode {
    /// Its continuum.
    pub continuum: String,
    /// Its site.
    pub site: String,
    /// Its name.
    pub node: String,
}

impl Look {
    /// In the usual places.
    pub fn from_environment(prometheus: Option<String>, image: Option<String>) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let kubeconfigs = match set("KUBECONFIG") {
            Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
            None => in_home(".kube/config").into_iter().collect(),
        };
        Self {
            docker_host: set("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned()),
            docker_folder: set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| in_home(".docker")),
            kubeconfigs,
            prometheus,
            image,
        }
    }
}

impl Found {
    /// Looks around. What can't be found is told and left out.
    pub async fn look(look: &Look) -> Self {
        let mut unread = Vec::new();
        let contexts =
            look.docker_folder.as_deref().map(|folder| contexts(folder, &mut unread)).unwrap_or_default();
        let clusters = look.kubeconfigs.iter().flat_map(|file| clusters(file, &mut unread)).collect();
        let (engine, image, nodes) = match tokio::time::timeout(PATIENCE, ask_engine(look)).await {
            Ok(Ok((version, image, nodes))) => (Ok(version), image, nodes),
            Ok(Err(reason)) => (Err(reason), look.image.clone(), Vec::new()),
            Err(_) => (Err("it does not answer".to_owned()), look.image.clone(), Vec::new()),
        };
        let prometheus = look.prometheus.clone().unwrap_or_else(|| USUAL.to_owned());
        let exporters = ask_prometheus(&prometheus).await.map_err(|error| error.to_string());
        Self {
            docker_host: look.docker_host.clone(),
            engine,
            image,
            nodes,
            contexts,
            clusters,
            unread,
            prometheus,
            exporters,
        }
    }

    /// What was found, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.engine {
            Ok(version) => lines.push(format!("docker      engine {version} answers")),
            Err(reason) => lines.push(format!("docker      no engine answers: {reason}")),
        }
        lines.extend(self.docker_host.iter().map(|host| format!("            DOCKER_HOST is {host}")));
        lines
            .extend(self.contexts.iter().map(|(name, host)| format!("            context {name} at {host}")));
        for LocalNode { continuum, site, node } in &self.nodes {
            lines.push(format!("nodes       {node} at {site}, of the continuum {continuum}"));
        }
        for (file, context) in &self.clusters {
            lines.push(format!(
                "kubernetes  context {context} in {}: only named, clusters can't be used yet",
                file.display()
            ));
        }
        match &self.exporters {
            Ok(found) => {
                lines.push(format!("prometheus  {} answers", self.prometheus));
                lines.extend(found.values().map(|about| format!("            {about}")));
                if found.is_empty() {
                    lines.push("            with no exporter that Sterna knows".to_owned());
                }
            }
            Err(reason) => lines.push(format!("prometheus  {reason}")),
        }
        lines.extend(self.unread.iter().map(|line| format!("not read    {line}")));
        lines
    }

    /// Whether Prometheus has what an exporter tells.
    pub fn has(&self, exporter: Exporter) -> bool {
        self.exporters.as_ref().is_ok_and(|found| found.contains_key(&exporter))
    }
}

async fn ask_engine(look: &Look) -> Result<(String, Option<String>, Vec<LocalNode>), String> {
    let engine = Engine::connect().await.map_err(|error| error.to_string())?;
    let version = engine.version().await.map_err(|error| error.to_string())?;
    let image = match &look.image {
        Some(image) => Some(image.clone()),
        // Without an answer there is none.
        None => engine.image_digest(DEMO_IMAGE).await.ok().flatten().map(|_| DEMO_IMAGE.to_owned()),
    };
    let mut nodes = BTreeSet::new();
    for id in engine.labelled("sterna.node").await.unwrap_or_default() {
        let Ok(container) = engine.inspect(&id).await else { continue };
        let labels = container.body.labels.unwrap_or_default();
        // What is no name can't stand in an inventory.
        let label = |name: &str| labels.get(name).filter(|value| is_name(value)).cloned();
        if let (Some(continuum), Some(site), Some(node)) =
            (label("sterna.continuum"), label("sterna.site"), label("sterna.node"))
        {
            nodes.insert(LocalNode { continuum, site, node });
        }
    }
    Ok((version, image, nodes.into_iter().collect()))
}

async fn ask_prometheus(url: &str) -> Result<BTreeMap<Exporter, &'static str>, StoreError> {
    let patience = Millis::from_f64(PATIENCE.as_secs_f64() * 1e3).unwrap_or_default();
    let store = Prometheus::new(url, patience)?;
    let now = store.now().await?;
    let five_minutes = Millis::from_micros(300_000_000_000);
    let answer = store.instant(&exporters::query(), now, five_minutes).await?;
    let metrics = answer.rows.iter().filter_map(|row| row.labels.get(exporters::LABEL));
    Ok(metrics.filter_map(|metric| exporters::of(metric)).collect())
}

/// A context as Docker's client keeps it.
#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
}

/// Docker contexts, by name, with their address.
fn contexts(docker: &Path, unread: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut contexts = BTreeMap::new();
    // A client that was never given a context has no such folder.
    let Ok(folders) = std::fs::read_dir(docker.join("contexts/meta")) else { return contexts };
    let mut files: Vec<PathBuf> = folders.flatten().map(|folder| folder.path().join("meta.json")).collect();
    files.sort();
    for file in files {
        let meta = std::fs::read_to_string(&file)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<Meta>(&text).map_err(|error| error.to_string()));
        match meta {
            Ok(meta) => {
                let host = meta.endpoints.get("docker").and_then(|endpoint| endpoint.host.clone());
                contexts.extend(host.map(|host| (meta.name, host)));
            }
            Err(reason) => unread.push(format!("{}: {reason}", file.display())),
        }
    }
    contexts
}

/// A kubeconfig, as far as it is looked at.
#[derive(Deserialize)]
struct KubeConfig {
    contexts: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Contexts of a kubeconfig, with its path.
fn clusters(file: &Path, unread: &mut Vec<String>) -> Vec<(PathBuf, String)> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            unread.push(format!("{}: {error}", file.display()));
            return Vec::new();
        }
    };
    match serde_saphyr::from_str::<KubeConfig>(&text) {
        Ok(config) => {
            config.contexts.unwrap_or_default().into_iter().map(|one| (file.to_owned(), one.name)).collect()
        }
        Err(error) => {
            let reason = error.to_string();
            unread.push(format!("{}: {}", file.display(), reason.lines().next().unwrap_or_default()));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_contexts_are_read_and_broken_ones_told() {
        let folder = tempfile::tempdir().unwrap();
        let meta = |id: &str, text: &str| {
            let inner = folder.path().join("contexts/meta").join(id);
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::write(inner.join("meta.json"), text).unwrap();
        };
        meta(
            "1",
            r#"{"Name":"edge","Metadata":{},"Endpoints":{"docker":{"Host":"ssh://root@edge","SkipTLSVerify":false}}}"#,
        );
        meta("2", r#"{"Name":"cluster","Endpoints":{"kubernetes":{}}}"#);
        meta("3", "{");
        let mut unread = Vec::new();
        let found = contexts(folder.path(), &mut unread);
        assert_eq!(found, BTreeMap::from([("edge".to_owned(), "ssh://root@edge".to_owned())]));
        assert!(unread.len() == 1 && unread[0].contains("/3/meta.json: "), "{unread:?}");
        assert!(contexts(Path::new("/dev/null"), &mut unread).is_empty());
    }

    #[test]
    fn contexts_of_kubeconfigs_are_named_whatever_else_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let text = "apiVersion: v1\nkind: Config\nclusters:\n- cluster: {server: https://10.0.0.1:6443}\n  name: k3s\n\
                    contexts:\n- context:\n    cluster: k3s\n    user: admin\n  name: k3s-admin\n- name: other\n  context: {}\n\
                    current-context: k3s-admin\nusers: []\n";
        std::fs::write(&file, text).unwrap();
        let mut unread = Vec::new();
        let names: Vec<String> = clusters(&file, &mut unread).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["k3s-admin", "other"]);
        assert!(clusters(&folder.path().join("absent"), &mut unread).is_empty() && unread.is_empty());
        std::fs::write(&file, "contexts: [\n").unwrap();
        assert!(clusters(&file, &mut unread).is_empty());
        assert_eq!(unread.len(), 1, "{unread:?}");
    }
}
