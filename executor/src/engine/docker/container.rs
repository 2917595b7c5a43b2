//! What is known of a container.

use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, RestartPolicy};
use serde::{Deserialize, Serialize};
use sterna_core::continuum::ServiceName;

use super::{EngineError, MIGRATION_LABEL, SERVICE_LABEL};

/// A named volume of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its folder on this node.
    pub folder: PathBuf,
    /// The driver that made it.
    #[serde(default)]
    pub driver: String,
}

/// A container as the migration needs to know it.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Digest of its image.
    pub image: String,
    /// Number of its first process on this node; `None` where it does not run.
    pub pid: Option<i32>,
    /// Whether it stands frozen.
    pub paused: bool,
    /// What became of it; `None` for one that was never started, or that runs or is about to be started again.
    pub ended: Option<i64>,
    /// What an equal container is created from.
    pub body: ContainerCreateBody,
    /// Its writable layer.
    pub layer: Option<PathBuf>,
    /// Its named volumes.
    pub volumes: Vec<Volume>,
    /// Mounts other than named volumes, by their place in the container.
    pub other_mounts: Vec<String>,
}

impl Container {
    pub(super) fn read(seen: ContainerInspectResponse) -> Result<Self, EngineError> {
        let id = seen.id.unwrap_or_default();
        let silent = |what| EngineError::Silent { container: id.clone(), what };
        let state = seen.state.ok_or_else(|| silent("the state"))?;
        let config = seen.config.ok_or_else(|| silent("the configuration"))?;
        let host = seen.host_config.ok_or_else(|| silent("the host configuration"))?;
        let running = state.running.unwrap_or(false);
        // The engine's answer and its request have the same fields under the same names.
        let mut body: ContainerCreateBody = serde_json::to_value(config)
            .and_then(serde_json::from_value)
            .map_err(|_| silent("the configuration"))?;
        body.host_config = Some(host);
        let mut volumes = Vec::new();
        let mut other_mounts = Vec::new();
        for mount in seen.mounts.unwrap_or_default() {
            let place = mount.destination.unwrap_or_default();
            match (mount.typ.as_deref(), mount.name, mount.source) {
                (Some("volume"), Some(name), Some(source)) => {
                    if !is_named(body.host_config.as_ref(), &name) {
                        // The engine gave it a name of its own; an equal container is created with that name.
                        let host = body.host_config.get_or_insert_default();
                        host.binds.get_or_insert_default().push(format!("{name}:{place}"));
                    }
                    let driver = mount.driver.unwrap_or_default();
                    volumes.push(Volume { name, folder: source.into(), driver });
                }
                _ => other_mounts.push(place),
            }
        }
        Ok(Self {
            name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: seen.image.ok_or_else(|| silent("the image"))?,
            pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| running && *pid > 0),
            paused: state.paused.unwrap_or(false),
            // Between two lives the engine says that it runs, without a process.
            ended: state.exit_code.filter(|_| !running && was_started(state.started_at.as_deref())),
            layer: seen.graph_driver.and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from)),
            id,
            body,
            volumes,
            other_mounts,
        })
    }

    /// The service that it is; `None` for a container that Sterna has nothing to do with.
    pub fn service(&self) -> Option<ServiceName> {
        self.body.labels.as_ref()?.get(SERVICE_LABEL).map(|name| ServiceName::from(name.clone()))
    }

    /// The migration that made it; `None` for a container that did not come by one.
    pub fn migration(&self) -> Option<&str> {
        Some(self.body.labels.as_ref()?.get(MIGRATION_LABEL)?.as_str())
    }

    /// The code that it has ended with for good: its engine does not start it again.
    pub fn ended_for_good(&self) -> Option<i64> {
        let policy = self.body.host_config.as_ref().and_then(|host| host.restart_policy.as_ref());
        self.ended.filter(|code| stays_down(policy, *code))
    }

    /// Its host configuration.
    pub fn host(&self) -> HostConfig {
        self.body.host_config.clone().unwrap_or_default()
    }
}

#[cfg(test)]
impl Container {
    /// One that runs, for tests.
    pub(crate) fn example() -> Self {
        let volume = Volume { name: "data".into(), folder: "/v".into(), driver: "local".into() };
        Self {
            id: "c".into(),
            name: "redis".into(),
            image: "sha256:0".into(),
            pid: Some(7),
            paused: false,
            ended: None,
            body: ContainerCreateBody::default(),
            layer: Some("/upper".into()),
            volumes: vec![volume],
            other_mounts: vec![],
        }
    }
}

/// Whether a container's own description names this volume.
fn is_named(host: Option<&HostConfig>, volume: &str) -> bool {
    let binds = host.and_then(|host| host.binds.as_ref()).into_iter().flatten();
    let mounts = host.and_then(|host| host.mounts.as_ref()).into_iter().flatten();
    binds.into_iter().any(|bind| bind.split(':').next() == Some(volume))
        || mounts.into_iter().any(|mount| mount.source.as_deref() == Some(volume))
}

/// Whether a container was started at all, by the moment of its last start as the engine writes it.
fn was_started(at: Option<&str>) -> bool {
    at.is_some_and(|at| !at.is_empty() && !at.starts_with("0001-"))
}

/// Whether a container of this policy that has ended with a code is not started again.
fn stays_down(policy: Option<&RestartPolicy>, code: i64) -> bool {
    use bollard::models::RestartPolicyNameEnum::{ALWAYS, EMPTY, NO, ON_FAILURE, UNLESS_STOPPED};
    match policy.and_then(|policy| policy.name) {
        None | Some(EMPTY | NO) => true,
        Some(ON_FAILURE) => code == 0,
        Some(ALWAYS | UNLESS_STOPPED) => false,
    }
}

/// Whether a container of this policy is started again when it goes down with its node.
pub fn restarts(policy: Option<&RestartPolicy>) -> bool {
    use bollard::models::RestartPolicyNameEnum::{ALWAYS, UNLESS_STOPPED};
    matches!(policy.and_then(|policy| policy.name), Some(ALWAYS | UNLESS_STOPPED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_for_good_where_the_engine_leaves_it_at_that() {
        use bollard::models::RestartPolicyNameEnum::{ALWAYS, NO, ON_FAILURE, UNLESS_STOPPED};
        let seen = |name, running: bool, started: &str, code: i64| {
            let seen = serde_json::json!({
                "Id": "0a", "Image": "sha256:0", "Config": {},
                "State": { "Running": running, "StartedAt": started, "ExitCode": code },
            });
            let mut seen: ContainerInspectResponse = serde_json::from_value(seen).unwrap();
            let policy = RestartPolicy { name: Some(name), maximum_retry_count: None };
            seen.host_config = Some(HostConfig { restart_policy: Some(policy), ..HostConfig::default() });
            Container::read(seen).unwrap().ended_for_good()
        };
        let (never, once) = ("0001-01-01T00:00:00Z", "2026-11-28T01:02:03.5Z");
        assert_eq!(seen(NO, false, once, 7), Some(7));
        assert_eq!((seen(NO, false, never, 0), seen(NO, true, once, 0)), (None, None));
        assert_eq!((seen(ON_FAILURE, false, once, 0), seen(ON_FAILURE, false, once, 1)), (Some(0), None));
        assert_eq!((seen(ALWAYS, false, once, 0), seen(UNLESS_STOPPED, false, once, 0)), (None, None));
    }

    #[test]
    fn volumes_without_a_name_are_told_from_those_with_one() {
        let host = HostConfig {
            binds: Some(vec!["data:/data:ro".into()]),
            mounts: Some(vec![bollard::models::Mount { source: Some("more".into()), ..Default::default() }]),
            ..HostConfig::default()
        };
        assert!(is_named(Some(&host), "data") && is_named(Some(&host), "more"));
        assert!(!is_named(Some(&host), "0123") && !is_named(None, "data"));
    }
}
