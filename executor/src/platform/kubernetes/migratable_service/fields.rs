//! What of a pod template can be honoured, field by field.
//!
//! Of every field that a template may have there are three kinds: those that are carried over, those that are refused with a
//! reason of their own, and the rest, which is refused too. So none is dropped, of whatever version of Kubernetes it may be.

use serde_json::Value;

/// Something of a template that can't be honoured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Where it stands, `spec.containers[0].envFrom`.
    pub path: String,
    /// Why, and what to do instead.
    pub reason: String,
}

impl Refusal {
    /// Of a place in the template.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// What is carried over. `[]` stands for any place in a list, `*` for any key and all below it.
const HONOURED: &[&str] = &[
    "metadata.labels.*",
    "metadata.annotations.*",
    "spec.restartPolicy",
    "spec.terminationGracePeriodSeconds",
    "spec.automountServiceAccountToken",
    "spec.enableServiceLinks",
    "spec.securityContext.runAsUser",
    "spec.securityContext.runAsGroup",
    "spec.securityContext.runAsNonRoot",
    "spec.securityContext.seccompProfile.type",
    "spec.volumes[].name",
    "spec.volumes[].emptyDir",
    "spec.containers[].name",
    "spec.containers[].image",
    "spec.containers[].imagePullPolicy",
    "spec.containers[].command[]",
    "spec.containers[].args[]",
    "spec.containers[].workingDir",
    "spec.containers[].env[].name",
    "spec.containers[].env[].value",
    "spec.containers[].ports[].name",
    "spec.containers[].ports[].containerPort",
    "spec.containers[].ports[].protocol",
    "spec.containers[].resources.requests.cpu",
    "spec.containers[].resources.requests.memory",
    "spec.containers[].resources.limits.cpu",
    "spec.containers[].resources.limits.memory",
    "spec.containers[].volumeMounts[].name",
    "spec.containers[].volumeMounts[].mountPath",
    "spec.containers[].securityContext.runAsUser",
    "spec.containers[].securityContext.runAsGroup",
    "spec.containers[].securityContext.runAsNonRoot",
    "spec.containers[].securityContext.readOnlyRootFilesystem",
    "spec.containers[].securityContext.allowPrivilegeEscalation",
    "spec.containers[].securityContext.capabilities.drop[]",
    "spec.containers[].securityContext.seccompProfile.type",
    "spec.containers[].readinessProbe.httpGet.path",
    "spec.containers[].readinessProbe.httpGet.port",
    "spec.containers[].readinessProbe.httpGet.scheme",
    "spec.containers[].readinessProbe.httpGet.httpHeaders[].name",
    "spec.containers[].readinessProbe.httpGet.httpHeaders[].value",
    "spec.containers[].readinessProbe.tcpSocket.port",
    "spec.containers[].readinessProbe.grpc.port",
    "spec.containers[].readinessProbe.grpc.service",
    "spec.containers[].readinessProbe.initialDelaySeconds",
    "spec.containers[].readinessProbe.periodSeconds",
    "spec.containers[].readinessProbe.timeoutSeconds",
    "spec.containers[].readinessProbe.successThreshold",
    "spec.containers[].readinessProbe.failureThreshold",
];

/// A value of one word.
#[derive(Debug, Clone, Copy)]
enum Plain {
    /// `false`.
    No,
    /// This text.
    Text(&'static str),
}

impl Plain {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::No => value.as_bool() == Some(false),
            Self::Text(text) => value.as_str() == Some(text),
        }
    }
}

/// Values that say what is so in any case, and so may be written down.
const SO_ANYWAY: &[(&str, Plain)] = &[
    ("spec.dnsPolicy", Plain::Text("Default")),
    ("spec.hostIPC", Plain::No),
    ("spec.hostNetwork", Plain::No),
    ("spec.hostPID", Plain::No),
    ("spec.shareProcessNamespace", Plain::No),
    ("spec.schedulerName", Plain::Text("default-scheduler")),
    ("spec.serviceAccount", Plain::Text("default")),
    ("spec.serviceAccountName", Plain::Text("default")),
    ("spec.containers[].securityContext.privileged", Plain::No),
    ("spec.containers[].stdin", Plain::No),
    ("spec.containers[].tty", Plain::No),
    ("spec.containers[].terminationMessagePath", Plain::Text("/dev/termination-log")),
    ("spec.containers[].terminationMessagePolicy", Plain::Text("File")),
];

/// A probe would be made by the cluster, at the stand-in.
const PROBE: &str = "where it fails the cluster starts the container again, which would be the stand-in and not the service; \
    `readinessProbe` is honoured";
const PLACE: &str = "where it runs is for Sterna to decide: say it in a policy, or with `on` of this object";
const HOST: &str = "a service must not share anything with its node, or it could not leave it";
const SECRETS: &str =
    "Sterna reads neither secrets nor config maps of yours; write the value, or put it into the image";

/// What is refused with a reason of its own; the longest beginning that fits counts.
const REFUSED: &[(&str, &str)] = &[
    ("metadata.name", "the service has the name of this object"),
    ("metadata.namespace", "the service has the namespace of this object"),
    ("metadata.finalizers", "it would be the stand-in's, which is made anew when it is lost"),
    ("metadata.ownerReferences", "the stand-in belongs to this object"),
    ("spec.initContainers", "one container is moved; do it in the image, or before"),
    ("spec.ephemeralContainers", "one container is moved"),
    ("spec.nodeName", PLACE),
    ("spec.nodeSelector", PLACE),
    ("spec.affinity", PLACE),
    ("spec.tolerations", PLACE),
    ("spec.topologySpreadConstraints", PLACE),
    ("spec.schedulerName", PLACE),
    ("spec.priority", PLACE),
    ("spec.priorityClassName", PLACE),
    ("spec.runtimeClassName", "services run under the runtime that can move them"),
    ("spec.hostNetwork", HOST),
    ("spec.hostPID", HOST),
    ("spec.hostIPC", HOST),
    ("spec.hostUsers", HOST),
    ("spec.shareProcessNamespace", "there is one container"),
    ("spec.hostname", "its host name is that of this object"),
    ("spec.subdomain", "its host name is that of this object"),
    ("spec.setHostnameAsFQDN", "its host name is that of this object"),
    ("spec.hostAliases", "it could not be changed when the service moves; use names of a name server"),
    ("spec.dnsPolicy", "names are looked up as its node does it; only `Default` says that"),
    ("spec.dnsConfig", "names are looked up as its node does it"),
    ("spec.serviceAccountName", "the service runs outside of the cluster and has no account there"),
    ("spec.serviceAccount", "the service runs outside of the cluster and has no account there"),
    (
        "spec.imagePullSecrets",
        "images are pulled by the engines of nodes, without credentials: load the image there",
    ),
    ("spec.activeDeadlineSeconds", "a service has no end of its own"),
    ("spec.securityContext.fsGroup", "volumes belong to who writes to them; let the image set their owner"),
    ("spec.securityContext.fsGroupChangePolicy", "volumes belong to who writes to them"),
    ("spec.securityContext.supplementalGroups", "only `runAsUser` and `runAsGroup` are carried over"),
    ("spec.securityContext.sysctls", "another node's kernel may not have it"),
    (
        "spec.volumes[].emptyDir.medium",
        "its memory could not be told from the service's; leave it out for a volume on disk",
    ),
    ("spec.volumes[].emptyDir.sizeLimit", "the engines of nodes can't hold a volume to a size"),
    ("spec.volumes[].configMap", SECRETS),
    ("spec.volumes[].secret", SECRETS),
    ("spec.volumes[].projected", SECRETS),
    ("spec.volumes[].downwardAPI", SECRETS),
    ("spec.volumes[].hostPath", HOST),
    ("spec.volumes[]", "only `emptyDir` can move with a service"),
    ("spec.containers[].envFrom", SECRETS),
    ("spec.containers[].env[].valueFrom", SECRETS),
    ("spec.containers[].ports[].hostPort", "the node publishes the port under its own number"),
    ("spec.containers[].ports[].hostIP", "the node publishes the port at all its addresses"),
    ("spec.containers[].resources.requests", "only `cpu` and `memory` can be asked for"),
    ("spec.containers[].resources.limits", "only `cpu` and `memory` can be limited"),
    ("spec.containers[].resources.claims", "devices can't be moved"),
    ("spec.containers[].volumeDevices", "devices can't be moved"),
    ("spec.containers[].volumeMounts[].subPath", "the whole volume is mounted"),
    ("spec.containers[].volumeMounts[].subPathExpr", "the whole volume is mounted"),
    ("spec.containers[].volumeMounts[].readOnly", "nobody else could write to its volume"),
    ("spec.containers[].volumeMounts[].mountPropagation", HOST),
    ("spec.containers[].livenessProbe", PROBE),
    ("spec.containers[].startupProbe", PROBE),
    (
        "spec.containers[].readinessProbe.exec",
        "it would run in the stand-in, which has none of the service's files; \
        `httpGet`, `tcpSocket` and `grpc` are honoured",
    ),
    ("spec.containers[].readinessProbe.httpGet.host", "it is asked where the stand-in listens"),
    ("spec.containers[].readinessProbe.tcpSocket.host", "it is asked where the stand-in listens"),
    ("spec.containers[].lifecycle", "hooks would run in the stand-in, or at each move"),
    ("spec.containers[].stdin", "nobody could type into it"),
    ("spec.containers[].tty", "a terminal can't be moved"),
    ("spec.containers[].securityContext.privileged", "a privileged service can't be moved"),
    (
        "spec.containers[].securityContext.capabilities.add",
        "a service has no more than the engine gives to any",
    ),
    ("spec.containers[].securityContext.procMount", HOST),
    ("spec.containers[].terminationMessagePath", "the last words of a service are in its output"),
    ("spec.containers[].terminationMessagePolicy", "the last words of a service are in its output"),
];

const UNKNOWN: &str = "Sterna does not know how to honour it";

/// All that can't be honoured of a template, for what is in it alone.
pub fn refused(template: &Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    walk(template, "", "", &mut refusals);
    refusals.sort();
    refusals
}

/// Goes down until it is clear; `path` is where, `shape` the same with `[]` for places in lists.
fn walk(value: &Value, path: &str, shape: &str, refusals: &mut Vec<Refusal>) {
    let honoured = |pattern: &&str| match pattern.strip_suffix(".*") {
        Some(above) => shape.strip_prefix(above).is_some_and(|rest| rest.starts_with('.')),
        None => **pattern == *shape,
    };
    // Written, and yet nothing is said by it; of a volume that is empty that is all there is to say.
    let nothing = match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let said = nothing || !(value.is_object() || value.is_array());
    if said && HONOURED.iter().any(honoured) {
        return;
    }
    if SO_ANYWAY.iter().any(|(known, plain)| *known == shape && plain.is(value)) {
        return;
    }
    let deeper = |pattern: &str| {
        shape.is_empty() || pattern.strip_prefix(shape).is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    let known = SO_ANYWAY.iter().map(|(known, _)| *known).chain(REFUSED.iter().map(|(known, _)| *known));
    let goes_on = HONOURED.iter().copied().chain(known).any(deeper);
    match value {
        Value::Object(fields) if goes_on => {
            for (key, inner) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(inner, &format!("{path}{dot}{key}"), &format!("{shape}{dot}{key}"), refusals);
            }
        }
        Value::Array(list) if goes_on => {
            for (at, inner) in list.iter().enumerate() {
                walk(inner, &format!("{path}[{at}]"), &format!("{shape}[]"), refusals);
            }
        }
        _ if nothing => {}
        _ => refusals.push(Refusal::new(path, reason(shape))),
    }
}

fn reason(shape: &str) -> &'static str {
    let fits = |known: &str| {
        shape.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let all = REFUSED.iter().filter(|(known, _)| fits(known));
    all.max_by_key(|(known, _)| known.len()).map_or(UNKNOWN, |(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn paths(template: &Value) -> Vec<String> {
        refused(template).into_iter().map(|refusal| refusal.path).collect()
    }

    #[test]
    fn what_can_be_honoured_is_not_refused() {
        let template = json!({
            "metadata": { "labels": { "app.kubernetes.io/name": "shop" }, "creationTimestamp": null },
            "spec": {
                "restartPolicy": "Always",
                "hostNetwork": false,
                "serviceAccountName": "default",
                "nodeSelector": {},
                "volumes": [{ "name": "data", "emptyDir": {} }],
                "containers": [{
                    "name": "shop",
                    "image": "shop:1",
                    "args": ["--port", "80"],
                    "env": [{ "name": "A", "value": "1" }],
                    "ports": [{ "containerPort": 80, "name": "http" }],
                    "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                    "readinessProbe": { "httpGet": { "path": "/", "port": "http" }, "periodSeconds": 2 },
                    "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                    "securityContext": { "privileged": false, "capabilities": { "drop": ["ALL"] } }
                }]
            }
        });
        assert_eq!(refused(&template), []);
    }

    #[test]
    fn what_cannot_is_refused_where_it_stands_and_with_what_to_do() {
        let template = json!({
            "metadata": { "name": "x" },
            "spec": {
                "hostNetwork": true,
                "initContainers": [{ "name": "first" }],
                "nodeSelector": { "zone": "a" },
                "volumes": [{ "name": "a", "hostPath": { "path": "/" } }, { "name": "b", "nfs": {} , "iscsi": { "x": 1 } },
                    { "name": "c", "emptyDir": { "medium": "Memory" } }],
                "containers": [{
                    "name": "shop",
                    "envFrom": [{ "configMapRef": { "name": "c" } }],
                    "env": [{ "name": "A", "valueFrom": { "secretKeyRef": {} } }],
                    "livenessProbe": { "tcpSocket": { "port": 1 } },
                    "readinessProbe": { "exec": { "command": ["true"] } },
                    "securityContext": { "privileged": true, "capabilities": { "add": ["SYS_ADMIN"] } },
                    "fromTheFuture": 1
                }]
            }
        });
        let said: String =
            refused(&template).iter().map(|one| format!("{}: {}\n", one.path, one.reason)).collect();
        insta::assert_snapshot!(said);
    }

    #[test]
    fn every_reason_can_be_given() {
        for (known, reason) in REFUSED {
            assert_eq!(super::reason(known), *reason, "{known}");
            assert!(!HONOURED.contains(known), "{known} is honoured and refused");
        }
    }

    /// Any JSON, of names that templates have.
    fn any_template() -> impl Strategy<Value = Value> {
        let words = [
            "metadata",
            "spec",
            "labels",
            "containers",
            "env",
            "name",
            "value",
            "volumes",
            "emptyDir",
            "ports",
            "new",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(6, 64, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(
                    prop::sample::select(words.to_vec()).prop_map(str::to_owned),
                    inner,
                    0..4
                )
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
            ]
        })
    }

    /// All places of a value where something stands.
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (key, inner) in fields {
                    leaves(inner, &format!("{path}{}{key}", if path.is_empty() { "" } else { "." }), found);
                }
            }
            Value::Array(list) => {
                for (at, inner) in list.iter().enumerate() {
                    leaves(inner, &format!("{path}[{at}]"), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    proptest! {
        /// Nothing is dropped: whatever says something is carried over, so anyway, or refused.
        #[test]
        fn every_leaf_is_honoured_or_refused(template in any_template()) {
            let mut all = Vec::new();
            leaves(&template, "", &mut all);
            let refusals = paths(&template);
            for leaf in all {
                let shape: String = leaf.split('[').enumerate()
                    .map(|(at, part)| if at == 0 { part.to_owned() } else { format!("[]{}", part.split_once(']').unwrap().1) })
                    .collect();
                let carried = HONOURED.iter().any(|pattern| match pattern.strip_suffix(".*") {
                    Some(above) => shape.strip_prefix(above).is_some_and(|rest| rest.starts_with('.')),
                    None => *pattern == shape,
                });
                let refused = refusals.iter().any(|path| leaf.strip_prefix(path.as_str()).is_some());
                prop_assert!(carried || refused, "{leaf} is dropped");
            }
        }
    }
}
