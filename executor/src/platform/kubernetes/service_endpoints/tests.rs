use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_core::continuum::ServiceName;

use super::reconcile::{Due, Step, reconcile};
use crate::migration::order::MigrationId;
use crate::traffic::announcement::{Announced, Standing};
use crate::traffic::hearing::Known;
use crate::traffic::place::Owned;

const CONTINUUM: &str = "shop";

fn service(name: &str, label: &str, more: Value) -> Service {
    let mut spec =
        json!({ "ports": [{ "name": "redis", "port": 6379, "targetPort": 6379, "protocol": "TCP" }] });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata =
        json!({ "name": name, "uid": format!("uid-{name}"), "labels": { "sterna.io/service": label } });
    Service::deserialize(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn owned(host: &str, standing: Standing) -> Known {
    let ports = BTreeMap::from([(6379, 16379), (9121, 19121)]);
    let announced = Announced { epoch: 1, standing, ports };
    Known::At(Owned { node: "n1".into(), host: host.parse::<IpAddr>().unwrap(), announced })
}

fn known(known: Known) -> BTreeMap<ServiceName, Known> {
    BTreeMap::from([("redis".into(), known)])
}

/// What a cluster keeps of what is written to it.
#[derive(Default)]
struct Cluster {
    slices: BTreeMap<String, EndpointSlice>,
    version: u64,
}

impl Cluster {
    fn look(&mut self, known: &BTreeMap<ServiceName, Known>, services: &[Service]) -> Due {
        let slices: Vec<_> = self.slices.values().cloned().collect();
        let due = reconcile(CONTINUUM, known, services, &slices);
        for step in &due.steps {
            self.write(step);
        }
        due
    }

    fn write(&mut self, step: &Step) {
        self.version += 1;
        match step {
            Step::Create(slice) => {
                let name = slice.metadata.name.clone().unwrap();
                let mut slice = (**slice).clone();
                slice.metadata.uid = Some(format!("uid-{}", self.version));
                slice.metadata.resource_version = Some(self.version.to_string());
                assert!(self.slices.insert(name, slice).is_none(), "there is one already");
            }
            Step::Write { slice, version } => {
                let seen = self.slices.get_mut(slice.metadata.name.as_ref().unwrap()).unwrap();
                assert_eq!(seen.metadata.resource_version.as_ref(), Some(version));
                assert_eq!(seen.address_type, slice.address_type, "it can't be changed");
                let (uid, own) = (seen.metadata.uid.clone(), seen.metadata.labels.clone());
                *seen = (**slice).clone();
                seen.metadata.uid = uid;
                seen.metadata.labels.as_mut().unwrap().extend(own.into_iter().flatten());
                seen.metadata.resource_version = Some(self.version.to_string());
            }
            Step::Remove { name, uid } => {
                assert_eq!(self.slices[name].metadata.uid.as_ref(), Some(uid));
                self.slices.remove(name);
            }
        }
    }

    /// Looks until nothing is to be done; what it says then.
    fn settle(
        &mut self,
        known: &BTreeMap<ServiceName, Known>,
        services: &[Service],
    ) -> Vec<(String, String)> {
        for _ in 0..4 {
            let due = self.look(known, services);
            if due.steps.is_empty() {
                return due.notes;
            }
        }
        panic!("it does not come to rest");
    }

    /// Where a service leads: address, port, and whether it is ready.
    fn leads(&self, service: &str) -> Option<(String, Option<i32>, bool)> {
        let slice = self.slices.get(&format!("{service}-sterna-{CONTINUUM}"))?;
        let endpoint = slice.endpoints.first()?;
        let port = slice.ports.as_ref()?.first().and_then(|port| port.port);
        let conditions = endpoint.conditions.as_ref()?;
        assert_eq!(conditions.ready, conditions.serving);
        Some((endpoint.addresses[0].clone(), port, conditions.ready?))
    }
}

fn there(host: &str, ready: bool) -> Option<(String, Option<i32>, bool)> {
    Some((host.to_owned(), Some(16379), ready))
}

#[test]
fn a_service_leads_to_its_owner_and_is_not_ready_while_it_stands_still() {
    let services = [service("cache", "redis", json!({}))];
    let mut cluster = Cluster::default();
    let mut settle = |one: Known| {
        assert_eq!(cluster.settle(&known(one), &services), []);
        cluster.leads("cache")
    };
    assert_eq!(settle(Known::Nothing), None);
    assert_eq!(settle(Known::Nowhere), None);
    assert_eq!(settle(owned("10.0.0.1", Standing::Runs)), there("10.0.0.1", true));
    assert_eq!(settle(owned("10.0.0.1", Standing::Stops(MigrationId::new()))), there("10.0.0.1", true));
    assert_eq!(settle(owned("10.0.0.1", Standing::Frozen)), there("10.0.0.1", false));
    assert_eq!(settle(owned("10.0.0.2", Standing::Runs)), there("10.0.0.2", true));
    // As after a start: nothing is known yet, which is no reason to lead clients away.
    assert_eq!(settle(Known::Nothing), there("10.0.0.2", true));
    assert_eq!(settle(Known::Nowhere), there("10.0.0.2", false));
    assert_eq!(settle(owned("fd00::3", Standing::Runs)), there("fd00::3", true));
}

#[test]
fn a_slice_is_found_by_the_cluster_and_goes_with_its_service() {
    let mut cluster = Cluster::default();
    let ports = json!({ "ports": [
        { "name": "redis", "port": 80, "targetPort": 6379, "appProtocol": "redis" },
        { "name": "exporter", "port": 9121 },
        { "name": "gone", "port": 81 },
        { "name": "named", "port": 82, "targetPort": "web" },
        { "name": "dns", "port": 53, "protocol": "UDP" },
    ] });
    let services = [service("cache", "redis", ports)];
    let notes = cluster.settle(&known(owned("10.0.0.1", Standing::Runs)), &services);
    let slice = &cluster.slices["cache-sterna-shop"];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "cache");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "sterna.io");
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
        ("Service", "cache", "uid-cache")
    );
    let ports: Vec<_> = slice.ports.iter().flatten().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(ports, [(Some("redis"), Some(16379)), (Some("exporter"), Some(19121))]);
    assert_eq!(slice.ports.as_ref().unwrap()[0].app_protocol.as_deref(), Some("redis"));
    let words: Vec<_> = notes.iter().map(|(_, why)| why.as_str()).collect();
    for (why, word) in words.iter().zip(["port 81", "`web`", "not TCP"]) {
        assert!(why.contains(word), "{words:?}");
    }
    // Somebody else writes into it.
    let slice = cluster.slices.get_mut("cache-sterna-shop").unwrap();
    slice.ports = None;
    slice.metadata.owner_references = None;
    cluster.settle(&known(owned("10.0.0.1", Standing::Runs)), &services);
    assert_eq!(cluster.leads("cache"), there("10.0.0.1", true));
    // It goes with the label, by us, and with the service, by whoever is first.
    cluster.settle(&known(owned("10.0.0.1", Standing::Runs)), &[]);
    assert!(cluster.slices.is_empty());
}

#[test]
fn what_can_not_be_led_is_left_alone_and_told() {
    for (service, word) in [
        (service("cache", "redis", json!({ "selector": { "app": "x" } })), "has a selector"),
        (service("cache", "redis", json!({ "type": "ExternalName" })), "ExternalName"),
        (service("cache", "rediss", json!({})), "the inventory has no service `rediss`"),
    ] {
        let mut cluster = Cluster::default();
        let notes = cluster.settle(&known(owned("10.0.0.1", Standing::Runs)), std::slice::from_ref(&service));
        assert!(notes.len() == 1 && notes[0].0 == "cache" && notes[0].1.contains(word), "{notes:?}");
        assert!(cluster.slices.is_empty());
    }
    // Where each is at home nobody else can be sent.
    let (mut cluster, services) = (Cluster::default(), [service("cache", "redis", json!({}))]);
    let notes = cluster.settle(&known(owned("127.0.0.1", Standing::Runs)), &services);
    assert!(notes[0].1.contains("127.0.0.1"), "{notes:?}");
    assert_eq!(cluster.leads("cache"), None);
    // One for another continuum is that one's.
    let mut other = service("cache", "rediss", json!({}));
    other.metadata.labels.as_mut().unwrap().insert("sterna.io/continuum".to_owned(), "other".to_owned());
    assert_eq!(Cluster::default().settle(&known(Known::Nowhere), &[other]), []);
}

fn any_known() -> impl Strategy<Value = Known> {
    let standing = prop_oneof![
        Just(Standing::Runs),
        Just(Standing::Frozen),
        Just(()).prop_map(|()| Standing::Stops(MigrationId::new())),
    ];
    let host = prop_oneof![Just("10.0.0.1"), Just("10.0.0.2"), Just("fd00::1"), Just("127.0.0.1")];
    prop_oneof![
        Just(Known::Nothing),
        Just(Known::Nowhere),
        (host, standing).prop_map(|(host, standing)| owned(host, standing)),
    ]
}

fn any_services() -> impl Strategy<Value = Vec<Service>> {
    let one = |name: &'static str| {
        let label = prop_oneof![Just("redis"), Just("web"), Just("nobody")];
        let more = prop_oneof![
            Just(json!({})),
            Just(json!({ "selector": { "a": "b" } })),
            Just(json!({ "ports": [{ "port": 9121 }, { "name": "x", "port": 1 }] })),
        ];
        (any::<bool>(), label, more)
            .prop_map(move |(there, label, more)| there.then(|| service(name, label, more)))
    };
    (one("a"), one("b")).prop_map(|(a, b)| a.into_iter().chain(b).collect())
}

proptest! {
    /// Whatever is known and whatever is there, in whatever order: it comes to rest, leads nowhere but to where a service runs, and
    /// slices of others stay as they are.
    #[test]
    fn it_leads_to_owners_and_nowhere_else(
        steps in prop::collection::vec((any_known(), any_known(), any_services()), 1..8),
    ) {
        let mut cluster = Cluster::default();
        let mut foreign = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
        foreign.metadata.name = Some("a-sterna-shops".to_owned());
        foreign.metadata.labels = Some(BTreeMap::from([
            ("endpointslice.kubernetes.io/managed-by".to_owned(), "sterna.io".to_owned()),
            ("sterna.io/continuum".to_owned(), "shops".to_owned()),
        ]));
        cluster.slices.insert("a-sterna-shops".to_owned(), foreign.clone());
        for (redis, web, services) in steps {
            let known = BTreeMap::from([("redis".into(), redis), ("web".into(), web)]);
            let before: BTreeMap<_, _> = ["a", "b"].map(|name| (name, cluster.leads(name))).into();
            cluster.settle(&known, &services);
            for name in ["a", "b"] {
                let leads = cluster.leads(name);
                let service = services.iter().find(|one| one.metadata.name.as_deref() == Some(name));
                let named = service.and_then(|one| known.get(&ServiceName::from(one.metadata.labels.as_ref()?["sterna.io/service"].as_str())));
                let Some((address, _, ready)) = leads.clone() else { continue };
                match named {
                    Some(Known::At(owned)) => {
                        prop_assert_eq!(address, owned.host.to_string());
                        prop_assert_eq!(ready, owned.announced.standing != Standing::Frozen);
                    }
                    Some(Known::Nowhere) => prop_assert!(!ready),
                    Some(Known::Nothing) => prop_assert_eq!(&leads, &before[name]),
                    None => prop_assert!(false, "{} leads to {}", name, address),
                }
            }
            prop_assert_eq!(&cluster.slices["a-sterna-shops"], &foreign);
        }
    }
}
