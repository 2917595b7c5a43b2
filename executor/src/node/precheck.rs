//! What speaks against a migration, before anything is touched.

use bollard::models::HostConfig;
use sterna_policies::quantity::Bytes;

use crate::engine::docker::Container;

use super::api::NodeFacts;

/// What speaks against a container as such: things that CRIU or this method can't carry over.
pub fn container(container: &Container) -> Vec<String> {
    let host = container.host();
    let body = &container.body;
    let mut reasons = Vec::new();
    let mut refuse = |applies: bool, reason: &str| {
        if applies {
            reasons.push(reason.to_owned());
        }
    };
    refuse(container.pid.is_none(), "it does not run");
    refuse(container.paused, "it is paused already: somebody else holds it");
    refuse(body.tty == Some(true), "it has a terminal (-t): CRIU can't carry that over; start it without");
    refuse(
        host.auto_remove == Some(true),
        "it removes itself when it ends (--rm): a failed move could lose it; start it without",
    );
    refuse(
        host.privileged == Some(true),
        "it is privileged: what it holds of the node can't be carried over",
    );
    refuse(
        host.devices.as_ref().is_some_and(|all| !all.is_empty())
            || host.device_requests.as_ref().is_some_and(|all| !all.is_empty()),
        "it uses devices of the node",
    );
    for (what, mode) in shared_namespaces(&host) {
        refuse(true, &format!("it shares its {what} with {mode}"));
    }
    let network = host.network_mode.as_deref().unwrap_or("default");
    refuse(
        !matches!(network, "default" | "bridge" | "none"),
        &format!("it is on the network `{network}`: only the engine's default bridge is supported"),
    );
    for mount in &container.other_mounts {
        refuse(true, &format!("{mount} is mounted from the node: use a named volume"));
    }
    refuse(
        container.layer.is_none(),
        "its writable layer can't be found: the engine must use the overlay2 storage driver",
    );
    reasons
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

/// What speaks against two nodes as a pair.
pub fn pair(source: &NodeFacts, destination: &NodeFacts) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut same = |what: &str, a: &str, b: &str| {
        if a != b {
            reasons
                .push(format!("the nodes differ in {what}: `{a}` at the source, `{b}` at the destination"));
        }
    };
    same("architecture", &source.arch, &destination.arch);
    same("kernel", &source.kernel, &destination.kernel);
    same("cgroup version", &source.cgroup.to_string(), &destination.cgroup.to_string());
    same("mapping of user numbers", &source.user_map, &destination.user_map);
    same("version of CRIU", &source.criu, &destination.criu);
    same("version of runc", &source.runc, &destination.runc);
    same("version of sterna", &source.sterna, &destination.sterna);
    let missing: Vec<&str> = source
        .cpu_features
        .iter()
        .filter(|feature| !destination.cpu_features.contains(feature))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        reasons.push(format!("the destination's processor lacks {}", missing.join(", ")));
    }
    reasons
}

/// What speaks against a destination that has this much room for a memory image.
pub fn room(memory: Bytes, staging_free: Bytes) -> Option<String> {
    // CRIU's other images are small; a tenth more covers them.
    let needed = Bytes(memory.0 + memory.0 / 10 + (16 << 20));
    (needed > staging_free).then(|| {
        format!("the memory image needs about {needed}, and {staging_free} are free where images are staged")
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCreateBody;
    use sterna_policies::quantity::Cores;

    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            node: "a".into(),
            sterna: "1".into(),
            engine: "28".into(),
            kernel: "6.1".into(),
            arch: "x86_64".into(),
            cpu_features: vec!["avx2".into(), "sse2".into()],
            criu: "4.2".into(),
            runc: "1.3".into(),
            cgroup: 2,
            user_map: "0 100000 65536".into(),
            cpu: Cores::ZERO,
            memory: Bytes::ZERO,
            staging_free: Bytes::ZERO,
        }
    }

    fn plain() -> Container {
        Container {
            id: "c".into(),
            name: "redis".into(),
            image: "sha256:0".into(),
            pid: Some(7),
            paused: false,
            body: ContainerCreateBody::default(),
            layer: Some("/upper".into()),
            volumes: vec![],
            other_mounts: vec![],
        }
    }

    #[test]
    fn a_plain_container_on_a_like_node_passes() {
        assert_eq!(container(&plain()), [] as [&str; 0]);
        assert_eq!(pair(&facts(), &facts()), [] as [&str; 0]);
    }

    #[test]
    fn everything_that_speaks_against_it_is_named_at_once() {
        let mut bad = plain();
        bad.pid = None;
        bad.body.tty = Some(true);
        bad.other_mounts = vec!["/etc/x".into()];
        bad.body.host_config = Some(HostConfig {
            auto_remove: Some(true),
            privileged: Some(true),
            pid_mode: Some("host".into()),
            network_mode: Some("mine".into()),
            ..HostConfig::default()
        });
        let reasons = container(&bad);
        for word in ["does not run", "terminal", "--rm", "privileged", "process numbers", "`mine`", "/etc/x"]
        {
            assert!(reasons.iter().any(|reason| reason.contains(word)), "{word}: {reasons:?}");
        }
    }

    #[test]
    fn unlike_nodes_are_refused_but_a_better_processor_is_not() {
        let better =
            NodeFacts { cpu_features: vec!["avx2".into(), "avx512f".into(), "sse2".into()], ..facts() };
        assert_eq!(pair(&facts(), &better), [] as [&str; 0]);
        assert_eq!(pair(&better, &facts()), ["the destination's processor lacks avx512f"]);
        let other = NodeFacts { kernel: "6.18".into(), cgroup: 1, ..facts() };
        assert_eq!(pair(&facts(), &other).len(), 2);
    }

    #[test]
    fn room_is_counted_with_a_margin() {
        assert_eq!(room(Bytes::from_mib(100), Bytes::from_mib(200)), None);
        assert!(room(Bytes::from_mib(100), Bytes::from_mib(100)).is_some());
    }
}
