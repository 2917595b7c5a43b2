//! What a pod template means for Sterna.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Probe, SecurityContext};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sterna_core::continuum::{NodeName, Restart, Run, Service};
use sterna_policies::load::is_name;
use sterna_policies::quantity::{Bytes, Cores, Millis};

use super::expansion::expand;
use super::fields::{Refusal, refused};
use super::quantity::quantity;
use super::resource::MigratableServiceSpec;
use crate::traffic::config::Protocol;

/// The longest name of a service: that of its stand-in must be one, too.
const NAME: usize = 50;

/// A service as its object describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// As the inventory would have it.
    pub service: Service,
    /// Its TCP ports.
    pub ports: Vec<Port>,
    /// By what the cluster sees that it is ready; `None`: once it runs.
    pub readiness: Option<Readiness>,
    /// When its image is pulled.
    pub pull: Pull,
    /// Labels of its stand-in.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its stand-in.
    pub annotations: BTreeMap<String, String>,
}

/// A port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its number in the container.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// A readiness probe, made at the stand-in.
#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    /// The probe as the template has it.
    pub probe: Probe,
    /// The port that is to take a connection, where that is all that is asked. At the stand-in it would tell nothing: the stand-in
    /// always takes connections.
    pub connects_to: Option<u16>,
}

/// When a node's engine pulls the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Before it is started.
    Always,
    /// Where it is absent.
    IfNotPresent,
    /// Never: it has to be there.
    Never,
}

/// What the object `name` describes, first started on `on`.
///
/// # Errors
/// Everything that can't be honoured.
pub fn describe(name: &str, spec: &MigratableServiceSpec, on: &NodeName) -> Result<Described, Vec<Refusal>> {
    let mut refusals = refused(&spec.template);
    if !is_name(name) || name.len() > NAME {
        refusals.push(Refusal::new(
            "metadata.name",
            format!("the name of a service has lower-case letters, digits and `-`, {NAME} at most"),
        ));
    }
    let template: PodTemplateSpec = match serde_json::from_value(spec.template.clone()) {
        Ok(template) => template,
        Err(error) => {
            refusals.push(Refusal::new("spec.template", format!("it is no pod template: {error}")));
            return Err(refusals);
        }
    };
    let mut reading = Reading { name, refusals };
    match reading.template(spec, template, on) {
        Some(described) if reading.refusals.is_empty() => Ok(described),
        _ => Err(reading.refusals),
    }
}

struct Reading<'a> {
    name: &'a str,
    refusals: Vec<Refusal>,
}

impl Reading<'_> {
    fn refuse(&mut self, path: &str, reason: impl Into<String>) {
        self.refusals.push(Refusal::new(path, reason));
    }

    fn template(
        &mut self,
        spec: &MigratableServiceSpec,
        template: PodTemplateSpec,
        on: &NodeName,
    ) -> Option<Described> {
        let metadata = template.metadata.unwrap_or_default();
        let labels = metadata.labels.unwrap_or_default();
        let pod = &template.spec.unwrap_or_default();
        let [container] = pod.containers.as_slice() else {
            let many = pod.containers.len();
            self.refuse("spec.containers", format!("one container is moved, and there are {many}"));
            return None;
        };
        if pod.automount_service_account_token == Some(true) {
            let reason = "the service runs outside of the cluster and has no account there";
            self.refuse("spec.automountServiceAccountToken", reason);
        }
        if pod.enable_service_links == Some(true) {
            self.refuse(
                "spec.enableServiceLinks",
                "variables of other services would be those of one cluster",
            );
        }
        let restart = match pod.restart_policy.as_deref() {
            None | Some("Always") => Restart::Always,
            Some("OnFailure") => Restart::OnFailure,
            Some("Never") => Restart::Never,
            Some(_) => {
                self.refuse("spec.restartPolicy", "expected Always, OnFailure or Never");
                Restart::Always
            }
        };
        let ports = self.ports(container, &spec.protocols);
        let (cpu, memory, limits) = self.resources(container);
        let (command, entrypoint, env) = self.words(container);
        let security = self.security(pod, container);
        let run = Run {
            image: container.image.clone().unwrap_or_default(),
            entrypoint,
            command,
            env,
            working_dir: container.working_dir.clone(),
            ports: ports.iter().map(|port| format!("{}/tcp", port.number)).collect(),
            volumes: self.volumes(pod, container),
            on: on.clone(),
            memory_limit: limits.1,
            cpu_limit: limits.0,
            restart,
            stop_timeout: pod
                .termination_grace_period_seconds
                .and_then(|seconds| Some(Millis::from_micros(seconds.checked_mul(1_000_000_000)?))),
            user: security.user,
            read_only: security.read_only,
            drop_capabilities: security.drop_capabilities,
            no_new_privileges: security.no_new_privileges,
        };
        let pull = match container.image_pull_policy.as_deref() {
            None | Some("IfNotPresent") => Pull::IfNotPresent,
            Some("Always") => Pull::Always,
            Some("Never") => Pull::Never,
            Some(_) => {
                self.refuse("spec.containers[0].imagePullPolicy", "expected Always, IfNotPresent or Never");
                Pull::Never
            }
        };
        if run.image.is_empty() {
            self.refuse("spec.containers[0].image", "it is missing");
        }
        let readiness = container.readiness_probe.as_ref().and_then(|probe| self.readiness(probe, &ports));
        Some(Described {
            // Policies select it by what the cluster selects its pod by.
            service: Service { cpu, memory, pinned: spec.pinned, labels: labels.clone(), run: Some(run) },
            ports,
            readiness,
            pull,
            labels,
            annotations: metadata.annotations.unwrap_or_default(),
        })
    }

    fn ports(&mut self, container: &Container, protocols: &BTreeMap<String, Protocol>) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("spec.containers[0].ports[{at}]");
            if !matches!(port.protocol.as_deref(), None | Some("TCP")) {
                self.refuse(&format!("{path}.protocol"), "only TCP follows a service");
                continue;
            }
            let Some(number) = u16::try_from(port.container_port).ok().filter(|number| *number > 0) else {
                self.refuse(&format!("{path}.containerPort"), "expected 1 to 65535");
                continue;
            };
            if ports.iter().any(|other| other.number == number) {
                self.refuse(&format!("{path}.containerPort"), "it is given twice");
                continue;
            }
            let named = port.name.as_ref().and_then(|name| protocols.get(name));
            let protocol = named.or_else(|| protocols.get(&number.to_string())).copied();
            ports.push(Port { name: port.name.clone(), number, protocol: protocol.unwrap_or(Protocol::Tcp) });
        }
        for named in protocols.keys() {
            let known =
                |port: &Port| port.name.as_deref() == Some(named) || port.number.to_string() == *named;
            if !ports.iter().any(known) {
                self.refusals.push(Refusal::new(
                    format!("protocols.{named}"),
                    "the container has no port of this name or number",
                ));
            }
        }
        ports
    }

    /// What it asks for, and its limits.
    fn resources(&mut self, container: &Container) -> (Cores, Bytes, (Option<Cores>, Option<Bytes>)) {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) =
            (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
        let path = |of: &str, what: &str| format!("spec.containers[0].resources.{of}.{what}");
        let mut read = |all: &BTreeMap<String, Quantity>, of: &str, what: &str| {
            let text = &all.get(what)?.0;
            let read = quantity(text);
            if read.is_none() {
                self.refuse(&path(of, what), format!("`{text}` is no quantity of it"));
            }
            read
        };
        let cpu_limit = read(&limits, "limits", "cpu");
        let memory_limit = read(&limits, "limits", "memory");
        // As Kubernetes has it, too.
        let cpu = read(&requests, "requests", "cpu").or(cpu_limit);
        let memory = read(&requests, "requests", "memory").or(memory_limit);
        for (what, asked) in [("cpu", cpu), ("memory", memory)] {
            if asked.is_none_or(|asked| asked <= 0.0) {
                let reason = "a place is chosen by what a service asks for: say it, more than nothing";
                self.refuse(&path("requests", what), reason);
            }
        }
        // Saturates; what is too large is found to fit nowhere.
        let cores = |asked: f64| Cores::from_micros((asked * 1e6).ceil() as i64);
        let bytes = |asked: f64| Bytes(asked.ceil() as u64);
        (
            cores(cpu.unwrap_or_default()),
            bytes(memory.unwrap_or_default()),
            (cpu_limit.map(cores), memory_limit.map(bytes)),
        )
    }

    /// Arguments, command and variables, with references to variables put in.
    fn words(&mut self, container: &Container) -> (Vec<String>, Vec<String>, Vec<String>) {
        let mut variables = BTreeMap::new();
        let mut env = Vec::new();
        for (at, variable) in container.env.iter().flatten().enumerate() {
            let value = expand(variable.value.as_deref().unwrap_or_default(), &variables);
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let plain =
                |name: &str| name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
            if !plain(&variable.name) {
                self.refuse(
                    &format!("spec.containers[0].env[{at}].name"),
                    "expected letters, digits and `_`",
                );
            }
            if variables.insert(variable.name.clone(), value.clone()).is_some() {
                self.refuse(&format!("spec.containers[0].env[{at}].name"), "it is given twice");
            }
            env.push(format!("{}={value}", variable.name));
        }
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter().flatten().map(|word| expand(word, &variables)).collect()
        };
        (expanded(&container.args), expanded(&container.command), env)
    }

    /// Each empty volume is one of the engine's, under a name of its own.
    fn volumes(&mut self, pod: &PodSpec, container: &Container) -> Vec<String> {
        let known: Vec<&str> = pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
        let mut volumes: Vec<String> = Vec::new();
        for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let path = format!("spec.containers[0].volumeMounts[{at}]");
            if !known.contains(&mount.name.as_str()) {
                self.refuse(&format!("{path}.name"), "there is no volume of this name");
            }
            let place = &mount.mount_path;
            let good = place.starts_with('/') && place.len() > 1 && !place.contains(':');
            if !good || place.split('/').any(|part| part == "..") {
                self.refuse(&format!("{path}.mountPath"), "expected an absolute path without `:` and `..`");
            }
            volumes.push(format!("{}-{}:{place}", self.name, mount.name));
        }
        volumes
    }

    fn security(&mut self, pod: &PodSpec, container: &Container) -> Security {
        let (of_pod, own) = (
            pod.security_context.clone().unwrap_or_default(),
            container.security_context.clone().unwrap_or_default(),
        );
        let SecurityContext { run_as_user, run_as_group, run_as_non_root, .. } = &own;
        let user = run_as_user.or(of_pod.run_as_user);
        let group = run_as_group.or(of_pod.run_as_group);
        let path = "spec.containers[0].securityContext";
        if group.is_some() && user.is_none() {
            self.refuse(
                &format!("{path}.runAsGroup"),
                "say `runAsUser` too: which it is in the image is not known",
            );
        }
        if run_as_non_root.or(of_pod.run_as_non_root) == Some(true) && user.is_none_or(|user| user <= 0) {
            self.refuse(
                &format!("{path}.runAsNonRoot"),
                "say `runAsUser`, which is not 0: who the image's user is is not known before it runs",
            );
        }
        for profile in [&own.seccomp_profile, &of_pod.seccomp_profile].into_iter().flatten() {
            if profile.type_ != "RuntimeDefault" {
                self.refuse(
                    &format!("{path}.seccompProfile.type"),
                    "expected RuntimeDefault, which every service has",
                );
            }
        }
        Security {
            user: user.map(|user| group.map_or_else(|| user.to_string(), |group| format!("{user}:{group}"))),
            read_only: own.read_only_root_filesystem == Some(true),
            drop_capabilities: own.capabilities.and_then(|all| all.drop).unwrap_or_default(),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
        }
    }

    fn readiness(&mut self, probe: &Probe, ports: &[Port]) -> Option<Readiness> {
        let path = "spec.containers[0].readinessProbe";
        let port = if let Some(http) = &probe.http_get {
            http.port.clone()
        } else if let Some(tcp) = &probe.tcp_socket {
            tcp.port.clone()
        } else if let Some(grpc) = &probe.grpc {
            IntOrString::Int(grpc.port)
        } else {
            self.refuse(path, "it says nothing to ask: `httpGet`, `tcpSocket` or `grpc`");
            return None;
        };
        let named = |one: &&Port| match &port {
            IntOrString::Int(number) => i32::from(one.number) == *number,
            IntOrString::String(name) => one.name.as_ref() == Some(name),
        };
        let Some(port) = ports.iter().find(named) else {
            self.refuse(path, "its port is not one of the container's `ports`");
            return None;
        };
        let connects_to = probe.tcp_socket.is_some().then_some(port.number);
        Some(Readiness { probe: probe.clone(), connects_to })
    }
}

struct Security {
    user: Option<String>,
    read_only: bool,
    drop_capabilities: Vec<String>,
    no_new_privileges: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(container: Value, pod: Value) -> MigratableServiceSpec {
        let mut whole = json!({
            "containers": [{
                "name": "shop",
                "image": "shop:1",
                "ports": [{ "containerPort": 80, "name": "web" }, { "containerPort": 9000 }],
                "resources": { "requests": { "cpu": "250m", "memory": "64Mi" } }
            }]
        });
        let into = |whole: &mut Value, more: Value| {
            whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        };
        into(&mut whole["containers"][0], container);
        into(&mut whole, pod);
        let template = json!({ "metadata": { "labels": { "app": "shop" } }, "spec": whole });
        MigratableServiceSpec {
            on: None,
            pinned: false,
            protocols: [("web".to_owned(), Protocol::Http)].into(),
            template,
        }
    }

    fn described(container: Value, pod: Value) -> Result<Described, String> {
        let line = |refusal: &Refusal| format!("{}: {}", refusal.path, refusal.reason);
        let told = |refusals: Vec<Refusal>| refusals.iter().map(line).collect::<Vec<_>>().join("\n");
        describe("shop", &spec(container, pod), &"n1".into()).map_err(told)
    }

    #[test]
    fn all_that_is_said_is_carried_over() {
        let container = json!({
            "command": ["/bin/shop"],
            "args": ["--name=$(NAME)", "$$(NAME)"],
            "workingDir": "/srv",
            "env": [{ "name": "NAME", "value": "a b" }, { "name": "MORE", "value": "$(NAME)!" }],
            "resources": { "requests": { "cpu": "0.1" }, "limits": { "cpu": "1", "memory": "1Gi" } },
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            "readinessProbe": { "tcpSocket": { "port": "web" }, "periodSeconds": 3 },
            "imagePullPolicy": "Never",
            "securityContext": { "runAsUser": 5, "runAsGroup": 6, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                "seccompProfile": { "type": "RuntimeDefault" } }
        });
        let pod = json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 7,
            "volumes": [{ "name": "data", "emptyDir": {} }] });
        insta::assert_debug_snapshot!(described(container, pod).unwrap());
    }

    #[test]
    fn what_is_left_out_is_as_kubernetes_has_it() {
        let told = described(json!({}), json!({})).unwrap();
        let run = told.service.run.unwrap();
        assert_eq!((told.pull, run.restart), (Pull::IfNotPresent, Restart::Always));
        assert_eq!((told.ports[0].protocol, told.ports[1].protocol), (Protocol::Http, Protocol::Tcp));
        assert_eq!((told.service.cpu, told.service.memory), (Cores::from_micros(250_000), Bytes(64 << 20)));
        assert_eq!((run.memory_limit, run.cpu_limit, run.user), (None, None, None));
        assert_eq!(told.readiness, None);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let empty = || json!({});
        for (container, pod, word) in [
            (json!({ "resources": {} }), empty(), "requests.cpu: a place is chosen"),
            (
                json!({ "resources": { "requests": { "cpu": "many", "memory": "1Gi" } } }),
                empty(),
                "`many` is no quantity",
            ),
            (json!({ "image": "" }), empty(), "image: it is missing"),
            (
                json!({ "ports": [{ "containerPort": 80, "name": "web", "protocol": "UDP" }] }),
                empty(),
                "only TCP",
            ),
            (json!({ "ports": [{ "containerPort": 0, "name": "web" }] }), empty(), "1 to 65535"),
            (
                json!({ "ports": [{ "containerPort": 80 }] }),
                empty(),
                "protocols.web: the container has no port",
            ),
            (json!({ "env": [{ "name": "A" }, { "name": "A" }] }), empty(), "env[1].name: it is given twice"),
            (
                json!({ "volumeMounts": [{ "name": "no", "mountPath": "/a" }] }),
                empty(),
                "no volume of this name",
            ),
            (
                json!({ "securityContext": { "runAsNonRoot": true } }),
                empty(),
                "runAsNonRoot: say `runAsUser`",
            ),
            (json!({ "securityContext": { "runAsGroup": 1 } }), empty(), "runAsGroup: say `runAsUser`"),
            (
                json!({ "readinessProbe": { "httpGet": { "port": 81 } } }),
                empty(),
                "not one of the container's",
            ),
            (json!({ "readinessProbe": {} , "image": 5 }), empty(), "it is no pod template"),
            (empty(), json!({ "restartPolicy": "Sometimes" }), "restartPolicy: expected"),
            (empty(), json!({ "automountServiceAccountToken": true }), "no account there"),
            (
                empty(),
                json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
                "RuntimeDefault",
            ),
            (empty(), json!({ "containers": [] }), "one container is moved, and there are 0"),
            (empty(), json!({ "hostNetwork": true }), "spec.hostNetwork: "),
        ] {
            let said = described(container.clone(), pod).unwrap_err();
            assert!(said.contains(word), "{container}: {said}");
        }
        for name in ["", "a.b", "Shop", &"a".repeat(51)] {
            assert!(describe(name, &spec(json!({}), json!({})), &"n1".into()).is_err(), "{name}");
        }
    }
}
