//! Containers with an engine of their own in them and no agent: what Sterna is compared with.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sterna_e2e::docker::{self, docker};
use sterna_e2e::guardian::Guardian;
use sterna_e2e::process::{self, bound};
use sterna_e2e::zoo::eventually;

use crate::table::progress;

/// Runs the engine: the same as on a node.
const BOOT: &str = include_str!("../../../deploy/node/boot");
const BOOT_PATH: &str = "/usr/lib/sterna/boot";
/// What the boot script finds in the place of the agent.
const NO_AGENT: &str = "#!/bin/sh\nexec sleep infinity\n";
/// The engine with a checkpoint API that restores.
const API_SUITE: &str = "trixie";
const API_PACKAGES: &str = include_str!("../engine/packages");
const API_DAEMON: &str = include_str!("../engine/daemon.json");
const API_IMAGE: &str = "sterna-bench-engine";
/// The configuration of an engine that has nothing of Sterna's.
pub const PLAIN_DAEMON: &str =
    r#"{ "hosts": ["unix:///var/run/docker.sock"], "storage-driver": "overlay2", "log-level": "warn" }"#;
/// How long an engine may take to come up.
const TO_START: Duration = Duration::from_secs(60);

/// Where the sources are: this program is run from them.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a program to its end, what it says going through to ours; gives its standard output.
async fn must(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = bound(program);
    let finished = process::run(command.args(arguments).stdout(Stdio::piped())).await;
    let finished = finished.with_context(|| format!("can't start {}", program.display()))?;
    let what = program.display();
    ensure!(finished.status.success(), "{what} failed ({}); what it said stands above", finished.status);
    Ok(finished.stdout)
}

/// Has the host's engine hold the image of an engine with Docker's checkpoint API; gives its name. Built once, which takes a minute
/// or two, and kept in a cache outside the sources.
///
/// # Errors
/// When it can't be built: not root, no Debian mirror, no engine.
pub async fn api_image() -> anyhow::Result<String> {
    let rootfs = sources().join("deploy/node/rootfs");
    let script = std::fs::read_to_string(&rootfs).with_context(|| rootfs.display().to_string())?;
    let recipe = blake3::hash(format!("{API_SUITE}\0{API_PACKAGES}\0{script}").as_bytes()).to_hex();
    let name = format!("{API_IMAGE}:{}", &recipe[..16]);
    if docker(&["image", "inspect", "--format", "{{.Id}}", &name]).await.is_ok() {
        return Ok(name);
    }
    let cache = cache()?.join("bench");
    std::fs::create_dir_all(&cache)?;
    let lock = std::fs::File::create(cache.join("lock"))?;
    lock.lock()?;
    let tar = cache.join(format!("{}.tar", &recipe[..16]));
    if !tar.exists() {
        progress(&format!("building {name} from Debian {API_SUITE}, once (a minute or two)"));
        let packages = sources().join("tests/bench/engine/packages");
        let arguments = ["build", API_SUITE, &packages.display().to_string(), &tar.display().to_string()];
        must(&rootfs, &arguments).await?;
    }
    docker(&["import", &tar.display().to_string(), &name]).await?;
    Ok(name)
}

fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".cache"));
    variable("STERNA_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("sterna")))
        .context("neither STERNA_CACHE nor HOME is set: where should images be kept?")
}

/// How a container may run an engine of its own here: found by trying, as Sterna does for its nodes.
async fn privilege(image: &str) -> anyhow::Result<Vec<&'static str>> {
    let listed = [
        "--cap-add=ALL",
        "--cap-drop=SYS_RESOURCE",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=systempaths=unconfined",
    ];
    let devices = [("/dev/fuse", "--device=/dev/fuse"), ("/dev/net/tun", "--device=/dev/net/tun")];
    let devices = devices.into_iter().filter(|(path, _)| Path::new(path).exists()).map(|(_, option)| option);
    let mut last = None;
    for options in [vec!["--privileged"], listed.into_iter().chain(devices).collect()] {
        let mut arguments = vec!["run", "--rm", "--network=none", "--cgroupns=private"];
        arguments.extend(&options);
        arguments.extend([image, "mount", "-o", "remount,rw,bind", "/sys"]);
        match docker(&arguments).await {
            Ok(_) => return Ok(options),
            Err(error) => last = Some(error),
        }
    }
    Err(last
        .unwrap_or_else(|| anyhow::anyhow!("nothing was tried"))
        .context("no engine can be run in a container"))
}

/// Containers that run an engine each. Dropped, they are removed, also when this process is killed.
#[derive(Debug)]
pub struct Nested {
    names: Vec<String>,
    guardian: Guardian,
}

impl Nested {
    /// Brings up engines with Docker's checkpoint API, with the image of the services in each.
    ///
    /// # Errors
    /// When the image can't be made or an engine does not come up.
    pub async fn with_api(names: &[&str]) -> anyhow::Result<Self> {
        let image = api_image().await?;
        let nested = Self::up(names, &image, Some(API_DAEMON)).await?;
        nested.give_services().await?;
        Ok(nested)
    }

    /// Brings up engines from an image that a node can be made of, `daemon` being their configuration where it is another one.
    ///
    /// # Errors
    /// When an engine does not come up.
    pub async fn up(names: &[&str], image: &str, daemon: Option<&str>) -> anyhow::Result<Self> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let options = privilege(image).await?;
        let guardian = Guardian::over_containers(&names, BOOT_PATH)?;
        let nested = Self { names, guardian };
        for name in &nested.names {
            // A life before may have been killed together with its guardian.
            remove(name).await?;
            start(name, image, &options, daemon).await.with_context(|| format!("container {name}"))?;
        }
        for name in &nested.names {
            let version = ["exec", name, "docker", "version", "--format", "{{.Server.Version}}"];
            eventually(TO_START, || async { docker(&version).await }).await.context(name.clone())?;
        }
        Ok(nested)
    }

    /// Gives each engine the image of the services.
    ///
    /// # Errors
    /// When it can't be given.
    pub async fn give_services(&self) -> anyhow::Result<()> {
        let image = docker::service_image().await?;
        for name in &self.names {
            // Both names: by the first it is looked for, by the second inventories call it.
            let script =
                "docker save \"$1\" sterna-services:latest | docker exec --interactive \"$2\" docker load";
            must(Path::new("sh"), &["-c", script, "sh", &image, name]).await?;
        }
        Ok(())
    }

    /// What the engines are.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn version(&self) -> anyhow::Result<String> {
        let Some(first) = self.names.first() else { bail!("there is no engine") };
        let script = "echo Docker $(docker version --format '{{.Server.Version}}'), \
                      CRIU $(criu --version | sed -n 's/^Version: //p'), $(runc --version | head -n 1)";
        docker(&["exec", first, "sh", "-c", script]).await
    }

    /// Takes them down.
    ///
    /// # Errors
    /// When one can't be removed.
    pub async fn down(mut self) -> anyhow::Result<()> {
        for name in &self.names {
            remove(name).await?;
        }
        self.guardian.only_folder();
        Ok(())
    }
}

async fn start(name: &str, image: &str, options: &[&str], daemon: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = vec!["create", "--name", name, "--hostname", name, "--cgroupns=private"];
    arguments.extend(["--tmpfs=/run:mode=755", "--shm-size=3g", "--volume=/var/lib/docker"]);
    arguments.extend(options);
    arguments.extend([image, "/usr/bin/tini", "--", BOOT_PATH]);
    docker(&arguments).await?;
    let files = tempfile::tempdir()?;
    let put = |path: &str, content: &str, mode| {
        let path = files.path().join(path.trim_start_matches('/'));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
    };
    put(BOOT_PATH, BOOT, 0o755)?;
    put("/usr/bin/sterna", NO_AGENT, 0o755)?;
    if let Some(daemon) = daemon {
        put("/etc/docker/daemon.json", daemon, 0o644)?;
    }
    docker(&["cp", &format!("{}/.", files.path().display()), &format!("{name}:/")]).await?;
    docker(&["start", name]).await?;
    Ok(())
}

/// Removes a container with an engine in it, thawed first; there need not be one.
async fn remove(name: &str) -> anyhow::Result<()> {
    if docker(&["inspect", "--format", "{{.Id}}", name]).await.is_err() {
        return Ok(());
    }
    // One that does not run has nothing frozen.
    let _thawed = docker(&["exec", name, BOOT_PATH, "thaw"]).await;
    docker(&["rm", "--force", "--volumes", name]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_with_the_checkpoint_api_is_an_experimental_one() {
        let daemon: serde_json::Value = serde_json::from_str(API_DAEMON).unwrap();
        assert_eq!(daemon["experimental"], true);
        assert_eq!(daemon["hosts"], serde_json::json!(["unix:///var/run/docker.sock"]));
    }

    #[test]
    fn what_stands_in_for_the_agent_is_where_the_boot_script_looks_for_it() {
        assert!(BOOT.contains("keep sterna agent"));
    }
}
