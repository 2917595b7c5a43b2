//! What speaks against a migration, before anything is touched.

use bollard::models::HostConfig;
use sterna_policies::quantity::Bytes;

use crate::engine::docker::Container;
use crate::engine::privileges;
use crate::migration::finding::{Code, Finding, Subject};

use super::api::NodeFacts;

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

/// What speaks against two nodes as a pair.
pub fn pair(source: &NodeFacts, destination: &NodeFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut same = |code, what: &str, a: &str, b: &str| {
        if a != b {
            let what = format!("they differ in {what}: `{a}` at the source, `{b}` at the destination");
            findings.push(Finding::new(code, Subject::Pair, what));
        }
    };
    same(Code::Architecture, "architecture", &source.arch, &destination.arch);
    same(Code::Kernel, "kernel", &source.kernel, &destination.kernel);
    same(Code::CgroupVersion, "cgroup version", &source.cgroup.to_string(), &destination.cgroup.to_string());
    same(Code::UserMap, "mapping of user numbers", &source.user_map, &destination.user_map);
    same(Code::CriuVersion, "version of CRIU", &source.criu, &destination.criu);
    same(Code::RuncVersion, "version of runc", &source.runc, &destination.runc);
    same(Code::SternaVersion, "version of sterna", &source.sterna, &destination.sterna);
    let missing: Vec<&str> = source
        .cpu_features
        .iter()
        .filter(|feature| !destination.cpu_features.contains(feature))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let what = format!("its processor lacks {}", missing.join(", "));
        findings.push(Finding::new(Code::CpuFeatures, Subject::Destination, what));
    }
    findings
}

/// What speaks against an end that has this much room for a memory image.
pub fn room(end: Subject, memory: Bytes, staging_free: Bytes) -> Option<Finding> {
    // CRIU's other images are small; a tenth more covers them.
    let needed = Bytes(memory.0 + memory.0 / 10 + (16 << 20));
    (needed > staging_free).then(|| {
        let what = format!("the memory image needs about {needed}, and {staging_free} are free");
        Finding::new(Code::Staging, end, what)
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
        assert_eq!(container(&plain()), []);
        assert_eq!(pair(&facts(), &facts()), []);
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
        let findings = container(&bad);
        for (code, word) in [
            (Code::NotRunning, "does not run"),
            (Code::Terminal, "terminal"),
            (Code::RemovesItself, "--rm"),
            (Code::Privileged, "privileged"),
            (Code::SharedNamespace, "process numbers"),
            (Code::Network, "`mine`"),
            (Code::Mount, "/etc/x"),
        ] {
            let found = findings.iter().any(|one| one.code == code && one.what.contains(word));
            assert!(found, "{code} {word}: {findings:?}");
        }
    }

    #[test]
    fn unlike_nodes_are_refused_but_a_better_processor_is_not() {
        let better =
            NodeFacts { cpu_features: vec!["avx2".into(), "avx512f".into(), "sse2".into()], ..facts() };
        assert_eq!(pair(&facts(), &better), []);
        let lacking = Finding::new(Code::CpuFeatures, Subject::Destination, "its processor lacks avx512f");
        assert_eq!(pair(&better, &facts()), [lacking]);
        let other = NodeFacts { kernel: "6.18".into(), cgroup: 1, ..facts() };
        assert_eq!(pair(&facts(), &other).len(), 2);
    }

    #[test]
    fn room_is_counted_with_a_margin() {
        let end = Subject::Source;
        assert_eq!(room(end, Bytes::from_mib(100), Bytes::from_mib(200)), None);
        let short = room(end, Bytes::from_mib(100), Bytes::from_mib(100)).unwrap();
        assert_eq!((short.code, short.subject), (Code::Staging, Subject::Source));
    }
}
