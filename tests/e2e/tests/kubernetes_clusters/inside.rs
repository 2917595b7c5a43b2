//! What stands in the first cluster for clients: fronts behind a Kubernetes service, and a pod that is such a client.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use sterna_e2e::charts::{self, Charts};
use sterna_e2e::digest::PORT;
use sterna_e2e::two_nodes::TwoNodes;

use crate::{Ground, NAMESPACE};

/// What the pod counts in.
pub const KEY: &str = "counted";
/// Where clients and fronts are.
const APPS: &str = "apps";
/// Counts over one connection until it is to stop. It knows the service by what the cluster tells each pod of it.
const COUNT: &str = r#"while [ ! -e /tmp/enough ]; do echo "INCR counted"; sleep 0.005; done |
redis-cli -h "$REDIS_SERVICE_HOST" -p "$REDIS_SERVICE_PORT""#;

/// Starts fronts that have this identity and this inventory, and gives the address of the Kubernetes service before them.
pub async fn fronts(
    ground: &Ground,
    charts: &Charts,
    image: &str,
    identity: &str,
    inventory: &str,
) -> anyhow::Result<SocketAddr> {
    let cluster = &ground.clusters[0];
    let (repository, tag) = image.rsplit_once(':').context("the image has no tag")?;
    cluster.make_restricted(APPS).await?;
    let secret = ["-n", APPS, "create", "secret", "generic", "sterna-front", "--from-file", identity];
    cluster.kubectl(&secret).await?;
    let rbac = ["rbac", "--front", "--namespace", APPS, "--nodes", NAMESPACE];
    let values = json!({
        "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
        "log": { "json": false },
        "front": {
            "enabled": true,
            "existingSecret": "sterna-front",
            "inventory": inventory,
            "services": [{ "name": "redis", "ports": [{ "port": PORT, "protocol": "redis" }] }],
        },
    });
    let rendered = charts.render_of(APPS, &values.to_string(), &[charts::FRONT]).await?;
    cluster.apply(&ground.desk.must(&rbac).await?).await?;
    cluster.apply(&rendered).await?;
    let waits = ["-n", APPS, "rollout", "status", "deployment", "sterna-front", "--timeout", "240s"];
    if let Err(error) = cluster.kubectl(&waits).await {
        let pods = cluster.kubectl(&["-n", APPS, "describe", "pods"]).await.unwrap_or_default();
        bail!("{error:#}\n{pods}");
    }
    let path = "jsonpath={.spec.clusterIP}";
    let address = cluster.kubectl(&["-n", APPS, "get", "service", "redis", "-o", path]).await?;
    Ok(SocketAddr::new(address.parse()?, PORT))
}

/// Starts a pod that counts.
pub async fn start_counting(cluster: &TwoNodes, image: &str) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "client", "namespace": APPS },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "client",
                "image": image,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", COUNT],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    cluster.apply(&pod.to_string()).await?;
    let waits = ["-n", APPS, "wait", "--for=condition=Ready", "pod/client", "--timeout=60s"];
    if let Err(error) = cluster.kubectl(&waits).await {
        let shown = cluster.kubectl(&["-n", APPS, "describe", "pod", "client"]).await.unwrap_or_default();
        bail!("{error:#}\n{shown}");
    }
    Ok(())
}

/// Has it stop, and gives how far it came. Each number that it was told must follow the one before: none was an error, none was
/// lost and none was made twice.
pub async fn stop_counting(cluster: &TwoNodes) -> anyhow::Result<u64> {
    cluster.kubectl(&["-n", APPS, "exec", "client", "--", "touch", "/tmp/enough"]).await?;
    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    cluster.kubectl(&["-n", APPS, "wait", ended, "pod/client", "--timeout=60s"]).await?;
    let told = cluster.kubectl(&["-n", APPS, "logs", "client"]).await?;
    let mut last = 0;
    for line in told.lines() {
        ensure!(line.parse() == Ok(last + 1), "after {last} the pod was told `{line}`");
        last += 1;
    }
    ensure!(last > 500, "the pod counted to {last} alone");
    Ok(last)
}
