//! What speaks against a container as it is described: what CRIU or this method can't carry over, and what would give a
//! service more of a node than the engine gives to any.
//!
//! The source asks this of the service that is to leave, and the destination of the description that it is sent: an agent
//! that was taken over must not get by a reservation what no service may have.

use std::collections::BTreeSet;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum as CgroupMode,
    HostConfigIsolationEnum as Isolation, Mount, MountType,
};

use crate::engine::docker::{RUNTIME, published};
use crate::engine::{criu, names};
use crate::migration::finding::{Code, Finding, Subject};

/// The engine's own volume driver.
pub(super) const LOCAL: &str = "local";

/// The capabilities that the engine gives to every container that does not drop them.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Names of the runtime under which the engine runs ordinary containers. The destination puts its own in their place.
const RUNTIMES: [&str; 4] = ["", RUNTIME, "runc", "io.containerd.runc.v2"];

/// Options of a volume that change nothing outside of it.
const VOLUME_OPTIONS: [&str; 6] = ["", "rw", "ro", "nocopy", "z", "Z"];

/// What every engine hides from containers, or lets them only read, of those lists that it has had since they can be set.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Collects findings.
struct Against(Vec<Finding>);

impl Against {
    fn when(&mut self, applies: bool, code: Code, what: &str) {
        if applies {
            self.say(code, what);
        }
    }

    fn say(&mut self, code: Code, what: impl Into<String>) {
        let finding = Finding::new(code, Subject::Service, what);
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }
}

/// What speaks against a description, on a node whose cgroup version is this.
pub fn description(body: &ContainerCreateBody, cgroup: u8) -> Vec<Finding> {
    let mut against = Against(Vec::new());
    against.when(body.tty == Some(true), Code::Terminal, "it has a terminal");
    let endpoints = body.networking_config.as_ref().and_then(|all| all.endpoints_config.as_ref());
    for network in endpoints.into_iter().flat_map(|all| all.keys()).filter(|name| !is_own_network(name)) {
        against.say(Code::Network, format!("it is on the network `{network}`"));
    }
    host(&mut against, &body.host_config.clone().unwrap_or_default(), cgroup);
    against.0
}

/// Named volumes of a description.
pub fn volumes(body: &ContainerCreateBody) -> BTreeSet<&str> {
    let host = body.host_config.as_ref();
    let binds = host.and_then(|host| host.binds.as_ref()).into_iter().flatten();
    let mounts = host.and_then(|host| host.mounts.as_ref()).into_iter().flatten();
    let of_binds = binds.filter_map(|bind| bind.split(':').next());
    let of_mounts = mounts.filter_map(|mount| mount.source.as_deref());
    of_binds.chain(of_mounts).filter(|name| names::is_object(name)).collect()
}

/// Ports of the node that a container takes, `6379/tcp`.
pub fn taken_ports(body: &ContainerCreateBody) -> Vec<String> {
    let mut ports: Vec<String> =
        published(body).map(|one| format!("{}/{}", one.outer, one.protocol)).collect();
    ports.sort();
    ports
}

fn is_own_network(name: &str) -> bool {
    matches!(name, "" | "default" | "bridge" | "none")
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

/// Every field is named, so that none that the engine learns can be forgotten.
fn host(against: &mut Against, host: &HostConfig, cgroup: u8) {
    let HostConfig {
        annotations,
        auto_remove,
        binds,
        cap_add,
        cgroup: shared_cgroup,
        cgroup_parent,
        cgroupns_mode,
        device_cgroup_rules,
        device_requests,
        devices,
        init,
        ipc_mode,
        isolation,
        links,
        masked_paths,
        mounts,
        network_mode,
        oom_score_adj,
        pid_mode,
        privileged,
        readonly_paths,
        runtime,
        security_opt,
        sysctls,
        userns_mode,
        uts_mode,
        volume_driver,
        volumes_from,
        // These give less, share out what services have, or stay within the container.
        blkio_device_read_bps: _,
        blkio_device_read_iops: _,
        blkio_device_write_bps: _,
        blkio_device_write_iops: _,
        blkio_weight: _,
        blkio_weight_device: _,
        cap_drop: _,
        console_size: _,
        container_id_file: _,
        cpu_count: _,
        cpu_percent: _,
        cpu_period: _,
        cpu_quota: _,
        cpu_realtime_period: _,
        cpu_realtime_runtime: _,
        cpu_shares: _,
        cpuset_cpus: _,
        cpuset_mems: _,
        dns: _,
        dns_options: _,
        dns_search: _,
        extra_hosts: _,
        group_add: _,
        io_maximum_bandwidth: _,
        io_maximum_iops: _,
        log_config: _,
        memory: _,
        memory_reservation: _,
        memory_swap: _,
        memory_swappiness: _,
        nano_cpus: _,
        oom_kill_disable: _,
        pids_limit: _,
        port_bindings: _,
        publish_all_ports: _,
        readonly_rootfs: _,
        restart_policy: _,
        shm_size: _,
        storage_opt: _,
        tmpfs: _,
        ulimits: _,
    } = host;

    against.when(*auto_remove == Some(true), Code::RemovesItself, "it removes itself when it ends (`--rm`)");
    against.when(*privileged == Some(true), Code::Privileged, "it is privileged");
    let some_device = some(devices.as_ref()) || some(device_requests.as_ref());
    against.when(
        some_device || some(device_cgroup_rules.as_ref()),
        Code::Devices,
        "it uses devices of the node",
    );
    against.when(*init == Some(true), Code::EngineInit, "it has an init of the engine's (`--init`)");

    for (what, mode) in [
        ("process numbers", pid_mode),
        ("inter-process communication", ipc_mode),
        ("host name", uts_mode),
        ("user numbers", userns_mode),
        ("control group", shared_cgroup),
    ] {
        let mode = text(mode.as_ref());
        if !matches!(mode, "" | "private" | "shareable" | "none") {
            against.say(Code::SharedNamespace, format!("it shares its {what} with {mode}"));
        }
    }
    // Under cgroup v1 that is what every container has.
    let seen = cgroup != 1 && *cgroupns_mode == Some(CgroupMode::HOST);
    against.when(seen, Code::SharedNamespace, "it shares its view of control groups with host");
    let network = text(network_mode.as_ref());
    if !is_own_network(network) {
        against.say(Code::Network, format!("it is on the network `{network}`"));
    }
    against.when(some(links.as_ref()), Code::Network, "it is linked with another container (`--link`)");

    against.when(
        some(volumes_from.as_ref()),
        Code::Mount,
        "it has the volumes of another container (`--volumes-from`)",
    );
    for bind in binds.iter().flatten() {
        one_bind(against, bind);
    }
    for mount in mounts.iter().flatten() {
        one_mount(against, mount);
    }
    let driver = text(volume_driver.as_ref());
    if !matches!(driver, "" | LOCAL) {
        against.say(Code::VolumeDriver, format!("its volumes are made by the driver `{driver}`"));
    }

    let mut loosens = |what: String| against.say(Code::Confinement, what);
    for capability in cap_add.iter().flatten() {
        let plain = capability.to_uppercase();
        if !CAPABILITIES.contains(&plain.strip_prefix("CAP_").unwrap_or(&plain)) {
            loosens(format!("it has the capability {capability}"));
        }
    }
    for option in security_opt.iter().flatten() {
        let gives_up = option.split_once(['=', ':']).unwrap_or((option, "true"));
        if gives_up != ("no-new-privileges", "true") {
            loosens(format!("it has the security option `{option}`"));
        }
    }
    for name in sysctls.iter().flat_map(|all| all.keys()).filter(|name| !is_namespaced(name)) {
        loosens(format!("it sets `{name}` of the node's kernel"));
    }
    let named = text(runtime.as_ref());
    if !RUNTIMES.contains(&named) {
        loosens(format!("it is run by `{named}`"));
    }
    let parent = text(cgroup_parent.as_ref());
    if !parent.is_empty() {
        loosens(format!("it is in the control group `{parent}`"));
    }
    for name in annotations.iter().flat_map(|all| all.keys()).filter(|name| *name != criu::ANNOTATION) {
        loosens(format!("it has the annotation `{name}` for its runtime"));
    }
    if oom_score_adj.is_some_and(|score| score < 0) {
        loosens("the kernel is to spare it when memory runs out".to_owned());
    }
    if !matches!(isolation, None | Some(Isolation::EMPTY | Isolation::DEFAULT)) {
        loosens("it is isolated in a way of its own".to_owned());
    }
    for (list, wanted, what) in [
        (masked_paths, &MASKED[..], "sees what the engine hides"),
        (readonly_paths, &READ_ONLY, "may write to what the engine lets be read"),
    ] {
        let Some(list) = list else { continue };
        if !wanted.iter().all(|path| list.iter().any(|one| one == path)) {
            loosens(format!("it {what} of the kernel"));
        }
    }
}

/// `volume:/place` or `volume:/place:options`; anything else is not a volume.
fn one_bind(against: &mut Against, bind: &str) {
    let mut parts = bind.splitn(3, ':');
    let (source, place) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let options = parts.next().unwrap_or_default();
    if !names::is_object(source) || !place.starts_with('/') {
        let place = if place.is_empty() { source } else { place };
        return against.say(Code::Mount, format!("{place} is mounted from the node"));
    }
    if let Some(option) = options.split(',').find(|option| !VOLUME_OPTIONS.contains(option)) {
        against.say(Code::Mount, format!("{place} is mounted with the option `{option}`"));
    }
}

/// A local volume with options of its driver can be any folder of the node.
fn one_mount(against: &mut Against, mount: &Mount) {
    let place = text(mount.target.as_ref());
    let source = text(mount.source.as_ref());
    let plain = mount.typ == Some(MountType::VOLUME) && (source.is_empty() || names::is_object(source));
    if !plain || mount.bind_options.is_some() {
        return against.say(Code::Mount, format!("{place} is mounted from the node"));
    }
    let options = mount.volume_options.as_ref();
    if let Some(driver) = options.and_then(|options| options.driver_config.as_ref()) {
        let named = text(driver.name.as_ref());
        if !matches!(named, "" | LOCAL) || driver.options.as_ref().is_some_and(|all| !all.is_empty()) {
            let what = format!("its volume at {place} is of the driver `{named}` with options of its own");
            against.say(Code::VolumeDriver, what);
        }
    }
    if options.is_some_and(|options| options.subpath.as_ref().is_some_and(|path| !path.is_empty())) {
        against.say(Code::Mount, format!("{place} is a part of a volume"));
    }
}

/// Whether a setting of the kernel is the container's own: those that the engine lets through.
fn is_namespaced(name: &str) -> bool {
    let own = ["net.", "kernel.msg", "kernel.shm", "fs.mqueue."];
    own.iter().any(|prefix| name.starts_with(prefix)) || name == "kernel.sem"
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{DeviceMapping, MountVolumeOptions, MountVolumeOptionsDriverConfig};
    use sterna_core::continuum::{Restart, Run};
    use sterna_policies::quantity::{Bytes, Cores, Millis};

    use super::*;
    use crate::engine::docker::{destination_body, service_body};

    fn run() -> Run {
        Run {
            image: "redis".into(),
            command: vec!["redis-server".into()],
            env: vec!["A=b".into()],
            ports: vec!["6379/tcp".into()],
            volumes: vec!["data:/data".into(), "more:/more:ro".into()],
            on: "a".into(),
            ..Run::default()
        }
    }

    fn with(change: impl FnOnce(&mut HostConfig)) -> Vec<Finding> {
        let mut body = service_body(&"redis".into(), &run()).unwrap();
        change(body.host_config.get_or_insert_default());
        description(&body, 2)
    }

    #[test]
    fn services_of_an_inventory_pass_also_after_they_have_moved() {
        let body = service_body(&"redis".into(), &run()).unwrap();
        assert_eq!(description(&body, 2), []);
        assert_eq!(volumes(&body), BTreeSet::from(["data", "more"]));
        assert_eq!(description(&destination_body(body, "m1"), 2), []);
    }

    #[test]
    fn all_that_an_inventory_may_say_of_a_service_passes() {
        let run = Run {
            entrypoint: vec!["/sbin/run".into()],
            working_dir: Some("/srv".into()),
            user: Some("999:999".into()),
            memory_limit: Some(Bytes::from_mib(64)),
            cpu_limit: Cores::from_f64(0.5),
            read_only: true,
            drop_capabilities: vec!["ALL".into()],
            no_new_privileges: true,
            restart: Restart::Never,
            stop_timeout: Millis::from_f64(30_000.0),
            ..run()
        };
        let body = service_body(&"redis".into(), &run).unwrap();
        assert_eq!(description(&body, 2), []);
        assert_eq!(description(&destination_body(body, "m1"), 2), []);
    }

    #[test]
    fn what_gives_up_rights_passes() {
        let given_up = with(|host| {
            host.cap_drop = Some(vec!["ALL".into()]);
            host.cap_add = Some(vec!["CAP_CHOWN".into(), "kill".into()]);
            host.security_opt = Some(vec!["no-new-privileges".into(), "no-new-privileges=true".into()]);
            host.sysctls = Some(HashMap::from([("net.core.somaxconn".into(), "100".into())]));
            host.readonly_rootfs = Some(true);
            host.ipc_mode = Some("private".into());
            host.masked_paths = Some(MASKED.map(str::to_owned).to_vec());
        });
        assert_eq!(given_up, []);
    }

    type Change = fn(&mut HostConfig);

    fn list(one: &str) -> Option<Vec<String>> {
        Some(vec![one.to_owned()])
    }

    fn volume(driver: &str, options: &[(&str, &str)]) -> Mount {
        let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Mount {
            typ: Some(MountType::VOLUME),
            source: Some("v".into()),
            target: Some("/v".into()),
            volume_options: Some(MountVolumeOptions {
                driver_config: Some(MountVolumeOptionsDriverConfig {
                    name: Some(driver.to_owned()),
                    options: Some(options),
                }),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        }
    }

    #[test]
    fn no_way_to_more_of_the_node_is_open() {
        let ways: &[(Code, Change)] = &[
            (Code::Privileged, |host| host.privileged = Some(true)),
            (Code::RemovesItself, |host| host.auto_remove = Some(true)),
            (Code::EngineInit, |host| host.init = Some(true)),
            (Code::Devices, |host| host.devices = Some(vec![DeviceMapping::default()])),
            (Code::Devices, |host| host.device_cgroup_rules = list("a *:* rwm")),
            (Code::SharedNamespace, |host| host.pid_mode = Some("host".into())),
            (Code::SharedNamespace, |host| host.ipc_mode = Some("container:redis".into())),
            (Code::SharedNamespace, |host| host.uts_mode = Some("host".into())),
            (Code::SharedNamespace, |host| host.userns_mode = Some("host".into())),
            (Code::SharedNamespace, |host| host.cgroup = Some("container:redis".into())),
            (Code::SharedNamespace, |host| host.cgroupns_mode = Some(CgroupMode::HOST)),
            (Code::Network, |host| host.network_mode = Some("host".into())),
            (Code::Network, |host| host.links = list("redis:db")),
            (Code::Mount, |host| host.volumes_from = list("redis")),
            (Code::Mount, |host| host.binds = list("/:/host")),
            (Code::Mount, |host| host.binds = list("../x:/host")),
            (Code::Mount, |host| host.binds = list("/var/run/docker.sock")),
            (Code::Mount, |host| host.binds = list("data:/data:rshared")),
            (Code::Mount, |host| {
                host.mounts = Some(vec![Mount { typ: Some(MountType::BIND), ..volume("", &[]) }]);
            }),
            (Code::Mount, |host| {
                host.mounts = Some(vec![Mount { source: Some("/etc".into()), ..volume("", &[]) }]);
            }),
            (Code::VolumeDriver, |host| {
                host.mounts =
                    Some(vec![volume("local", &[("type", "none"), ("o", "bind"), ("device", "/")])]);
            }),
            (Code::VolumeDriver, |host| host.mounts = Some(vec![volume("nfs", &[])])),
            (Code::VolumeDriver, |host| host.volume_driver = Some("nfs".into())),
            (Code::Confinement, |host| host.cap_add = list("SYS_ADMIN")),
            (Code::Confinement, |host| host.cap_add = list("ALL")),
            (Code::Confinement, |host| host.security_opt = list("seccomp=unconfined")),
            (Code::Confinement, |host| host.security_opt = list("apparmor=unconfined")),
            (Code::Confinement, |host| host.security_opt = list("no-new-privileges=false")),
            (Code::Confinement, |host| {
                host.sysctls = Some(HashMap::from([("kernel.core_pattern".into(), "|/x".into())]));
            }),
            (Code::Confinement, |host| host.runtime = Some("kata".into())),
            (Code::Confinement, |host| host.cgroup_parent = Some("/".into())),
            (Code::Confinement, |host| {
                host.annotations = Some(HashMap::from([("org.systemd.property.Slice".into(), "'x'".into())]));
            }),
            (Code::Confinement, |host| host.oom_score_adj = Some(-1000)),
            (Code::Confinement, |host| host.masked_paths = Some(vec![])),
            (Code::Confinement, |host| host.readonly_paths = Some(vec![])),
        ];
        for (at, (code, change)) in ways.iter().enumerate() {
            let codes: Vec<Code> = with(change).iter().map(|one| one.code).collect();
            assert_eq!(codes, [*code], "way {at}");
        }
    }

    #[test]
    fn under_cgroup_v1_every_container_sees_the_nodes_control_groups() {
        let mut body = service_body(&"redis".into(), &run()).unwrap();
        body.host_config.get_or_insert_default().cgroupns_mode = Some(CgroupMode::HOST);
        assert_eq!(description(&body, 1), []);
        assert_eq!(description(&body, 2).len(), 1);
    }

    #[test]
    fn published_ports_are_those_of_the_node() {
        let run = Run { ports: vec!["80/tcp".into(), "53/udp".into()], ..run() };
        assert_eq!(taken_ports(&service_body(&"s".into(), &run).unwrap()), ["53/udp", "80/tcp"]);
    }
}
