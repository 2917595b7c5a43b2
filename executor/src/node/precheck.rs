//! What speaks against a migration, before anything is touched. Everything is named at once.
//!
//! | module | what lives there |
//! |---|---|
//! | [`bounds`](mod@bounds) | what may be asked of a node at all |
//! | [`description`](mod@description) | the container as it is described |
//! | [`pair`](mod@pair) | the two nodes |
//! | [`processes`](mod@processes) | what the service's processes hold |
//! | [`room`] | memory and disk |

use crate::engine::docker::Container;
use crate::engine::privileges;
use crate::migration::finding::{Code, Finding, Subject};

pub mod bounds;
pub mod description;
pub mod pair;
pub mod processes;
pub mod room;

/// What speaks against a container as such, on a node whose cgroup version is this.
pub fn container(container: &Container, cgroup: u8) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |applies: bool, code: Code, what: &str| {
        if applies {
            findings.push(Finding::new(code, Subject::Service, what));
        }
    };
    refuse(container.pid.is_none(), Code::NotRunning, "it does not run");
    refuse(container.paused, Code::Paused, "it is paused already");
    refuse(container.layer.is_none(), Code::WritableLayer, "its writable layer can't be found");
    for volume in container.volumes.iter().filter(|volume| volume.driver != description::LOCAL) {
        let what = format!("its volume `{}` is of the driver `{}`", volume.name, volume.driver);
        refuse(true, Code::VolumeDriver, &what);
    }
    for mount in &container.other_mounts {
        refuse(true, Code::Mount, &format!("{mount} is mounted from the node"));
    }
    for finding in description::description(&container.body, cgroup) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// What speaks against a service with this first process, a number on the node, for the way in which that was started.
pub fn privileges(first: i32) -> Option<Finding> {
    // One that has ended meanwhile is found out by the next step.
    let given_up = privileges::given_up(first).unwrap_or(false);
    let what = "its first process gave up its privileges by itself";
    given_up.then(|| Finding::new(Code::Privileges, Subject::Service, what))
}

#[cfg(test)]
mod tests {
    use bollard::models::HostConfig;

    use super::*;

    #[test]
    fn a_plain_container_passes() {
        assert_eq!(container(&Container::example(), 2), []);
    }

    #[test]
    fn everything_that_speaks_against_it_is_named_at_once() {
        let mut bad = Container::example();
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
        let findings = container(&bad, 2);
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
