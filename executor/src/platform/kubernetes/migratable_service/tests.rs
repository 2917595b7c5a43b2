//! Looks at a world in which anything may happen between them: writes that come too late or never, nodes that are silent, services
//! that move, end or are lost, schedulers that act on what they saw a while ago.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use proptest::prelude::*;
use serde_json::json;
use sterna_core::continuum::NodeName;

use super::fields::Refusal;
use super::reconcile::{Look, Part, Standing, Step, Trouble, Whereabouts, reconcile};
use super::resource::{FINALIZER, MigratableService, MigratableServiceSpec, MigratableServiceStatus};
use super::stand_in::{Stand, digest, name};
use super::template::{Described, describe};
use crate::identity::{Authority, Role};
use crate::traffic::config::Protocol;

const NODES: [&str; 2] = ["n1", "n2"];

fn template(image: &str, restart: &str) -> serde_json::Value {
    json!({
        "metadata": { "labels": { "app": "shop" }, "annotations": { "note": "a" } },
        "spec": {
            "restartPolicy": restart,
            "containers": [{
                "name": "shop",
                "image": image,
                "ports": [{ "containerPort": 80, "name": "web" }, { "containerPort": 9464 }],
                "resources": { "requests": { "cpu": "250m", "memory": "64Mi" } }
            }]
        }
    })
}

fn object(image: &str, restart: &str) -> MigratableService {
    let spec = MigratableServiceSpec {
        on: None,
        pinned: false,
        protocols: [("web".to_owned(), Protocol::Http)].into(),
        template: template(image, restart),
    };
    let mut object = MigratableService::new("shop", spec);
    object.metadata.namespace = Some("apps".into());
    object.metadata.uid = Some("u".into());
    object.metadata.resource_version = Some("0".into());
    object
}

fn described(object: &MigratableService) -> Result<Described, Vec<Refusal>> {
    describe(object.name(), &object.spec, &"n1".into())
}

/// The cluster and the nodes.
#[derive(Debug, Clone)]
struct World {
    object: Option<MigratableService>,
    pod: Option<Pod>,
    /// Which node has the service, and whether it runs.
    service: Option<(usize, bool)>,
    moving: bool,
    /// The node that holds what left a node that is gone.
    held: Option<usize>,
    /// The agent that is to start it next ends in the middle of that.
    cut: bool,
    /// Its container was made and never started.
    made: bool,
    silent: bool,
    /// Nodes that have had it.
    known_on: BTreeSet<usize>,
    /// How often it was started.
    started: usize,
    /// The last start was refused, because it had been there.
    refused: bool,
    pods: usize,
    lost: bool,
}

impl World {
    fn new() -> Self {
        Self {
            object: Some(object("shop:1", "Always")),
            pod: None,
            service: None,
            moving: false,
            held: None,
            cut: false,
            made: false,
            silent: false,
            known_on: BTreeSet::new(),
            started: 0,
            refused: false,
            pods: 0,
            lost: false,
        }
    }

    fn whereabouts(&self) -> Whereabouts {
        match self.service {
            Some((at, _)) if self.silent && at == 0 => Whereabouts::Unknown("n1".into()),
            Some((at, runs)) => {
                let standing = match (self.moving, runs) {
                    (true, _) => Standing::Moving(NODES[1 - at].into()),
                    (false, true) => Standing::Runs,
                    (false, false) if self.made => Standing::Made,
                    (false, false) => Standing::Ended,
                };
                Whereabouts::On(NODES[at].into(), standing)
            }
            None if self.held.is_some_and(|at| !(self.silent && at == 0)) => {
                let at = self.held.unwrap();
                Whereabouts::Held { at: NODES[at].into(), from: NODES[1 - at].into() }
            }
            None if self.silent => Whereabouts::Unknown("n1".into()),
            None => Whereabouts::Nowhere,
        }
    }

    fn look(&self, place: usize) -> Option<Look> {
        let object = self.object.clone()?;
        let described = described(&object);
        let agents = BTreeMap::from([(NodeName::from("n1"), "10.0.0.1:7420".to_owned())]);
        let tells = described.as_ref().ok().map(|described| {
            digest(&Stand { object: &object, described, image: "sterna", agents: &agents }.config().unwrap())
        });
        Some(Look {
            described,
            place: Ok(NODES[place].into()),
            whereabouts: self.whereabouts(),
            stand_in: self.pod.clone(),
            tells,
            trouble: None,
            object,
        })
    }

    fn written(&mut self, seen: &MigratableService, change: impl FnOnce(&mut MigratableService)) {
        let Some(object) = &mut self.object else { return };
        if object.metadata.resource_version == seen.metadata.resource_version {
            change(object);
            self.touched();
        }
    }

    fn touched(&mut self) {
        let Some(object) = &mut self.object else { return };
        let version: u64 = object.metadata.resource_version.as_ref().unwrap().parse().unwrap();
        object.metadata.resource_version = Some((version + 1).to_string());
        if object.is_to_go() && !object.is_held() {
            self.object = None;
        }
    }

    /// As the API server and the agents do it.
    fn carry_out(&mut self, look: &Look, step: Step) {
        let seen = &look.object;
        match step {
            Step::Hold => self.written(seen, |one| {
                one.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
            }),
            Step::Free => self.written(seen, |one| one.metadata.finalizers = None),
            Step::Tell(status) => self.written(seen, |one| one.status = Some(*status)),
            Step::Start(node) => {
                let at = NODES.iter().position(|name| *name == node.as_str()).unwrap();
                let there = self.service.is_some_and(|(place, _)| place == at);
                self.refused = !there && self.known_on.contains(&at);
                if !(self.silent && at == 0) && there && self.made {
                    (self.service, self.made) = (Some((at, true)), false);
                }
                if self.silent && at == 0 || there || self.refused {
                    return;
                }
                self.known_on.insert(at);
                self.started += 1;
                assert_eq!((self.service, self.held), (None, None), "started a second time");
                self.made = std::mem::take(&mut self.cut);
                self.service = Some((at, !self.made));
            }
            Step::Remove(node) => {
                if let Some((at, _)) = self.service
                    && NODES[at] == node.as_str()
                    && !self.moving
                    && !(self.silent && at == 0)
                {
                    self.service = None;
                }
            }
            Step::TellStandIn => {
                if let Some(object) = &mut self.object {
                    object.status.get_or_insert_default().told.clone_from(&look.tells);
                    self.touched();
                }
            }
            Step::MakeStandIn => {
                if self.pod.is_none() && self.object.is_some() {
                    self.pods += 1;
                    let described = look.described.as_ref().unwrap();
                    let agents = BTreeMap::new();
                    let mut pod =
                        Stand { object: seen, described, image: "sterna", agents: &agents }.pod("s");
                    pod.metadata.uid = Some(self.pods.to_string());
                    let ready =
                        PodCondition { type_: "Ready".into(), status: "True".into(), ..Default::default() };
                    pod.status = Some(PodStatus {
                        phase: Some("Running".into()),
                        conditions: Some(vec![ready]),
                        ..Default::default()
                    });
                    self.pod = Some(pod);
                }
            }
            Step::RemoveStandIn(uid) => {
                if self.pod.as_ref().is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&uid)) {
                    self.pod = None;
                }
            }
        }
    }

    /// One complete look. Whether anything was to be done.
    fn round(&mut self, place: usize) -> bool {
        let Some(look) = self.look(place) else { return false };
        let steps = reconcile(&look, Timestamp::UNIX_EPOCH);
        let any = !steps.is_empty();
        for step in steps {
            self.carry_out(&look, step);
        }
        any
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while self.round(0) && !self.refused {
            rounds += 1;
            assert!(
                rounds < 20,
                "it never settles: {:?}",
                self.look(0).map(|look| reconcile(&look, Timestamp::UNIX_EPOCH))
            );
        }
    }

    fn promote(&mut self) {
        if let Some(at) = self.held.take() {
            self.service = Some((at, true));
        }
    }

    fn phase(&self) -> String {
        self.object.as_ref().unwrap().said().phase.unwrap()
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// A whole look, by a scheduler that would choose this node.
    Round(usize),
    /// A look is taken, and its steps are done later.
    Snapshot(usize),
    /// The step of that number of what was seen then is done now.
    Late(usize),
    Silent(bool),
    MoveBegins,
    MoveEnds,
    /// The agent that starts it ends before it has.
    StartIsCut,
    /// The source is gone, and the destination holds what left it.
    SourceGone,
    /// What is held runs.
    Promoted,
    Lost,
    PodFails,
    PodGone,
    Edit,
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2usize).prop_map(Event::Round),
        2 => (0..2usize).prop_map(Event::Snapshot),
        4 => (0..3usize).prop_map(Event::Late),
        1 => any::<bool>().prop_map(Event::Silent),
        1 => Just(Event::MoveBegins),
        1 => Just(Event::MoveEnds),
        1 => Just(Event::StartIsCut),
        1 => Just(Event::SourceGone),
        1 => Just(Event::Promoted),
        1 => Just(Event::Lost),
        1 => Just(Event::PodFails),
        1 => Just(Event::PodGone),
        1 => Just(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_service_is_started_once_and_what_is_shown_settles(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        let mut earlier: Option<(Look, Vec<Step>)> = None;
        for event in events {
            match event {
                Event::Round(place) => drop(world.round(place)),
                Event::Snapshot(place) => {
                    earlier = world.look(place).map(|look| {
                        let steps = reconcile(&look, Timestamp::UNIX_EPOCH);
                        (look, steps)
                    });
                }
                Event::Late(at) => {
                    if let Some((look, steps)) = &earlier
                        && let Some(step) = steps.get(at)
                    {
                        world.carry_out(look, step.clone());
                    }
                }
                Event::Silent(silent) => world.silent = silent,
                Event::MoveBegins => world.moving = world.service.is_some_and(|(_, runs)| runs),
                Event::MoveEnds => {
                    if let (true, Some((at, runs))) = (world.moving, world.service) {
                        world.service = Some((1 - at, runs));
                        world.known_on.insert(1 - at);
                    }
                    world.moving = false;
                }
                Event::StartIsCut => world.cut = true,
                Event::SourceGone => {
                    if let (true, Some((at, _))) = (world.moving, world.service) {
                        (world.service, world.held) = (None, Some(1 - at));
                        world.known_on.insert(1 - at);
                    }
                    world.moving = false;
                }
                Event::Promoted => world.promote(),
                Event::Lost => {
                    world.lost |= world.service.is_some();
                    world.service = None;
                    world.moving = false;
                }
                Event::PodFails => {
                    if let Some(status) = world.pod.as_mut().and_then(|pod| pod.status.as_mut()) {
                        status.phase = Some("Failed".into());
                    }
                }
                Event::PodGone => world.pod = None,
                Event::Edit => {
                    if let Some(object) = &mut world.object {
                        object.spec.template = template("shop:2", "Always");
                        world.touched();
                    }
                }
                Event::Delete => {
                    if let Some(object) = &mut world.object {
                        object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                        world.touched();
                    }
                }
            }
            prop_assert!(world.started <= 1);
        }
        (world.silent, world.moving, world.refused, world.cut) = (false, false, false, false);
        world.settle();
        // An object that is gone had nothing when it was let go; a late order may have started that since.
        if world.held.is_some() && world.object.is_some() {
            prop_assert!(["Held", "Leaving"].contains(&world.phase().as_str()), "{}", world.phase());
        }
        world.promote();
        world.settle();
        match &world.object {
            // What an object had started ends with it; what a late order starts after that is refused by nobody, and found.
            None => prop_assert!(world.service.is_none() || world.started == 1),
            Some(_) => {
                prop_assert_eq!(world.started, 1);
                // Lost before it was ever shown: its node says so, for as long as it is asked.
                let phase = if world.service.is_some() { "Running" } else if world.refused { "Pending" } else { "Lost" };
                prop_assert_eq!(world.phase(), phase);
                prop_assert!(world.pod.is_some() || world.refused);
                prop_assert!(world.service.is_some() || world.lost);
            }
        }
    }
}

#[test]
fn a_service_is_declared_started_shown_and_ended() {
    let mut world = World::new();
    world.settle();
    assert_eq!((world.phase().as_str(), world.service), ("Running", Some((0, true))));
    assert!(world.object.as_ref().unwrap().is_held());
    // Where it was chosen to start is not chosen again.
    world.round(1);
    assert_eq!(world.object.as_ref().unwrap().said().first_on.as_deref(), Some("n1"));
    world.object.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.silent = true;
    world.settle();
    assert!(world.object.is_some() && world.service.is_some(), "a node is silent that may have it");
    world.silent = false;
    world.settle();
    assert!(world.object.is_none() && world.service.is_none() && world.pod.is_none());
}

#[test]
fn what_was_made_and_not_started_is_started() {
    let mut world = World::new();
    world.cut = true;
    world.settle();
    assert_eq!((world.phase().as_str(), world.service, world.started), ("Running", Some((0, true)), 1));
}

#[test]
fn what_is_held_after_its_node_is_gone_is_neither_lost_nor_let_go() {
    let mut world = World::new();
    world.settle();
    (world.service, world.held) = (None, Some(1));
    world.settle();
    let said = world.object.as_ref().unwrap().said();
    let started = said.conditions.iter().find(|one| one.reason == "Held").unwrap();
    assert!(started.message.contains("`sterna fence n1`"), "{}", started.message);
    world.object.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.settle();
    assert_eq!((world.phase().as_str(), world.started), ("Leaving", 1));
    world.promote();
    world.settle();
    assert!(world.object.is_none() && world.service.is_none());
}

#[test]
fn what_was_lost_is_said_to_have_been_where_it_was_last() {
    let mut world = World::new();
    world.settle();
    world.service = Some((1, true));
    world.settle();
    world.service = None;
    for _ in 0..2 {
        world.settle();
        let said = world.object.as_ref().unwrap().said();
        let started = said.conditions.iter().find(|one| one.reason == "Lost").unwrap();
        assert!(started.message.contains("`n2` had it last"), "{}", started.message);
        world.touched();
        world.object.as_mut().unwrap().metadata.generation = Some(7);
    }
}

#[test]
fn what_somebody_else_has_started_is_not_taken_over_and_not_ended() {
    let mut world = World::new();
    world.service = Some((1, true));
    world.settle();
    assert_eq!((world.phase().as_str(), world.started), ("Pending", 0));
    let said = world.object.as_ref().unwrap().said();
    assert!(said.conditions.iter().any(|one| one.reason == "Exists"), "{:?}", said.conditions);
    world.object.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.settle();
    assert!(world.object.is_none() && world.service.is_some());
}

#[test]
fn what_is_refused_is_neither_held_nor_started() {
    let mut world = World::new();
    world.object.as_mut().unwrap().spec.template["spec"]["hostNetwork"] = json!(true);
    world.settle();
    let object = world.object.clone().unwrap();
    assert_eq!((world.phase().as_str(), world.started, object.is_held()), ("Refused", 0, false));
    let accepted = &object.said().conditions[0];
    assert!(accepted.message.contains("spec.hostNetwork"), "{}", accepted.message);
    // Once it runs, what is refused changes nothing of it.
    world.object = Some(MigratableService { spec: self::object("shop:1", "Always").spec, ..object });
    world.settle();
    assert_eq!(world.phase(), "Running");
    world.object.as_mut().unwrap().spec.template["spec"]["hostNetwork"] = json!(true);
    world.settle();
    assert_eq!(world.phase(), "Running");
    assert_eq!(world.object.unwrap().said().conditions[0].status, "False");
}

#[test]
fn what_has_ended_for_good_keeps_its_stand_in_as_it_ended() {
    let mut world = World::new();
    world.object = Some(object("shop:1", "Never"));
    world.settle();
    world.service = Some((0, false));
    world.pod.as_mut().unwrap().status.as_mut().unwrap().phase = Some("Failed".into());
    world.settle();
    assert_eq!((world.phase().as_str(), world.pods), ("Ended", 1));
    // One that is always started again has not ended, and a stand-in that did is made anew.
    let mut world = World::new();
    world.settle();
    world.pod.as_mut().unwrap().status.as_mut().unwrap().phase = Some("Failed".into());
    world.settle();
    assert_eq!((world.phase().as_str(), world.pods), ("Running", 2));
}

#[test]
fn another_template_is_not_applied_to_what_runs() {
    let mut world = World::new();
    world.settle();
    world.object.as_mut().unwrap().spec.template = template("shop:2", "Always");
    world.settle();
    let said = world.object.as_ref().unwrap().said();
    assert_eq!((said.conditions[0].reason.as_str(), world.pods), ("NotApplied", 1));
    assert_eq!(world.phase(), "Running");
}

#[test]
fn trouble_is_shown_where_it_belongs() {
    let mut world = World::new();
    world.round(0);
    world.round(0);
    let look = |of, reason| Look {
        trouble: Some(Trouble { of, reason, message: "why".into() }),
        ..world.look(0).unwrap()
    };
    let said = |look: &Look| -> MigratableServiceStatus {
        let steps = reconcile(look, Timestamp::UNIX_EPOCH);
        steps
            .into_iter()
            .find_map(|step| if let Step::Tell(status) = step { Some(*status) } else { None })
            .unwrap()
    };
    let started = said(&look(Part::Service, "NoImage"));
    assert_eq!(
        (started.conditions[1].reason.as_str(), started.phase.as_deref()),
        ("NoImage", Some("Pending"))
    );
    let ready = said(&look(Part::StandIn, "NotMade"));
    assert_eq!(ready.conditions[2].reason, "NotMade");
}

#[test]
fn a_stand_in_is_a_pod_without_rights_that_looks_like_the_service() {
    let object = object("shop:1", "OnFailure");
    let described = described(&object).unwrap();
    let agents = BTreeMap::from([(NodeName::from("n1"), "10.0.0.1:7420".to_owned())]);
    let stand = Stand { object: &object, described: &described, image: "sterna:1", agents: &agents };

    insta::assert_snapshot!(serde_json::to_string_pretty(&stand.pod("shop-stand-in-1")).unwrap());
    let config = stand.config().unwrap();
    let data = config.data.clone().unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", data["front.toml"], data["agents.toml"]));
    let folder = tempfile::tempdir().unwrap();
    let credentials = Authority::open(folder.path()).unwrap().issue(&Role::Front).unwrap();
    let secret = stand.secret("s", &credentials);
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "u", "it goes with the object");
    assert_eq!(secret.data.unwrap().keys().collect::<Vec<_>>(), ["ca.pem", "cert.pem", "key.pem"]);
    assert_eq!(config.metadata, ObjectMeta { name: Some(name("shop")), ..config.metadata.clone() });
}
