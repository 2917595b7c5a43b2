//! What containers are created from, in the words of the engine's API.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum};
use sterna_core::continuum::{Restart, Run, ServiceName};
use sterna_policies::quantity::{Bytes, Cores, Millis};

use crate::engine::criu;

use super::{EngineError, MIGRATION_LABEL, RUNTIME, SERVICE_LABEL};

/// The engine's own word for it.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// What a service of the inventory is created from.
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
    let memory_limit = run.memory_limit.map(bytes);
    Ok(ContainerCreateBody {
        image: Some(run.image.clone()),
        cmd: non_empty(&run.command),
        entrypoint: non_empty(&run.entrypoint),
        working_dir: run.working_dir.clone(),
        user: run.user.clone(),
        stop_timeout: run.stop_timeout.map(whole_seconds),
        env: non_empty(&run.env),
        hostname: Some(service.to_string()),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        labels: Some(HashMap::from([(SERVICE_LABEL.to_owned(), service.to_string())])),
        host_config: Some(HostConfig {
            runtime: Some(RUNTIME.to_owned()),
            port_bindings: (!bindings.is_empty()).then_some(bindings),
            binds: non_empty(&run.volumes),
            memory: memory_limit,
            // With swap on top it would only become slow. Where the kernel does not count swap, the engine leaves this out.
            memory_swap: memory_limit,
            nano_cpus: run.cpu_limit.map(billionths),
            readonly_rootfs: run.read_only.then_some(true),
            cap_drop: non_empty(&run.drop_capabilities),
            security_opt: run.no_new_privileges.then(|| vec![NO_NEW_PRIVILEGES.to_owned()]),
            restart_policy: Some(restart_policy(run.restart)),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The engine's policy for it.
fn restart_policy(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::Always => RestartPolicyNameEnum::ALWAYS,
        Restart::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
        Restart::Never => RestartPolicyNameEnum::NO,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// As the engine counts memory.
fn bytes(limit: Bytes) -> i64 {
    i64::try_from(limit.0).unwrap_or(i64::MAX)
}

/// Of a core, as the engine counts processor time.
fn billionths(limit: Cores) -> i64 {
    limit.as_micros().saturating_mul(1000)
}

/// At least so many.
fn whole_seconds(time: Millis) -> i64 {
    let time = time.to_duration();
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_add(i64::from(time.subsec_nanos() > 0))
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
            ..Run::default()
        }
    }

    fn confined() -> Run {
        Run {
            entrypoint: vec!["/sbin/run".into()],
            working_dir: Some("/srv".into()),
            user: Some("999:999".into()),
            memory_limit: Some(Bytes::from_mib(64)),
            cpu_limit: Cores::from_f64(0.25),
            read_only: true,
            drop_capabilities: vec!["ALL".into()],
            no_new_privileges: true,
            restart: Restart::OnFailure,
            stop_timeout: Millis::from_f64(2500.0),
            ..run()
        }
    }

    #[test]
    fn a_service_is_confined_as_is_said_also_after_it_has_moved() {
        for moved in [false, true] {
            let mut body = service_body(&"redis".into(), &confined()).unwrap();
            if moved {
                body = destination_body(body, "m1");
            }
            assert_eq!((body.user.as_deref(), body.working_dir.as_deref()), (Some("999:999"), Some("/srv")));
            assert_eq!(
                (body.entrypoint.unwrap(), body.cmd.unwrap()),
                (vec!["/sbin/run".to_owned()], vec!["redis-server".to_owned()])
            );
            assert_eq!(body.stop_timeout, Some(3));
            let host = body.host_config.unwrap();
            assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
            assert_eq!((host.nano_cpus, host.readonly_rootfs), (Some(250_000_000), Some(true)));
            assert_eq!(
                (host.cap_drop.unwrap(), host.security_opt.unwrap()),
                (vec!["ALL".to_owned()], vec!["no-new-privileges".to_owned()])
            );
            let policy = host.restart_policy.and_then(|policy| policy.name);
            assert_eq!(policy, (!moved).then_some(RestartPolicyNameEnum::ON_FAILURE));
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_image_and_engine() {
        let body = service_body(&"redis".into(), &run()).unwrap();
        assert_eq!(
            (body.user, body.working_dir, body.entrypoint, body.stop_timeout),
            (None, None, None, None)
        );
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap, host.nano_cpus), (None, None, None));
        assert_eq!((host.readonly_rootfs, host.cap_drop, host.security_opt), (None, None, None));
        assert!(restarts(host.restart_policy.as_ref()));
        let policy = |restart| restart_policy(restart);
        assert!(!restarts(Some(&policy(Restart::Never))) && !restarts(Some(&policy(Restart::OnFailure))));
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
