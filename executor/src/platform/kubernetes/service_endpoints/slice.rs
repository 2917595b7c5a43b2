//! What the slice of a Kubernetes service should say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use crate::platform::kubernetes::migration_object::resource::CONTINUUM;
use crate::traffic::announcement::Standing;
use crate::traffic::place::Owned;

/// The label by which the cluster finds the slices of a service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who keeps a slice. Nobody else touches those of others.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// That it is us.
pub const MANAGER: &str = "sterna.io";

/// The name of the slice of a service of the cluster.
pub fn name(service: &str, continuum: &str) -> String {
    format!("{service}-sterna-{continuum}")
}

/// The slice that leads to where a service is owned, and why it does not lead further than it does.
pub fn leading(service: &Service, continuum: &str, owned: &Owned) -> (EndpointSlice, Vec<String>) {
    let (mut ports, mut notes) = (Vec::new(), Vec::new());
    for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
        match published(port, owned) {
            Ok(port) => ports.push(port),
            Err(why) => notes.push(why),
        }
    }
    let mut endpoints = Vec::new();
    if can_be_an_endpoint(owned.host) {
        let runs = owned.announced.standing != Standing::Frozen;
        endpoints.push(Endpoint {
            addresses: vec![owned.host.to_string()],
            conditions: Some(conditions(runs)),
            ..Endpoint::default()
        });
    } else {
        let (node, host) = (&owned.node, owned.host);
        notes.push(format!(
            "the agent of `{node}` is at {host}, which means another place to each who goes there"
        ));
    }
    let slice = EndpointSlice {
        address_type: if owned.host.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints,
        ports: Some(ports),
        metadata: metadata(service, continuum),
    };
    (slice, notes)
}

/// What a slice says once nobody takes connections where it leads.
pub fn leading_nowhere(service: &Service, continuum: &str, seen: &EndpointSlice) -> EndpointSlice {
    let not_ready = |endpoint: &Endpoint| Endpoint {
        addresses: endpoint.addresses.clone(),
        conditions: Some(conditions(false)),
        ..Endpoint::default()
    };
    EndpointSlice {
        address_type: seen.address_type.clone(),
        endpoints: seen.endpoints.iter().map(not_ready).collect(),
        ports: seen.ports.clone(),
        metadata: metadata(service, continuum),
    }
}

/// Whether a slice says what it should, in all that is ours of it.
pub fn says(seen: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let labels = seen.metadata.labels.as_ref();
    let labelled =
        |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    wanted.metadata.labels.iter().flatten().all(labelled)
        && seen.metadata.owner_references == wanted.metadata.owner_references
        && seen.endpoints == wanted.endpoints
        && seen.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
}

fn conditions(ready: bool) -> EndpointConditions {
    EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) }
}

fn metadata(service: &Service, continuum: &str) -> ObjectMeta {
    let of = service.metadata.name.clone().unwrap_or_default();
    let labels = [
        (SERVICE_NAME, of.as_str()),
        (MANAGED_BY, MANAGER),
        (CONTINUUM, continuum),
        ("app.kubernetes.io/name", "sterna"),
    ];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta {
        name: Some(name(&of, continuum)),
        labels: Some(labels.collect::<BTreeMap<_, _>>()),
        // It goes with its service, also where no scheduler runs.
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            name: of,
            controller: Some(true),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

/// A cluster takes no address that is each host's own.
fn can_be_an_endpoint(host: IpAddr) -> bool {
    let link_local = match host {
        IpAddr::V4(host) => host.is_link_local(),
        IpAddr::V6(host) => host.is_unicast_link_local(),
    };
    !host.is_loopback() && !host.is_unspecified() && !host.is_multicast() && !link_local
}

/// Where a port of a service of the cluster leads.
fn published(port: &ServicePort, owned: &Owned) -> Result<EndpointPort, String> {
    let outer = port.port;
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return Err(format!("its port {outer} is not TCP; agents tell of no other"));
    }
    let target = match &port.target_port {
        None => outer,
        // What the server puts there where nobody says anything.
        Some(IntOrString::Int(0)) => outer,
        Some(IntOrString::Int(target)) => *target,
        Some(IntOrString::String(target)) => {
            return Err(format!("the `targetPort` of its port {outer} is `{target}`; it must be a number"));
        }
    };
    let inner = u16::try_from(target).ok();
    let Some(published) = inner.and_then(|inner| owned.announced.ports.get(&inner)) else {
        return Err(format!("port {target} of the service is not published on `{}`", owned.node));
    };
    Ok(EndpointPort {
        app_protocol: port.app_protocol.clone(),
        // As the server has them where they are left out.
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some("TCP".to_owned()),
        port: Some(i32::from(*published)),
    })
}
