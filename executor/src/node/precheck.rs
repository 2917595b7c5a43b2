//! What speaks against a migration, before anything is touched. Everything is named at once.
//!
//! | module | what lives there |
//! |---|---|
//! | [`pair`](mod@pair) | the two nodes |
//! | [`processes`](mod@processes) | what the service's processes hold |
//! | [`room`] | memory and disk |

use bollard::models::HostConfig;

use crate::engine::docker::Container;
use crate::engine::privileges;
use crate::migration::finding::{Code, Finding, Subject};

pub mod pair;
pub mod processes;
pub mod room;

/// The engine's own volume driver.
const LOCAL: &str = "local";

/// What speaks against a container as such: things that CRIU or this method can't carry over.
pub fn container(container: &Container) -> Vec<Finding> {
    let host = container.host();
    let body = &container.body;
    let mut findings = Vec::new();
    let mut refuse = |applies: bool, code: Code, what: &str| {
        if applies {
            findings.push(Finding::new(code, Subject::Service, what));
        }
    };
    refuse(container.pid.is_none(), Code::NotRunning, "it does not run");
    refuse(container.paused, Code::Paused, "it is paused already");
    refuse(body.tty == Some(true), Code::Terminal, "it has a terminal");
    refuse(host.auto_remove == Some(true), Code::RemovesItself, "it removes itself when it ends (`--rm`)");
    refuse(host.privileged == Some(true), Code::Privileged, "it is privileged");
    refuse(
        host.devices.as_ref().is_some_and(|all| !all.is_empty())
            || host.device_requests.as_ref().is_some_and(|all| !all.is_empty()),
        Code::Devices,
        "it uses devices of the node",
    );
    for (what, mode) in shared_namespaces(&host) {
        refuse(true, Code::SharedNamespace, &format!("it shares its {what} with {mode}"));
    }
    let network = host.network_mode.as_deref().unwrap_or("default");
    refuse(
        !matches!(network, "default" | "bridge" | "none"),
        Code::Network,
        &format!("it is on the network `{network}`"),
    );
    for mount in &container.other_mounts {
        refuse(true, Code::Mount, &format!("{mount} is mounted from the node"));
    }
    refuse(host.init == Some(true), Code::EngineInit, "it has an init of the engine's (`--init`)");
    for volume in container.volumes.iter().filter(|volume| volume.driver != LOCAL) {
        let what = format!("its volume `{}` is of the driver `{}`", volume.name, volume.driver);
        refuse(true, Code::VolumeDriver, &what);
    }
    refuse(container.layer.is_none(), Code::WritableLayer, "its writable layer can't be found");
    findings
}

/// What speaks against a service with this first process, a number on the node, for the way in which that was started.
pub fn privileges(first: i32) -> Option<Finding> {
    // One that has ended meanwhile is found out by the next step.
    let given_up = privileges::given_up(first).unwrap_or(false);
    let what = "its first process gave up its privileges by itself";
    given_up.then(|| Finding::new(Code::Privileges, Subject::Service, what))
}

fn shared_namespaces(host: &HostConfig) -> Vec<(&'static str, String)> {
    let modes = [
        ("process numbers", &host.pid_mode),
        ("inter-process communication", &host.ipc_mode),
        ("host name", &host.uts_mode),
        ("user numbers", &host.userns_mode),
    ];
    modes
        .into_iter()
        .filter_map(|(what, mode)| {
            let mode = mode.as_deref().unwrap_or_default();
            (mode == "host" || mode.starts_with("container:")).then(|| (what, mode.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCreateBody;

    use super::*;
    use crate::engine::docker::Volume;

    fn plain() -> Container {
        let volume = |name: &str| Volume { name: name.into(), folder: "/v".into(), driver: "local".into() };
        Container {
            id: "c".into(),
            name: "redis".into(),
            image: "sha256:0".into(),
            pid: Some(7),
            paused: false,
            body: ContainerCreateBody::default(),
            layer: Some("/upper".into()),
            volumes: vec![volume("data")],
            other_mounts: vec![],
        }
    }

    #[test]
    fn a_plain_container_passes() {
        assert_eq!(container(&plain()), []);
    }

    #[test]
    fn everything_that_speaks_against_it_is_named_at_once() {
        let mut bad = plain();
        bad.pid = None;
        bad.body.tty = Some(true);
        bad.other_mounts = vec!["/etc/x".into()];
        bad.volumes[0].driver = "nfs".into();
        bad.body.host_config = Some(HostConfig {
            auto_remove: Some(true),
            privileged: Some(true),
            pid_mode: Some("host".into()),
            network_mode: Some("mine".into()),
            init: Some(true),
            ..HostConfig::default()
        });
        let findings = container(&bad);
        for (code, word) in [
            (Code::NotRunning, "does not run"),
            (Code::Terminal, "terminal"),
            (Code::RemovesItself, "--rm"),
            (Code::Privileged, "privileged"),
            (Code::SharedNamespace, "process numbers"),
            (Code::Network, "`mine`"),
            (Code::Mount, "/etc/x"),
            (Code::EngineInit, "--init"),
            (Code::VolumeDriver, "nfs"),
        ] {
            let found = findings.iter().any(|one| one.code == code && one.what.contains(word));
            assert!(found, "{code} {word}: {findings:?}");
        }
    }
}
