//! What a node may do on the host. `--privileged` is the plain way; where the host's engine itself lacks a capability, that
//! fails, and a list without it serves. Which of the two is found by trying.

use std::fmt;
use std::path::Path;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use serde::Serialize;

use super::engine::{remove, run_to_end};
use super::{CALL_LABEL, PlatformError};

const PROBE: &str = "sterna-privilege-probe";
/// What a node's boot can't do without.
const TRIAL: &str = "mount -o remount,rw,bind /sys && mount -t tmpfs probe /mnt";

/// How a node is allowed to run an engine of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// The engine's `--privileged`.
    Privileged,
    /// Every capability but `SYS_RESOURCE`, and the engine's confinements lifted one by one.
    Capabilities,
}

impl Privilege {
    /// The word for it, also on the node's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Capabilities => "capabilities",
        }
    }

    /// The privilege that a label names.
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Privileged, Self::Capabilities].into_iter().find(|privilege| privilege.as_str() == label)
    }

    /// The part of a container's configuration that grants it.
    pub fn host_config(self) -> HostConfig {
        let common =
            HostConfig { cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE), ..Default::default() };
        match self {
            Self::Privileged => HostConfig { privileged: Some(true), ..common },
            Self::Capabilities => HostConfig {
                cap_add: Some(vec!["ALL".to_owned()]),
                cap_drop: Some(vec!["SYS_RESOURCE".to_owned()]),
                security_opt: Some(vec!["seccomp=unconfined".to_owned(), "apparmor=unconfined".to_owned()]),
                // The API's words for `systempaths=unconfined`.
                masked_paths: Some(Vec::new()),
                readonly_paths: Some(Vec::new()),
                ..common
            },
        }
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A privilege, and why it was chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What nodes get.
    pub privilege: Privilege,
    /// What was seen.
    pub reason: String,
}

/// Tries `--privileged` first, then the list, each with a short-lived container of `image`.
pub async fn choose(docker: &Docker, image: &str, call: &str) -> Result<Choice, PlatformError> {
    let Err(refusal) = attempt(docker, image, call, Privilege::Privileged).await? else {
        return Ok(Choice {
            privilege: Privilege::Privileged,
            reason: "the engine starts privileged containers".to_owned(),
        });
    };
    let privileged = refusal;
    match attempt(docker, image, call, Privilege::Capabilities).await? {
        Ok(()) => Ok(Choice {
            privilege: Privilege::Capabilities,
            reason: format!("the engine can't start privileged containers ({privileged})"),
        }),
        Err(capabilities) => Err(PlatformError::NoPrivilege { privileged, capabilities }),
    }
}

/// `Ok(Err(reason))` is the engine's refusal; an `Err` means that the question could not be put.
async fn attempt(
    docker: &Docker,
    image: &str,
    call: &str,
    privilege: Privilege,
) -> Result<Result<(), String>, PlatformError> {
    remove(docker, PROBE).await?;
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(["sh", "-c", TRIAL].map(str::to_owned).to_vec()),
        labels: Some([(CALL_LABEL.to_owned(), call.to_owned())].into()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..privilege.host_config() }),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(PROBE).build();
    docker
        .create_container(Some(options), body)
        .await
        .map_err(PlatformError::engine("making a container to probe privileges"))?;
    let outcome = run_to_end(docker, PROBE).await;
    remove(docker, PROBE).await?;
    match outcome {
        Ok(outcome) if outcome.succeeded() => Ok(Ok(())),
        Ok(outcome) => Ok(Err(format!("{} (status {})", outcome.output.trim(), outcome.status))),
        Err(PlatformError::Engine {
            source: bollard::errors::Error::DockerResponseServerError { message, .. },
            ..
        }) => Ok(Err(gist(&message))),
        Err(error) => Err(error),
    }
}

/// An engine's message is a chain, outermost first; what happened stands at its end.
fn gist(message: &str) -> String {
    let parts: Vec<&str> = message.trim().trim_end_matches(": unknown").split(": ").collect();
    parts[parts.len().saturating_sub(2)..].join(": ")
}

/// Devices that a node makes use of, as far as this host has them.
pub fn devices() -> Vec<DeviceMapping> {
    ["/dev/fuse", "/dev/net/tun"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| DeviceMapping {
            path_on_host: Some(path.to_owned()),
            path_in_container: Some(path.to_owned()),
            cgroup_permissions: Some("rwm".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_privilege_says_exactly_what_it_grants() {
        insta::assert_json_snapshot!(Privilege::Privileged.host_config());
        insta::assert_json_snapshot!(Privilege::Capabilities.host_config());
    }

    #[test]
    fn labels_lead_back_to_the_privilege() {
        for privilege in [Privilege::Privileged, Privilege::Capabilities] {
            assert_eq!(Privilege::from_label(privilege.as_str()), Some(privilege));
        }
        assert_eq!(Privilege::from_label("all"), None);
    }

    #[test]
    fn the_gist_of_a_refusal_is_its_end() {
        assert_eq!(
            gist(
                "OCI runtime create failed: runc create failed: unable to start container process: unable to apply caps: operation not permitted: unknown"
            ),
            "unable to apply caps: operation not permitted"
        );
        assert_eq!(gist("no"), "no");
        assert_eq!(gist(""), "");
    }
}
