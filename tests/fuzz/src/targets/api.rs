//! Bodies and answers of the agent's API: what is read is used as its reader uses it, and can be written and read again.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sterna_executor::engine::docker::service_body;
use sterna_executor::migration::certificate::{Certificate, Grounds};
use sterna_executor::migration::convergence::Rounds;
use sterna_executor::migration::finding::{Finding, Subject, line};
use sterna_executor::migration::forecast::{Load, predict};
use sterna_executor::migration::order::Order;
use sterna_executor::migration::report::{Event, Report};
use sterna_executor::node::api::{
    Arriving, Finish, NodeFacts, Probe, Probed, Problem, PullImage, ReleaseAnswer, Reservation, Restored,
    ServiceFacts, Standing, StartService, Verdict, Whereabouts,
};
use sterna_executor::node::assessment::Assessment;
use sterna_executor::node::precheck;
use sterna_executor::traffic::announcement::Announcement;
use sterna_policies::quantity::Bytes;

use super::examples;

/// Reads a message and hands it over; what was read can be written and read again, and is then the same.
fn message<T: DeserializeOwned + Serialize>(text: &[u8], read: impl FnOnce(&T)) {
    let Ok(message) = serde_json::from_slice::<T>(text) else { return };
    read(&message);
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("and read again");
    let twice = serde_json::to_vec(&again).expect("and written again");
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let same = written == twice || settled(&written) == settled(&twice);
    assert!(same, "{} becomes {}", shown(&written), shown(&twice));
}

/// What was written, without fractions: they are read less exactly than they are written, and no message has any but in what
/// it only carries along for the engine.
fn settled(text: &[u8]) -> Value {
    fn settle(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => *value = Value::Null,
            Value::Array(all) => all.iter_mut().for_each(settle),
            Value::Object(all) => all.values_mut().for_each(settle),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(text).expect("what was written is JSON");
    settle(&mut value);
    value
}

fn seeds<T: Serialize>(messages: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|one| serde_json::to_vec(&one).expect("a genuine message is written")).collect()
}

macro_rules! targets {
    ($($(#[$doc:meta])* $read:ident $seeds:ident $message:ty = $examples:expr, $use:expr;)+) => {$(
        $(#[$doc])*
        pub fn $read(text: &[u8]) {
            message::<$message>(text, $use);
        }

        /// Genuine ones.
        pub fn $seeds() -> Vec<Vec<u8>> {
            seeds($examples)
        }
    )+};
}

targets! {
    /// What a source is told by the scheduler.
    order orders Order = [examples::order()], |order| {
        let due = Certificate::due(order, u64::MAX, "x", Grounds::Commit);
        assert!(due.fits(order, u64::MAX, "x"));
    };
    /// What a destination is asked by a source, with what the source is.
    reservation reservations (Reservation, NodeFacts) = [(examples::reservation(), examples::facts())],
        |(reservation, source)| {
            let own = examples::facts();
            precheck::pair::pair(source, &own);
            for has_image in [false, true] {
                precheck::room::destination(reservation, &own, Bytes(u64::MAX), has_image);
            }
            // An absurd size is never found to fit.
            let fits = precheck::room::staging(Subject::Source, reservation.memory, own.staging_free).is_none();
            assert!(!fits || reservation.memory <= own.staging_free);
        };
    /// What the scheduler has started.
    start_service start_services StartService = [examples::start()], |start| {
        if let Ok(body) = service_body(&start.service, &start.run) {
            serde_json::to_value(body).expect("what is started can be written");
        }
    };
    /// A signed statement, as it comes: whether it holds is asked by another target.
    sealed sealed_ones sterna_executor::identity::Sealed = examples::sealed(), |_| {};
    /// The last word to a destination.
    finish finishes Finish = examples::finishes(), |finish| {
        let policy = finish.restart.clone().map(serde_json::from_value);
        if let Some(Ok(policy)) = policy {
            sterna_executor::engine::docker::restarts(Some(&policy));
        }
    };
    /// What a node says that it is.
    node_facts all_node_facts NodeFacts = [examples::facts()], used;
    /// What a node says that it runs.
    service_facts all_service_facts Vec<ServiceFacts> = [vec![examples::service_facts()], vec![]], |_| {};
    /// What a destination says of a migration.
    verdict verdicts Verdict = [examples::verdict()], |verdict| {
        told(&verdict.findings);
        used(&verdict.node);
    };
    /// What a destination shows.
    restored all_restored Restored = [examples::restored()], |_| {};
    /// What a source says of a migration.
    standing standings Vec<Standing> = [examples::standings()], |all| {
        let reports: Vec<Report> = all.iter().filter_map(|one| one.report.clone()).collect();
        reports.iter().for_each(summed);
        predict(&"redis".into(), Load { memory: Bytes(1 << 30), ..Load::default() }, &reports, &Rounds::default());
    };
    /// What a destination says of a migration that comes to it.
    arriving all_arriving Vec<Arriving> = [vec![examples::arriving()]], |all| {
        for one in all {
            Certificate::due(&one.order, one.epoch, &one.image, Grounds::Commit);
        }
    };
    /// What came of a release.
    release_answer release_answers ReleaseAnswer = [ReleaseAnswer::Runs, ReleaseAnswer::Lost], |_| {};
    /// A line of a migration's events.
    event events Event = examples::events(), |event| {
        if let Event::Ended(report) = event {
            summed(report);
        }
    };
    /// What a source says that a move would cost.
    assessment assessments Assessment = [examples::assessment()], |assessment| {
        told(&assessment.findings);
    };
    /// What is to be pulled.
    pull pulls PullImage = [PullImage { image: "redis:7".into(), within: "10m".parse().expect("a time") }], |pull| {
        let judged = precheck::bounds::pull(pull);
        assert!(judged.is_err() || sterna_executor::engine::names::is_image(&pull.image));
    };
    /// What fronts are told.
    announcement announcements Announcement = [examples::announcement()], |_| {};
    /// Where another agent is.
    whereabouts all_whereabouts Whereabouts = [Whereabouts { node: "b".into(), address: "10.0.0.5:7420".into() }], |told| {
        let judged = precheck::bounds::whereabouts(told);
        assert!(judged.is_err() || told.address.contains(':'));
    };
    /// What is to be probed.
    probe probes Probe = [Probe { targets: vec!["10.0.0.5:443".into(), "[fd00::1]:7500".into()] }], |probe| {
        let judged = precheck::bounds::probe(probe);
        assert!(judged.is_err() || (1..=64).contains(&probe.targets.len()));
    };
    /// What came of it.
    probed all_probed Vec<Probed> = [examples::probed()], |_| {};
    /// An error.
    problem problems Problem = [Problem { error: "it went \"wrong\"\n\u{1f426}".into() }], |_| {};
}

fn used(facts: &NodeFacts) {
    assert_eq!(facts.digest(), facts.clone().digest());
    assert_eq!(precheck::pair::pair(facts, facts), [], "a node is like itself");
    precheck::pair::node(Subject::Source, facts);
}

fn told(findings: &[Finding]) {
    assert!(line(findings).len() >= findings.len());
}

fn summed(report: &Report) {
    let most = report.phases.iter().map(|one| one.bytes).max().unwrap_or_default();
    assert!(report.bytes() >= most, "a sum is no less than a part of it");
    report.duration();
    report.past_outcome();
}
