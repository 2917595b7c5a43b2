//! The host's engine, spoken to over its socket.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};

use super::PlatformError;

/// Importing a root file system takes longer than the two minutes that bollard allows by itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: i64,
    /// Standard output and standard error.
    pub output: String,
}

impl Outcome {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.status == 0
    }
}

/// Connects to the engine that `DOCKER_HOST` names, or to the one at the usual place.
pub async fn connect() -> Result<Docker, PlatformError> {
    let absent = |error: bollard::errors::Error| PlatformError::NoEngine {
        address: std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned()),
        reason: error.to_string(),
    };
    let docker = Docker::connect_with_defaults().map_err(absent)?.with_timeout(REQUEST_TIMEOUT);
    docker.negotiate_version().await.map_err(absent)
}

/// Whether the engine answered that what was asked for does not exist.
pub fn is_absent(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine answered that something stands in the way.
pub fn is_conflict(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 409, .. })
}

/// A filter for what carries all of these labels (`name` or `name=value`).
pub fn labelled(labels: &[String]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

/// All containers, running or not, that carry a label.
pub async fn containers(docker: &Docker, label: String) -> Result<Vec<ContainerSummary>, PlatformError> {
    let options = ListContainersOptionsBuilder::default().all(true).filters(&labelled(&[label])).build();
    docker.list_containers(Some(options)).await.map_err(PlatformError::engine("listing containers"))
}

/// Runs a command in a running container.
pub async fn exec(docker: &Docker, container: &str, command: &[&str]) -> Result<Outcome, PlatformError> {
    let failed = || PlatformError::engine(format!("running {command:?} in {container}"));
    let options = CreateExecOptions {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec(container, options).await.map_err(failed())?.id;
    let mut output = String::new();
    if let StartExecResults::Attached { output: mut stream, .. } =
        docker.start_exec(&id, None).await.map_err(failed())?
    {
        while let Some(part) = stream.try_next().await.map_err(failed())? {
            output.push_str(&part.to_string());
        }
    }
    let status = docker.inspect_exec(&id).await.map_err(failed())?.exit_code.unwrap_or(-1);
    Ok(Outcome { status, output })
}

/// Starts a container that was made for one command, and waits for its end.
pub async fn run_to_end(docker: &Docker, container: &str) -> Result<Outcome, PlatformError> {
    docker
        .start_container(container, None)
        .await
        .map_err(PlatformError::engine(format!("starting {container}")))?;
    let mut end = docker.wait_container(container, None::<WaitContainerOptions>);
    let status = match end.next().await {
        Some(Ok(end)) => end.status_code,
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(PlatformError::engine(format!("waiting for {container}"))(error)),
        None => -1,
    };
    Ok(Outcome { status, output: last_lines(docker, container, 20).await })
}

/// The last lines that a container wrote; empty if they can't be had.
pub async fn last_lines(docker: &Docker, container: &str, lines: u32) -> String {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let parts: Vec<LogOutput> =
        docker.logs(container, Some(options)).filter_map(async |part| part.ok()).collect().await;
    parts.iter().map(ToString::to_string).collect()
}

/// Removes a container with its nameless volumes, running or not. One that isn't there is fine.
pub async fn remove(docker: &Docker, container: &str) -> Result<(), PlatformError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match docker.remove_container(container, Some(options)).await {
        Err(error) if !is_absent(&error) => {
            Err(PlatformError::engine(format!("removing {container}"))(error))
        }
        _ => Ok(()),
    }
}
