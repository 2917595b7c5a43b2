use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod(status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
}

fn waiting(reason: &str, message: &str) -> Pod {
    pod(json!({ "phase": "Pending", "containerStatuses": [{
        "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": message } } }] }))
}

fn scheduled(status: &str, message: &str) -> Pod {
    pod(json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message }] }))
}

const SUBJECT: Subject<'static> = Subject {
    context: Some("far"),
    namespace: "edge",
    pod: "sterna-demo-n1",
    image: "sterna-node:1",
    host: Some("worker-1"),
};

#[test]
fn each_condition_is_told_as_the_cluster_tells_it_and_with_what_to_do() {
    let crashed = pod(json!({ "phase": "Running", "containerStatuses": [{
        "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 3,
        "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } },
        "lastState": { "terminated": { "exitCode": 2, "reason": "Error", "message": "boot: no\n" } } }] }));
    let table = [
        (pod(json!({})), Kind::Scheduling, State::Starting),
        (pod(json!({ "phase": "Pending" })), Kind::Scheduling, State::Starting),
        (
            scheduled("False", "0/2 nodes are available: 2 Insufficient cpu."),
            Kind::Unschedulable,
            State::Stuck,
        ),
        (scheduled("True", ""), Kind::Making, State::Starting),
        (waiting("ContainerCreating", ""), Kind::Making, State::Starting),
        (waiting("ErrImageNeverPull", "image is not present"), Kind::ImageAbsent, State::Stuck),
        (waiting("ErrImagePull", "no such host"), Kind::ImageUnpulled, State::Stuck),
        (waiting("ImagePullBackOff", ""), Kind::ImageUnpulled, State::Stuck),
        (waiting("InvalidImageName", "bad"), Kind::ImageInvalid, State::Stuck),
        (waiting("CreateContainerError", "no"), Kind::Unmade, State::Stuck),
        (crashed, Kind::Crashing, State::Stuck),
        (
            pod(
                json!({ "phase": "Running", "containerStatuses": [{ "name": "node", "image": "", "imageID": "",
                "ready": true, "restartCount": 0, "state": { "running": {} } }] }),
            ),
            Kind::Running,
            State::Starting,
        ),
        (
            pod(json!({ "phase": "Failed", "reason": "Evicted", "message": "low on disk" })),
            Kind::Ended,
            State::Stopped,
        ),
        (pod(json!({ "phase": "Unknown" })), Kind::OutOfSight, State::Unknown),
        (
            pod(json!({ "phase": "Running", "reason": "NodeLost", "message": "unresponsive",
                "conditions": [{ "type": "Ready", "status": "False" }] })),
            Kind::OutOfSight,
            State::Unknown,
        ),
    ];
    let mut told = Vec::new();
    for (pod, kind, state) in table {
        let found = condition(&pod);
        assert_eq!((found.kind, found.kind.state()), (kind, state), "{pod:?}");
        let remedy = SUBJECT.remedy(kind).unwrap_or_default();
        told.push(format!("{kind:?} ({:?}): {}\n{remedy}", kind.patience(), found.said));
    }
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn one_that_is_being_removed_is_whatever_else_it_says() {
    let mut running = waiting("ErrImageNeverPull", "");
    running.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(condition(&running).kind, Kind::Leaving);
}

fn status(code: u16, reason: &str, message: &str) -> Status {
    Status { code, reason: reason.to_owned(), message: message.to_owned(), ..Status::default() }
}

/// What API servers say, word for word.
#[test]
fn each_refusal_is_told_apart_and_with_what_to_do() {
    let table = [
        (
            status(
                403,
                "Forbidden",
                "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"node\" must not \
                 set securityContext.privileged=true)",
            ),
            Refusal::PodSecurity,
        ),
        (
            status(
                403,
                "Forbidden",
                "pods \"p\" is forbidden: exceeded quota: small, requested: cpu=2, used: cpu=0, limited: cpu=1",
            ),
            Refusal::Quota,
        ),
        (
            status(403, "Forbidden", "pods \"p\" is forbidden: failed quota: q: must specify limits.cpu"),
            Refusal::Quota,
        ),
        (
            status(
                403,
                "Forbidden",
                "pods \"p\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 6Gi",
            ),
            Refusal::LimitRange,
        ),
        (
            status(
                403,
                "Forbidden",
                "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"edge\"",
            ),
            Refusal::Forbidden,
        ),
        (status(401, "Unauthorized", "Unauthorized"), Refusal::Unauthorized),
        (
            status(
                403,
                "Forbidden",
                "pods \"p\" is forbidden: error looking up service account edge/default: serviceaccount \"default\" not found",
            ),
            Refusal::NoAccount,
        ),
        (
            status(
                403,
                "Forbidden",
                "secrets \"p\" is forbidden: unable to create new content in namespace edge because it is being terminated",
            ),
            Refusal::Terminating,
        ),
        (
            status(
                422,
                "Invalid",
                "Pod \"p\" is invalid: spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy",
            ),
            Refusal::NoPrivilege,
        ),
        (status(409, "AlreadyExists", "pods \"p\" already exists"), Refusal::Exists),
        (
            status(400, "BadRequest", "admission webhook \"w.example\" denied the request: no"),
            Refusal::Webhook,
        ),
        (status(404, "NotFound", "pods \"p\" not found"), Refusal::Other),
        (status(500, "InternalError", "?"), Refusal::Other),
    ];
    let mut told = Vec::new();
    for (status, expected) in table {
        assert_eq!(refusal(&status), expected, "{}", status.message);
        told.push(format!("{expected:?}: {}", expected.remedy(None, "edge")));
    }
    told.dedup();
    insta::assert_snapshot!(told.join("\n\n"));
    let absent = json!({ "code": 404, "reason": "NotFound", "message": "namespaces \"edge\" not found",
        "details": { "kind": "namespaces", "name": "edge" } });
    let absent: Status = serde_json::from_value(absent).unwrap();
    assert_eq!(refusal(&absent), Refusal::NoNamespace);
    assert!(
        Refusal::NoNamespace
            .remedy(Some("far"), "edge")
            .contains("`kubectl --context far create namespace edge`")
    );
}

proptest! {
    /// Whatever a cluster says of a container that does not run, it is not taken for one that does, and there is advice.
    #[test]
    fn a_container_that_waits_never_runs(reason in "[A-Za-z]{0,20}", message in "\\PC{0,40}") {
        let found = condition(&waiting(&reason, &message));
        prop_assert_ne!(found.kind, Kind::Running);
        prop_assert!(SUBJECT.remedy(found.kind).is_some());
    }

    #[test]
    fn any_status_gets_an_answer(code in 400u16..600, message in "\\PC{0,60}") {
        let found = refusal(&status(code, "", &message));
        prop_assert!(!found.remedy(None, "edge").is_empty());
    }
}
