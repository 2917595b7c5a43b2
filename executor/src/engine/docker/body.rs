//! What containers are created from, in the words of the engine's API.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum};
use sterna_core::continuum::{Run, ServiceName};

use crate::engine::criu;

use super::{EngineError, MIGRATION_LABEL, RUNTIME, SERVICE_LABEL};

/// What a service of the inventory is created from. It is started again when it ends, and with its node.
///
/// # Errors
/// When a port or volume is malformed.
pub fn service_body(service: &ServiceName, run: &Run) -> Result<ContainerCreateBody, EngineError> {
    let mut exposed = Vec::new();
    let mut bindings = HashMap::new();
    for port in &run.ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = number
            .parse()
            .map_err(|_| EngineError::Malformed(format!("`{port}` is not a port such as \"6379/tcp\"")))?;
        let key = format!("{number}/{protocol}");
        let binding = PortBinding { host_ip: None, host_port: Some(number.to_string()) };
        bindings.insert(key.clone(), Some(vec![binding]));
        exposed.push(key);
    }
    let non_empty = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    Ok(ContainerCreateBody {
        image: Some(run.image.clone()),
        cmd: non_empty(&run.command),
        env: non_empty(&run.env),
        hostname: Some(service.to_string()),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        labels: Some(HashMap::from([(SERVICE_LABEL.to_owned(), service.to_string())])),
        host_config: Some(HostConfig {
            runtime: Some(RUNTIME.to_owned()),
            port_bindings: (!bindings.is_empty()).then_some(bindings),
            binds: non_empty(&run.volumes),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ALWAYS),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// A port of a container that its node publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published<'a> {
    /// The port within the container.
    pub inner: &'a str,
    /// `tcp` or another.
    pub protocol: &'a str,
    /// The port of the node; empty where the engine chooses it.
    pub outer: &'a str,
}

/// The ports that a container's node publishes for it.
pub fn published(body: &ContainerCreateBody) -> impl Iterator<Item = Published<'_>> {
    let bindings = body.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
    bindings.into_iter().flatten().flat_map(|(port, bound)| {
        let (inner, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let outer = bound.iter().flatten().filter_map(|one| one.host_port.as_deref());
        outer.map(move |outer| Published { inner, protocol, outer })
    })
}

/// What the destination of a migration is created from: the source's own description, marked as made by it, held by CRIU's
/// settings file of its name, and without a restart policy until the migration has ended.
pub fn destination_body(mut body: ContainerCreateBody, migration: &str) -> ContainerCreateBody {
    body.labels.get_or_insert_default().insert(MIGRATION_LABEL.to_owned(), migration.to_owned());
    let host = body.host_config.get_or_insert_default();
    host.restart_policy = None;
    host.runtime = Some(RUNTIME.to_owned());
    let settings = criu::settings_path(migration).to_string_lossy().into_owned();
    host.annotations.get_or_insert_default().insert(criu::ANNOTATION.to_owned(), settings);
    body
}

#[cfg(test)]
mod tests {
    use super::super::restarts;
    use super::*;

    fn run() -> Run {
        Run {
            image: "redis".into(),
            command: vec!["redis-server".into()],
            env: vec![],
            ports: vec!["6379/tcp".into()],
            volumes: vec!["data:/data".into()],
            on: "a".into(),
        }
    }

    #[test]
    fn a_service_is_labelled_and_published() {
        let body = service_body(&"redis".into(), &run()).unwrap();
        assert_eq!(body.labels.unwrap()[SERVICE_LABEL], "redis");
        let host = body.host_config.unwrap();
        assert_eq!(
            host.port_bindings.unwrap()["6379/tcp"].as_ref().unwrap()[0].host_port.as_deref(),
            Some("6379")
        );
        assert_eq!(host.binds.unwrap(), ["data:/data"]);
        let bad = Run { ports: vec!["many".into()], ..run() };
        assert!(service_body(&"redis".into(), &bad).is_err());
    }

    #[test]
    fn the_destination_is_held_and_not_restarted() {
        let mut body = service_body(&"redis".into(), &run()).unwrap();
        body.host_config.as_mut().unwrap().restart_policy = Some(RestartPolicy::default());
        assert!(restarts(
            service_body(&"redis".into(), &run()).unwrap().host_config.unwrap().restart_policy.as_ref()
        ));
        let body = destination_body(body, "m1");
        assert_eq!(body.labels.unwrap()[MIGRATION_LABEL], "m1");
        let host = body.host_config.unwrap();
        assert_eq!(host.restart_policy, None);
        assert_eq!(host.annotations.unwrap()[criu::ANNOTATION], "/run/sterna/criu/m1.conf");
    }
}
