//! The host's engine, by its own client: the few questions that tests and demo ask of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::process;

/// Runs `docker` with these arguments and gives what it prints.
///
/// # Errors
/// When it can't be started or fails; then with what it said.
pub async fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new("docker").args(arguments).kill_on_drop(true).output().await.context(
            "can't start `docker`: is the package docker-cli (docker.io until Debian 12) installed?",
        )?;
    if !output.status.success() {
        bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Address of a container on the network that it is attached to.
///
/// # Errors
/// When there is no such container or it has no address.
pub async fn address(container: &str) -> anyhow::Result<IpAddr> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
    let text = docker(&["inspect", "--format", format, container]).await?;
    let first =
        text.split_whitespace().next().with_context(|| format!("container {container} has no address"))?;
    first.parse().with_context(|| format!("address of container {container}"))
}

/// Containers, networks and volumes whose name starts with `prefix`, running or not.
///
/// # Errors
/// When the engine can't be asked.
pub async fn left_over(prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for (kind, question) in [
        ("container", ["ps", "--all", "--format", "{{.Names}}"].as_slice()),
        ("network", &["network", "ls", "--format", "{{.Name}}"]),
        ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
    ] {
        let all = docker(question).await?;
        left.extend(all.lines().filter(|name| name.starts_with(prefix)).map(|name| format!("{kind} {name}")));
    }
    Ok(left)
}

/// Has the engine hold the image of the services, building it where that was never done; gives its name.
///
/// # Errors
/// When it can't be built: not root, no Debian mirror, no engine.
pub async fn service_image() -> anyhow::Result<String> {
    image(&[]).await
}

/// The same for the image of the workload zoo.
///
/// # Errors
/// As [`service_image`].
pub async fn zoo_image() -> anyhow::Result<String> {
    image(&["zoo"]).await
}

async fn image(which: &[&str]) -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/service/image");
    let finished = process::run(process::bound(&script).args(which).stdout(Stdio::piped()))
        .await
        .with_context(|| format!("can't start {}", script.display()))?;
    if !finished.status.success() {
        bail!("{} failed; what it said stands above", script.display());
    }
    Ok(finished.stdout.trim().to_owned())
}

/// A container of the host's engine that is gone when this is dropped.
#[derive(Debug)]
pub struct Container {
    name: String,
    address: IpAddr,
}

impl Container {
    /// Starts one. The engine removes it when it stops.
    ///
    /// # Errors
    /// When the engine can't start it.
    pub async fn start(name: &str, image: &str, command: &[&str]) -> anyhow::Result<Self> {
        let mut arguments = vec!["run", "--detach", "--rm", "--name", name, image];
        arguments.extend(command);
        docker(&arguments).await?;
        let mut started = Self { name: name.to_owned(), address: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        started.address = address(name).await?;
        Ok(started)
    }

    /// Its address, reachable from the host.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Runs a command in it and gives what it prints.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut arguments = vec!["exec", &self.name];
        arguments.extend(command);
        docker(&arguments).await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Blocking, because the runtime may be on its way out.
        let _gone = std::process::Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
