//! Genuine messages.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jiff::Timestamp;
use sterna_core::continuum::{NodeName, Run};
use sterna_core::plan::MoveCost;
use sterna_executor::engine::docker::service_body;
use sterna_executor::engine::processes::Process;
use sterna_executor::identity::{Authority, Credentials, Role, Sealed};
use sterna_executor::migration::certificate::{Certificate, Grounds};
use sterna_executor::migration::finding::{Code, Finding, Subject};
use sterna_executor::migration::forecast::{Forecast, Load};
use sterna_executor::migration::holding::Holding;
use sterna_executor::migration::order::Order;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::register::Decision;
use sterna_executor::migration::report::{Event, Outcome, PhaseRecord, Report};
use sterna_executor::migration::table::Undo;
use sterna_executor::node::api::{
    Arriving, Finish, NodeFacts, Probed, Reservation, Restored, ServiceFacts, Standing, StartService,
    Unanswered, Verdict,
};
use sterna_executor::node::assessment::{Assessment, Canary};
use sterna_executor::traffic::announcement::{self, Announced, Announcement, Ended};
use sterna_policies::policy::{Memory, Method};
use sterna_policies::quantity::{Bytes, Cores, Millis};

use crate::room;

/// A continuum's parties, and one of another continuum.
#[derive(Debug)]
pub struct Parties {
    /// The agent of the node that a service leaves.
    pub source: Credentials,
    /// The agent of the node that it goes to.
    pub destination: Credentials,
    /// The scheduler.
    pub scheduler: Credentials,
    /// The source's namesake of another authority.
    pub stranger: Credentials,
}

/// The parties; made once.
pub fn parties() -> &'static Parties {
    static PARTIES: OnceLock<Parties> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let home = tempfile::tempdir_in(room::folder()).expect("a folder");
        let open = |name: &str| Authority::open(&home.path().join(name)).expect("an authority");
        let (ours, theirs) = (open("ours"), open("theirs"));
        let agent = |authority: &Authority, node: &str| {
            authority.issue(&Role::Agent(NodeName::from(node))).expect("a certificate")
        };
        Parties {
            source: agent(&ours, "a"),
            destination: agent(&ours, "b"),
            scheduler: ours.issue(&Role::Scheduler).expect("a certificate"),
            stranger: agent(&theirs, "a"),
        }
    })
}

fn text<T>(millis: &str) -> T
where
    T: std::str::FromStr<Err: std::fmt::Debug>,
{
    millis.parse().expect("an example is well-formed")
}

/// An order.
pub fn order() -> Order {
    let millis = text::<Millis>;
    Order {
        id: text("01890a5d-ac96-774b-bcce-b302099a8057"),
        service: "redis".into(),
        from: "a".into(),
        to: "b".into(),
        from_address: "127.0.0.1:2".into(),
        to_address: "[::1]:1".into(),
        method: Method::Checkpoint,
        memory: Memory::Ahead,
        max_downtime: None,
        bandwidth: None,
        deadline: millis("10m"),
        freeze_lease: millis("30s"),
        predicted: Some(cost()),
    }
}

fn cost() -> MoveCost {
    MoveCost { downtime: text("900ms"), duration: text("2.5s"), bytes: Bytes::from_mib(300) }
}

fn run() -> Run {
    Run {
        image: "redis".into(),
        command: vec!["redis-server".into(), "--save".into()],
        env: vec!["A=1".into()],
        ports: vec!["6379/tcp".into(), "53/udp".into()],
        volumes: vec!["data:/data".into()],
        on: "a".into(),
        ..Run::default()
    }
}

/// A service to be started.
pub fn start() -> StartService {
    StartService { service: "redis".into(), run: run(), incarnation: Some("one".into()) }
}

/// A reservation.
pub fn reservation() -> Reservation {
    let body = service_body(&"redis".into(), &run()).expect("an example is well-formed");
    Reservation {
        order: order(),
        epoch: 3,
        body: serde_json::to_value(body).expect("a body is written"),
        image: IMAGE.into(),
        volumes: vec!["data".into()],
        memory: Bytes::from_mib(200),
        files: Bytes(4096),
        image_size: Bytes::from_mib(50),
        token: "4f2b".into(),
        pod: None,
    }
}

/// Digest of the example's image.
pub const IMAGE: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What a node is.
pub fn facts() -> NodeFacts {
    NodeFacts {
        node: "a".into(),
        sterna: "0.1.0".into(),
        engine: "28.1".into(),
        kernel: "6.18.2-amd64".into(),
        arch: "x86_64".into(),
        cpu_features: vec!["avx2".into(), "sse2".into(), "vmx".into()],
        criu: "Version: 4.2".into(),
        runc: "1.3.0".into(),
        cgroup: 2,
        user_map: "0 100000 65536".into(),
        cpu: text::<Cores>("2"),
        memory: Bytes::from_mib(4096),
        staging_free: Bytes::from_mib(2048),
        staging_in_ram: true,
        memory_free: Bytes::from_mib(4096),
        engine_free: Bytes::from_mib(8192),
        storage: "overlay2".into(),
        security: vec!["name=seccomp,profile=builtin".into()],
        criu_trouble: Some("Looks good but some kernel features are missing".into()),
    }
}

/// What fronts are told.
pub fn announcement() -> Announcement {
    let announced = Announced {
        epoch: 3,
        standing: announcement::Standing::Stops(order().id),
        ports: BTreeMap::from([(80, 8080)]),
    };
    Announcement {
        listener: 7,
        services: BTreeMap::from([("redis".into(), announced)]),
        ended: BTreeMap::from([("job".into(), Ended { epoch: 0, code: 137 })]),
    }
}

/// What a node runs.
pub fn service_facts() -> ServiceFacts {
    ServiceFacts {
        service: "redis".into(),
        container: "0123456789ab".into(),
        image: IMAGE.into(),
        running: true,
        ended: Some(137),
        frozen: false,
        memory: Bytes::from_mib(200),
        epoch: 3,
        leaving_for: Some("b".into()),
        committed: Some(order().id),
    }
}

fn findings() -> Vec<Finding> {
    vec![
        Finding::new(Code::PortTaken, Subject::Destination, "port 6379/tcp is published by `web`"),
        Finding::new(Code::Kernel, Subject::Pair, "they differ"),
    ]
}

/// What a destination says.
pub fn verdict() -> Verdict {
    Verdict { findings: findings(), has_image: true, node: facts() }
}

/// What a destination shows.
pub fn restored() -> Restored {
    let process = |name: &str| Process { name: name.into(), layout: vec![1, u64::MAX] };
    Restored {
        tree: [(1, process("redis-server")), (17, process("sh"))].into(),
        held: true,
        by_restore: true,
    }
}

fn report(outcome: Outcome) -> Report {
    let record = |phase, bytes| PhaseRecord { phase, took: text("12.5ms"), bytes: Bytes(bytes) };
    Report {
        id: order().id,
        service: "redis".into(),
        from: "a".into(),
        to: "b".into(),
        outcome,
        phases: vec![record(Phase::Dumped, 0), record(Phase::Transferred, 1 << 28)],
        downtime: Some(text("900ms")),
        load: Some(load()),
        forecast: Some(Forecast { cost: cost(), learnt_from: 3 }),
        frozen_in_vain: Millis::ZERO,
        undone: vec![Undo::ThawSource, Undo::DeleteImage],
        started_anew: Some("both nodes went down".into()),
    }
}

/// What a source says, of a migration that was committed and of one that was refused.
pub fn standings() -> Vec<Standing> {
    let standing = Standing {
        order: order(),
        phase: Some(Phase::Committed),
        decision: Decision::Commit,
        certificate: sealed().into_iter().next(),
        report: Some(report(Outcome::Moved)),
        taken: text::<Timestamp>("2026-01-02T03:04:05.678Z"),
        ended: Some(text("2026-01-02T03:04:07Z")),
    };
    let refused = report(Outcome::Refused { findings: findings() });
    let other =
        Standing { decision: Decision::Abort, report: Some(refused), ended: None, ..standing.clone() };
    vec![standing, other]
}

/// What a destination says of what comes in.
pub fn arriving() -> Arriving {
    Arriving {
        order: order(),
        epoch: 3,
        image: IMAGE.into(),
        holding: Holding::Held,
        standing: true,
        pod: None,
    }
}

/// All kinds of events.
pub fn events() -> Vec<Event> {
    let undone = Outcome::RolledBack { after: Phase::Dumped, reason: "the link broke".into() };
    vec![
        Event::Reached(PhaseRecord { phase: Phase::Synced, took: text("1s"), bytes: Bytes(7) }),
        Event::Progress { bytes: Bytes(7), of: Some(Bytes(9)), per_second: Bytes(5) },
        Event::Ended(report(undone)),
        Event::Ended(report(Outcome::Moved)),
    ]
}

fn load() -> Load {
    let (memory, files) = (Bytes::from_mib(200), Bytes(4096));
    Load { memory, files, image: Bytes::ZERO, crosses: Memory::Ahead }
}

/// What a move would cost.
pub fn assessment() -> Assessment {
    Assessment {
        findings: findings(),
        load: load(),
        has_image: Some(false),
        canary: Some(Canary { trouble: Some("none".into()), took: text("2s"), age: text("1h") }),
        forecast: Some(Forecast { cost: cost(), learnt_from: 3 }),
    }
}

/// What came of targets.
pub fn probed() -> Vec<Probed> {
    let why = [Unanswered::Refused, Unanswered::Timeout, Unanswered::Unreachable, Unanswered::Unresolved];
    let unanswered = why.into_iter().chain([Unanswered::Other]).map(Probed::Unanswered);
    std::iter::once(Probed::RoundTrip(text("12.5ms"))).chain(unanswered).collect()
}

/// The last words to a destination.
pub fn finishes() -> Vec<Finish> {
    let policy = serde_json::json!({ "Name": "always", "MaximumRetryCount": 3 });
    vec![Finish { restart: Some(policy) }, Finish { restart: None }]
}

/// The certificates that are due for the order, on either ground.
pub fn certificates() -> [Certificate; 2] {
    let fenced = Grounds::Fenced { by: "ann".into(), reason: "it burnt".into() };
    [Grounds::Commit, fenced].map(|grounds| Certificate::due(&order(), 3, IMAGE, grounds))
}

/// These, signed by who may issue them.
pub fn sealed() -> Vec<Sealed> {
    let [commit, fenced] = certificates();
    let parties = parties();
    vec![
        parties.source.seal(&commit).expect("it is signed"),
        parties.scheduler.seal(&fenced).expect("it is signed"),
    ]
}
