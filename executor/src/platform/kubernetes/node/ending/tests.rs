use serde_json::{Value, json};

use super::*;

const ENDED: &str = "2026-11-27T10:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn terminated(reason: &str) -> Value {
    json!({ "terminated": { "exitCode": 0, "reason": reason, "containerID": "containerd://1", "finishedAt": ENDED } })
}

fn pod(status: Value, container: Value) -> Pod {
    let mut status = status;
    if !container.is_null() {
        status["containerStatuses"] = json!([{
            "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": container }]);
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": "sterna-demo-n1", "namespace": "edge", "uid": "u1", "labels": { "sterna.node": "n1" },
            "deletionTimestamp": ENDED },
        "spec": {
            "nodeName": "worker-1", "containers": [{ "name": "node" }],
            "volumes": [{ "name": "agent", "secret": {} }, { "name": "state", "emptyDir": {} }] },
        "status": status,
    }))
    .unwrap()
}

fn told(pod: &Pod) -> Result<PodEnd, Unproven> {
    ending(pod, at("2026-11-27T10:00:01Z"))
}

fn gone(reason: &str) -> Value {
    json!({ "phase": "Failed", "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": reason }] })
}

#[test]
fn what_its_kubelet_says_of_all_its_containers_at_its_final_phase_is_proof() {
    let end = told(&pod(json!({ "phase": "Succeeded" }), terminated("Completed"))).unwrap();
    let expected = PodEnd {
        node: "n1".into(),
        uid: "u1".to_owned(),
        namespace: "edge".to_owned(),
        pod: "sterna-demo-n1".to_owned(),
        host: Some("worker-1".to_owned()),
        said: "Completed, status 0".to_owned(),
        ended: at(ENDED),
        seen: at("2026-11-27T10:00:01Z"),
    };
    assert_eq!(end, expected);
    assert_eq!(
        end.to_string(),
        "pod edge/sterna-demo-n1 (UID u1) ended at 2026-11-27T10:00:00Z: Completed, status 0"
    );
    // Drained, preempted, or ended by its own node for want of something.
    for how in ["EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"] {
        assert!(told(&pod(gone(how), terminated("Error"))).is_ok(), "{how}");
    }
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
    assert_eq!(told(&pod(evicted, terminated("Error"))).unwrap().said, "Evicted: Error, status 0");
}

#[test]
fn nothing_less_is() {
    let running = json!({ "running": {} });
    let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let failed = || json!({ "phase": "Failed" });
    let container = || Unproven::Container("node".to_owned());
    let given_up = |why: &str| Unproven::GivenUp(why.to_owned());
    let lost = json!({ "phase": "Failed", "reason": "NodeLost" });
    let no_id = json!({ "terminated": { "exitCode": 137, "reason": "Error", "finishedAt": ENDED } });
    let no_time = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "containerID": "c" } });
    for (what, status, state, why) in [
        ("deleted by force while it ran", json!({ "phase": "Running" }), running.clone(), Unproven::NotEnded),
        // Its container may have been started again since that was said.
        (
            "deleted by force as it crashed",
            json!({ "phase": "Running" }),
            terminated("Error"),
            Unproven::NotEnded,
        ),
        ("never seen", json!({ "phase": "Unknown" }), terminated("Error"), Unproven::NotEnded),
        ("without a phase", json!({}), terminated("Error"), Unproven::NotEnded),
        ("of a lost node", lost, terminated("Error"), given_up("NodeLost")),
        ("cleared up", gone("DeletionByPodGC"), terminated("Error"), given_up("DeletionByPodGC")),
        // Earlier kubelets say so before they end the containers.
        ("being evicted", json!({ "phase": "Failed", "reason": "Evicted" }), Value::Null, container()),
        ("failed, and still runs", failed(), running, container()),
        ("failed, and waits", failed(), waits, container()),
        ("not found", failed(), terminated("ContainerStatusUnknown"), container()),
        ("of no container", failed(), no_id, container()),
        ("at no time", failed(), no_time, container()),
    ] {
        assert_eq!(told(&pod(status, state)).unwrap_err(), why, "{what}");
    }
}

#[test]
fn a_pod_that_is_not_whole_or_leaves_something_behind_is_none() {
    let good = || pod(json!({ "phase": "Succeeded" }), terminated("Completed"));
    let mut other = good();
    other.metadata.labels = None;
    assert_eq!(told(&other), Err(Unproven::Foreign));
    let mut other = good();
    other.metadata.uid = None;
    assert_eq!(told(&other), Err(Unproven::Foreign));
    let mut other = good();
    other.status = None;
    assert_eq!(told(&other), Err(Unproven::Foreign));

    // Each of its containers must have ended.
    let mut other = good();
    let containers = &mut other.spec.as_mut().unwrap().containers;
    containers.push(serde_json::from_value(json!({ "name": "sidecar" })).unwrap());
    assert_eq!(told(&other), Err(Unproven::Container("sidecar".to_owned())));

    for kept in [
        json!({ "persistentVolumeClaim": { "claimName": "c" } }),
        json!({ "hostPath": { "path": "/x" } }),
        json!({}),
    ] {
        let mut volume = kept.clone();
        volume["name"] = json!("storage");
        let mut other = good();
        other.spec.as_mut().unwrap().volumes.as_mut().unwrap().push(serde_json::from_value(volume).unwrap());
        assert_eq!(told(&other), Err(Unproven::Kept("storage".to_owned())), "{kept}");
    }
}
