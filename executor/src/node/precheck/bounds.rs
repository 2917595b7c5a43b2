//! What may be asked of a node at all, judged before anything is looked up or stored: names that are names, times and
//! sizes that can be meant, and no more of anything than a service can need.

use bollard::models::ContainerCreateBody;
use serde_json::Value;
use sterna_policies::load::is_name;
use sterna_policies::quantity::{Bytes, Millis};
use thiserror::Error;

use crate::engine::docker::SERVICE_LABEL;
use crate::engine::names;
use crate::migration::order::Order;
use crate::node::api::{Probe, PullImage, Reservation, Whereabouts};
use crate::node::canary::is_canary;
use crate::node::probe::TARGETS;

use super::description::volumes;

/// A week: a migration that takes longer has long been overtaken by what it was for.
const LONGEST: Millis = Millis::from_micros(7 * 24 * 3600 * 1_000_000_000);
/// No machine has a petabyte of memory or holds that of one service's files; sums of such sizes can't overflow.
const LARGEST: Bytes = Bytes(1 << 50);
/// A service that changes owners once a second for a million years gets this far.
const LAST_EPOCH: u64 = 1 << 45;
/// Twice what this program makes.
const TOKEN: usize = 128;
/// A host name has at most 253 bytes; a port follows.
const ADDRESS: usize = 260;
/// The kernel takes no longer argument or variable of a program.
const STRING: usize = 128 << 10;
/// Kubernetes' own limit of what identifies an object.
const UID: usize = 253;
const VOLUMES: usize = 64;
const VARIABLES: usize = 1024;
const ARGUMENTS: usize = 1024;
const PORTS: usize = 1024;
const LABELS: usize = 256;

/// Something that nobody would ask for who means it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this can't be meant: {0}")]
pub struct OutOfBounds(String);

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), OutOfBounds> {
    if holds { Ok(()) } else { Err(OutOfBounds(what())) }
}

/// Judges an order.
///
/// # Errors
/// When something is out of bounds; it is named.
pub fn order(order: &Order) -> Result<(), OutOfBounds> {
    for (what, name) in
        [("service", order.service.as_str()), ("node", order.from.as_str()), ("node", order.to.as_str())]
    {
        must(is_name(name), || format!("`{}` is not the name of a {what}", shown(name)))?;
    }
    for address in [&order.from_address, &order.to_address] {
        must(is_address(address), || format!("`{}` is not an address", shown(address)))?;
    }
    let times = [("deadline", Some(order.deadline)), ("freeze lease", Some(order.freeze_lease))];
    for (what, time) in times.into_iter().chain([("longest downtime", order.max_downtime)]) {
        let Some(time) = time else { continue };
        must(time > Millis::ZERO && time <= LONGEST, || {
            format!("its {what} is {time}, not more than nothing and at most {LONGEST}")
        })?;
    }
    Ok(())
}

/// Judges where a node is said to be.
///
/// # Errors
/// When something is out of bounds; it is named.
pub fn whereabouts(told: &Whereabouts) -> Result<(), OutOfBounds> {
    let Whereabouts { node, address } = told;
    must(is_name(node.as_str()), || format!("`{}` is not the name of a node", shown(node.as_str())))?;
    must(is_address(address), || format!("`{}` is not an address", shown(address)))
}

/// Judges what is to be probed.
///
/// # Errors
/// When something is out of bounds; it is named.
pub fn probe(probe: &Probe) -> Result<(), OutOfBounds> {
    let count = probe.targets.len();
    must((1..=TARGETS).contains(&count), || format!("{count} targets, not 1 to {TARGETS}"))?;
    probe.targets.iter().try_for_each(|target| {
        must(is_address(target), || format!("`{}` is not an address to probe", shown(target)))
    })
}

/// Judges what is to be pulled.
///
/// # Errors
/// When something is out of bounds; it is named.
pub fn pull(pull: &PullImage) -> Result<(), OutOfBounds> {
    let PullImage { image, within } = pull;
    must(names::is_image(image), || format!("`{}` is not the name of an image", shown(image)))?;
    must(*within > Millis::ZERO && *within <= LONGEST, || {
        format!("{within} to pull an image in, not more than nothing and at most {LONGEST}")
    })
}

/// What a reservation describes, if all of it is within bounds.
///
/// # Errors
/// When something is not; it is named.
pub fn reservation(wanted: &Reservation) -> Result<ContainerCreateBody, OutOfBounds> {
    order(&wanted.order)?;
    must(wanted.epoch <= LAST_EPOCH, || format!("no service is at epoch {}", wanted.epoch))?;
    for (what, size) in
        [("memory", wanted.memory), ("files", wanted.files), ("image size", wanted.image_size)]
    {
        must(size <= LARGEST, || format!("its {what} of {} bytes exceeds {LARGEST}", size.0))?;
    }
    must(names::is_digest(&wanted.image), || {
        format!("`{}` is not the digest of an image", shown(&wanted.image))
    })?;
    let token = &wanted.token;
    must((1..=TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()), || {
        format!("its token is not 1 to {TOKEN} printable bytes")
    })?;
    must(wanted.pod.as_deref().is_none_or(is_uid), || "its pod's UID is none".to_owned())?;
    strings(&wanted.body)?;
    let body: ContainerCreateBody = serde_json::from_value(wanted.body.clone())
        .map_err(|error| OutOfBounds(format!("the container's description can't be read: {error}")))?;
    container(wanted, &body)?;
    Ok(body)
}

/// Whether this can be the UID of a pod.
pub fn is_uid(text: &str) -> bool {
    (1..=UID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn container(wanted: &Reservation, body: &ContainerCreateBody) -> Result<(), OutOfBounds> {
    let image = body.image.as_deref().unwrap_or_default();
    must(names::is_image(image), || format!("`{}` is not the name of an image", shown(image)))?;
    let host = body.host_config.as_ref();
    let bindings = host.and_then(|host| host.port_bindings.as_ref());
    let published: usize =
        bindings.into_iter().flatten().map(|(_, all)| all.as_ref().map_or(0, Vec::len)).sum();
    let of = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    let exposed = of(&body.exposed_ports).max(bindings.map_or(0, |all| all.len())).max(published);
    for (what, count, most) in [
        ("volumes", wanted.volumes.len(), VOLUMES),
        ("volumes of its image", of(&body.volumes), VOLUMES),
        ("variables", of(&body.env), VARIABLES),
        ("arguments", of(&body.cmd) + of(&body.entrypoint), ARGUMENTS),
        ("ports", exposed, PORTS),
        ("labels", body.labels.as_ref().map_or(0, |all| all.len()), LABELS),
    ] {
        must(count <= most, || format!("it has {count} {what}, more than {most}"))?;
    }
    // What is given up later is removed by these names, so they must be those of the container and no others.
    let named = volumes(body);
    for volume in &wanted.volumes {
        must(named.contains(volume.as_str()), || {
            format!("`{}` is not a volume of the container", shown(volume))
        })?;
    }
    for volume in named {
        must(wanted.volumes.iter().any(|one| one == volume), || {
            format!("the container's volume `{volume}` is not among its volumes")
        })?;
    }
    // The label makes a container a service: that of the order, or none for a canary.
    let label = body.labels.as_ref().and_then(|all| all.get(SERVICE_LABEL)).map(String::as_str);
    let service = &wanted.order.service;
    let right = if is_canary(service) { label.is_none() } else { label == Some(service.as_str()) };
    must(right, || format!("the container's label is not that of `{service}`"))
}

/// No string can be longer than the kernel or a person could use, wherever it stands.
fn strings(value: &Value) -> Result<(), OutOfBounds> {
    let short = |text: &str| {
        must(text.len() <= STRING, || format!("a text in the container's description exceeds {STRING} bytes"))
    };
    match value {
        Value::String(text) => short(text),
        Value::Array(all) => all.iter().try_for_each(strings),
        Value::Object(all) => all.iter().try_for_each(|(key, value)| {
            short(key)?;
            strings(value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// `host:port`, where the host may be a name, an address, or an address of IPv6 in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let known = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    text.len() <= ADDRESS && known && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// As much of a text as can be shown, without what could confuse a terminal or a log.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::docker::service_body;
    use sterna_core::continuum::Run;

    fn plain() -> Reservation {
        let run = Run {
            image: "redis:7".into(),
            command: vec!["redis-server".into()],
            env: vec!["A=b".into()],
            ports: vec!["6379/tcp".into()],
            volumes: vec!["data:/data".into()],
            on: "a".into(),
            ..Run::default()
        };
        Reservation {
            order: Order::example(),
            epoch: 3,
            body: serde_json::to_value(service_body(&"redis".into(), &run).unwrap()).unwrap(),
            image: format!("sha256:{}", "0a".repeat(32)),
            volumes: vec!["data".into()],
            memory: Bytes::from_mib(100),
            files: Bytes::from_mib(1),
            image_size: Bytes::from_mib(50),
            token: "0a".repeat(32),
            pod: None,
        }
    }

    #[test]
    fn what_a_source_asks_for_is_within_bounds() {
        reservation(&plain()).unwrap();
        let mut slow = plain();
        slow.order.deadline = "2d".parse().unwrap();
        slow.order.freeze_lease = "1h".parse().unwrap();
        reservation(&slow).unwrap();
        let mut canary = plain();
        canary.order.service =
            sterna_core::continuum::ServiceName::from(format!("sterna-canary-{}", canary.order.id));
        canary.body = serde_json::json!({ "Image": "sterna-canary:1" });
        canary.volumes.clear();
        reservation(&canary).unwrap();
    }

    type Change = fn(&mut Reservation);

    #[test]
    fn whatever_is_out_of_bounds_is_named() {
        let many = |count: usize| vec!["x".to_owned(); count];
        let bad: &[(&str, Change)] = &[
            ("service", |one| one.order.service = "../containers/redis?force=1".into()),
            ("service", |one| one.order.service = "a\nb".into()),
            ("node", |one| one.order.from = "".into()),
            ("address", |one| one.order.from_address = "nowhere".into()),
            ("address", |one| one.order.from_address = "a b:1".into()),
            ("address", |one| one.order.to_address = "[::1:7420".into()),
            ("address", |one| one.order.to_address = "host:0".into()),
            ("deadline", |one| one.order.deadline = Millis::ZERO),
            ("deadline", |one| one.order.deadline = Millis::from_micros(i64::MAX)),
            ("freeze lease", |one| one.order.freeze_lease = Millis::from_micros(-1)),
            ("longest downtime", |one| one.order.max_downtime = Some(Millis::ZERO)),
            ("epoch", |one| one.epoch = u64::MAX),
            ("memory", |one| one.memory = Bytes(u64::MAX)),
            ("files", |one| one.files = Bytes(u64::MAX)),
            ("image size", |one| one.image_size = Bytes(u64::MAX)),
            ("digest", |one| one.image = "redis:7".into()),
            ("digest", |one| one.image.push('0')),
            ("token", |one| one.token.clear()),
            ("token", |one| one.token = "0".repeat(TOKEN + 1)),
            ("token", |one| one.token = "a\r\nb".into()),
            ("volume", |one| one.volumes.push("../containers/redis?force=1".into())),
            ("volume", |one| one.volumes.push("another".into())),
            ("volume", |one| one.volumes.clear()),
            ("can't be read", |one| one.body = serde_json::json!([])),
            ("can't be read", |one| {
                one.body["HostConfig"]["RestartPolicy"] = serde_json::json!({ "Name": "sometimes" });
            }),
            ("name of an image", |one| one.body["Image"] = "../events?".into()),
            ("name of an image", |one| one.body = serde_json::json!({})),
            ("label", |one| one.body["Labels"] = serde_json::json!({ SERVICE_LABEL: "postgres" })),
            ("label", |one| one.body["Labels"] = serde_json::json!({})),
            ("text", |one| one.body["User"] = "x".repeat(STRING + 1).into()),
        ];
        for (word, change) in bad {
            let mut one = plain();
            change(&mut one);
            let refused = reservation(&one).unwrap_err().to_string();
            assert!(refused.contains(word), "{word}: {refused}");
        }
        for (word, field, most) in [
            ("variables", "Env", VARIABLES),
            ("arguments", "Cmd", ARGUMENTS),
            ("ports", "ExposedPorts", PORTS),
        ] {
            let mut one = plain();
            let put = |one: &mut Reservation, count| match field {
                "ExposedPorts" => {
                    let ports = (0..count).map(|port| (format!("{port}/tcp"), serde_json::json!({})));
                    one.body[field] = Value::Object(ports.collect());
                }
                _ => one.body[field] = many(count).into(),
            };
            put(&mut one, most);
            reservation(&one).unwrap();
            put(&mut one, most + 1);
            assert!(reservation(&one).unwrap_err().to_string().contains(word), "{word}");
        }
        let mut labels = plain();
        for at in 0..LABELS {
            labels.body["Labels"][format!("l{at}")] = "x".into();
        }
        assert!(reservation(&labels).unwrap_err().to_string().contains("labels"));
    }

    #[test]
    fn what_is_pulled_is_an_image_within_a_time() {
        let asked =
            |image: &str, within: &str| PullImage { image: image.into(), within: within.parse().unwrap() };
        pull(&asked("registry.example:5000/a/redis:7", "10m")).unwrap();
        for (image, within) in [("../events?", "10m"), ("", "10m"), ("redis", "0s"), ("redis", "30d")] {
            assert!(pull(&asked(image, within)).is_err(), "{image} {within}");
        }
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        for good in ["10.0.0.1:7420", "edge-1.example.org:1", "[fd00::1]:7420"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", ":1", "a", "a:", "a:x", "a:70000", "[x]:1", "fd00::1:1", "a/b:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
