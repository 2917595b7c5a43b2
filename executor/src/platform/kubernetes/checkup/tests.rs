use k8s_openapi::api::core::v1::Service;
use kube::core::Status;
use serde::Deserialize as _;
use serde_json::json;
use sterna_core::continuum::Continuum;

use super::{Asked, Image, Purpose, Seen, trial, verdict};

const OURS: Image<'_> = Image { name: "sterna-node:1", is_given: false };

fn continuum() -> Continuum {
    let (sites, nodes, links, users) = Default::default();
    let service = sterna_core::continuum::Service {
        cpu: "1".parse().unwrap(),
        memory: "1GiB".parse().unwrap(),
        pinned: false,
        labels: [].into(),
        run: None,
    };
    Continuum {
        name: "shop".to_owned(),
        sites,
        nodes,
        links,
        users,
        services: [("redis".into(), service)].into(),
    }
}

/// As `sterna doctor` shows it, below the line that names the namespace.
fn said(purpose: Purpose, image: Image<'_>, seen: &Seen) -> String {
    let continuum = continuum();
    let check = verdict::of(&Asked { purpose, namespace: "apps", image, continuum: &continuum }, seen);
    let problems = check.problems.iter().map(|one| format!("{}\n  {}\n", one.finding, one.remedy));
    problems.chain(check.notes.iter().map(|note| format!("note: {note}\n"))).collect()
}

fn well() -> Seen {
    let kinds = ["migrations", "migrations/status", "migratableservices"].map(str::to_owned);
    Seen { is_there: Some(true), kinds: Some(kinds.into()), ..Seen::default() }
}

fn service(name: &str, labels: serde_json::Value, spec: serde_json::Value) -> Service {
    Service::deserialize(json!({ "metadata": { "name": name, "labels": labels }, "spec": spec })).unwrap()
}

#[test]
fn nothing_is_said_where_all_is_well() {
    assert_eq!(said(Purpose::Migrations, OURS, &well()), "");
    let led = service("cache", json!({ "sterna.io/service": "redis" }), json!({}));
    assert_eq!(said(Purpose::Endpoints, OURS, &Seen { services: vec![led], ..well() }), "");
}

#[test]
fn an_image_is_told_and_whose_it_is() {
    insta::assert_snapshot!(said(Purpose::Services, OURS, &well()));
    let given = Image { name: "registry.example/sterna:1", is_given: true };
    insta::assert_snapshot!(said(Purpose::Services, given, &well()));
}

#[test]
fn each_of_a_new_cluster_is_told() {
    let bare = Seen { is_there: Some(false), kinds: Some(Vec::new()), ..Seen::default() };
    insta::assert_snapshot!(said(Purpose::Migrations, OURS, &bare));
    insta::assert_snapshot!(said(Purpose::Services, OURS, &bare));
    insta::assert_snapshot!(said(Purpose::Endpoints, OURS, &bare));
}

#[test]
fn a_kind_of_the_other_purpose_does_not_do() {
    let other = Seen { kinds: Some(vec!["migrations".to_owned()]), ..well() };
    assert!(said(Purpose::Services, OURS, &other).contains("sterna crd services"));
    assert_eq!(said(Purpose::Migrations, OURS, &other), "");
}

#[test]
fn rights_that_lack_are_told_and_what_may_not_be_known() {
    let lacks = |what: &[&str]| what.iter().map(|one| (*one).to_owned()).collect();
    let some = Seen { lacks: lacks(&["patch migrations/status", "create events"]), ..well() };
    insta::assert_snapshot!(said(Purpose::Migrations, OURS, &some));
    let blind = Seen { lacks: lacks(&["list services"]), ..Seen::default() };
    insta::assert_snapshot!(said(Purpose::Endpoints, OURS, &blind));
}

#[test]
fn each_refusal_of_a_stand_in_has_a_remedy_that_speaks_of_stand_ins() {
    let forbidden = [
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:v1.20\": forbidden sysctls",
        "pods \"p\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0",
        "pods \"p\" is forbidden: minimum memory usage per Container is 1Gi, but request is 32Mi",
        "pods \"p\" is forbidden: error looking up service account apps/default",
        "admission webhook \"no.example\" denied the request: no",
        "pods \"p\" is forbidden: not here",
    ];
    let all = forbidden.map(|message| {
        let status = Status {
            code: 403,
            message: message.to_owned(),
            reason: "Forbidden".to_owned(),
            ..Status::default()
        };
        said(Purpose::Services, OURS, &Seen { refused: Some(Box::new(status)), ..well() })
    });
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn services_that_lead_nowhere_are_told() {
    let label = |name: &str| json!({ "sterna.io/service": name });
    let services = vec![
        service("cache", label("redis"), json!({ "selector": { "app": "cache" } })),
        service("outside", label("redis"), json!({ "type": "ExternalName", "externalName": "example.org" })),
        service("web", label("nginx"), json!({})),
        service("right", label("redis"), json!({})),
        service(
            "foreign",
            json!({ "sterna.io/service": "nginx", "sterna.io/continuum": "other" }),
            json!({}),
        ),
    ];
    insta::assert_snapshot!(said(Purpose::Endpoints, OURS, &Seen { services, ..well() }));
    insta::assert_snapshot!(said(Purpose::Endpoints, OURS, &well()));
}

#[test]
fn what_is_tried_is_a_stand_in() {
    let pod = trial::pod("apps", "i:1").unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("sterna-doctor-stand-in"));
    assert_eq!(pod.metadata.namespace.as_deref(), Some("apps"));
    assert_eq!(pod.metadata.owner_references.unwrap().len(), 1);
    let images = pod.spec.unwrap().containers.into_iter().map(|one| one.image.unwrap());
    assert_eq!(images.collect::<Vec<_>>(), ["i:1"]);
}

#[test]
fn what_is_asked_for_is_what_is_printed() {
    // `sterna rbac` prints these for that namespace; whose account it is makes no difference.
    let of = |purpose: Purpose| serde_json::to_string(&purpose.rules("apps")).unwrap();
    assert!(of(Purpose::Migrations).contains("migrations/status"));
    assert!(of(Purpose::Services).contains("migratableservices/status"));
    assert!(of(Purpose::Endpoints).contains("endpointslices"));
}
