//! Helm and kustomize, and the chart and the plain manifests that they are given.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::timeout;

use crate::process::{Finished, bound, run};

/// How long it may take to have both, also where they must be built first, on a busy machine.
const TO_OBTAIN: Duration = Duration::from_secs(3600);
/// Name programs to be used in place of those that are built for the tests.
const LENT: [&str; 2] = ["STERNA_HELM", "STERNA_KUSTOMIZE"];

/// Both programs.
#[derive(Debug, Clone)]
pub struct Charts {
    helm: PathBuf,
    kustomize: PathBuf,
}

/// Why there can be none here, if so.
pub fn unavailable() -> Option<&'static str> {
    let lent = LENT.iter().all(|name| std::env::var_os(name).is_some());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let go = std::env::split_paths(&path).any(|folder| folder.join("go").is_file());
    (!lent && !go).then_some(
        "Go is missing, which builds Helm and kustomize, and STERNA_HELM and STERNA_KUSTOMIZE name none",
    )
}

/// The root of the sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    sources().join("deploy/chart")
}

/// The template of fronts, in the chart.
pub const FRONT: &str = "templates/front.yaml";

/// A folder of plain manifests: `base` is the scheduler's.
pub fn manifests(name: &str) -> PathBuf {
    sources().join("deploy/kustomize").join(name)
}

impl Charts {
    /// Takes those that `STERNA_HELM` and `STERNA_KUSTOMIZE` name, and builds what nobody names, once.
    ///
    /// # Errors
    /// When they can't be built.
    pub async fn obtain() -> anyhow::Result<Self> {
        let [helm, kustomize] = LENT.map(|name| std::env::var_os(name).map(PathBuf::from));
        if let (Some(helm), Some(kustomize)) = (&helm, &kustomize) {
            return Ok(Self { helm: helm.clone(), kustomize: kustomize.clone() });
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/helm");
        let mut command = bound(&script);
        command.arg("programs").stdout(Stdio::piped());
        let told = timeout(TO_OBTAIN, run(&mut command))
            .await
            .context("neither Helm nor kustomize after an hour")?;
        let told = told.with_context(|| format!("can't start {}", script.display()))?;
        if !told.status.success() {
            bail!("{} failed; what it said stands above", script.display());
        }
        let folder = Path::new(told.stdout.trim());
        Ok(Self {
            helm: helm.unwrap_or_else(|| folder.join("helm")),
            kustomize: kustomize.unwrap_or_else(|| folder.join("kustomize")),
        })
    }

    /// Runs Helm to its end.
    ///
    /// # Errors
    /// When it can't be started. That it failed stands in the answer.
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        // Neither the settings nor the plugins of whoever calls.
        let home = tempfile::tempdir()?;
        let mut command = bound(&self.helm);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, home.path());
        }
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(&mut command).await.with_context(|| format!("can't start {}", self.helm.display()))
    }

    /// What the chart makes of values, as a release `sterna` in a namespace.
    ///
    /// # Errors
    /// When Helm or the chart refuses them.
    pub async fn render(&self, namespace: &str, values: &str) -> anyhow::Result<String> {
        self.render_of(namespace, values, &[]).await
    }

    /// The same, of these templates alone where there are any.
    ///
    /// # Errors
    /// As [`Charts::render`].
    pub async fn render_of(
        &self,
        namespace: &str,
        values: &str,
        templates: &[&str],
    ) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), values)?;
        let (chart, values) = (chart().display().to_string(), file.path().display().to_string());
        let mut arguments = vec!["template", "sterna", &chart, "--namespace", namespace, "--values", &values];
        arguments.extend(templates.iter().flat_map(|template| ["--show-only", template]));
        let told = self.helm(&arguments).await?;
        ensure!(told.status.success(), "{}", told.stderr);
        Ok(told.stdout)
    }

    /// What kustomize makes of a folder.
    ///
    /// # Errors
    /// When it refuses it.
    pub async fn build(&self, folder: &Path) -> anyhow::Result<String> {
        let mut command = bound(&self.kustomize);
        command.arg("build").arg(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        let told =
            run(&mut command).await.with_context(|| format!("can't start {}", self.kustomize.display()))?;
        ensure!(told.status.success(), "{}", told.stderr);
        Ok(told.stdout)
    }
}
