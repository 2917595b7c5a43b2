//! Rounds of probes with agents that say what a test wants.

use std::sync::Mutex;

use jiff::Timestamp;
use sterna_executor::node::api::Unanswered;
use sterna_executor::node::client::ClientError;
use sterna_policies::policy::Mode;

use super::*;
use crate::fixture;

/// What an agent does.
#[derive(Debug, Clone)]
enum Says {
    /// Answers for each target by its address; what is not named here is silent.
    Times(BTreeMap<String, Probed>),
    /// Refuses.
    No,
    /// Never answers.
    Nothing,
    /// Answers for one target only, whatever it is asked.
    TooLittle,
}

/// Who was asked for what, in this order.
type Asked = Vec<(NodeName, Vec<String>)>;

#[derive(Debug, Clone, Default)]
struct Fake {
    agents: Arc<Mutex<BTreeMap<NodeName, Says>>>,
    asked: Arc<Mutex<Asked>>,
}

impl Prober for Fake {
    type Agents = Self;
    async fn find(&self, _: &Continuum) -> Result<Self, FleetError> {
        Ok(self.clone())
    }
}

impl Agents for Fake {
    fn address(&self, node: &NodeName) -> Option<String> {
        self.agents.lock().unwrap().contains_key(node).then(|| format!("{node}:7500"))
    }

    async fn probe(&self, node: &NodeName, targets: &[String]) -> Result<Vec<Probed>, FleetError> {
        self.asked.lock().unwrap().push((node.clone(), targets.to_vec()));
        let says = self.agents.lock().unwrap()[node].clone();
        let silent = Probed::Unanswered(Unanswered::Timeout);
        match says {
            Says::Times(times) => {
                Ok(targets.iter().map(|target| times.get(target).copied().unwrap_or(silent)).collect())
            }
            Says::No => Err(FleetError::Agent(ClientError::Busy { node: node.clone(), reason: "x".into() })),
            Says::Nothing => std::future::pending().await,
            Says::TooLittle => Ok(vec![Probed::RoundTrip("1ms".parse().unwrap())]),
        }
    }
}

impl Fake {
    fn says(&self, node: &str, says: Says) {
        self.agents.lock().unwrap().insert(node.into(), says);
    }

    fn asked(&self) -> Vec<NodeName> {
        self.asked.lock().unwrap().drain(..).map(|(node, _)| node).collect()
    }
}

fn times(all: &[(&str, &str)]) -> Says {
    let one =
        |(target, time): &(&str, &str)| ((*target).to_owned(), Probed::RoundTrip(time.parse().unwrap()));
    Says::Times(all.iter().map(one).collect())
}

/// The small continuum, with users at one place or several, and as many nodes at `a` as are asked for.
fn continuum(users: &[&str], nodes_at_a: usize) -> Continuum {
    let mut continuum = fixture::continuum();
    continuum.users.get_mut(&"north".into()).unwrap().probe = users.iter().map(ToString::to_string).collect();
    let node = continuum.nodes[&"a1".into()].clone();
    for number in 2..=nodes_at_a {
        continuum.nodes.insert(NodeName::from(format!("a{number}")), node.clone());
    }
    continuum
}

fn ms(text: &str) -> Millis {
    text.parse().unwrap()
}

fn pair<B: From<&'static str>>(a: &str, b: &'static str) -> (SiteName, B) {
    (a.into(), b.into())
}

async fn one_round(fake: &Fake, continuum: &Continuum) -> Round {
    round(fake, continuum, &mut BTreeSet::new()).await
}

#[tokio::test]
async fn every_site_looks_at_the_others_and_at_the_users() {
    let fake = Fake::default();
    fake.says("a1", times(&[("b1:7500", "5ms"), ("c1:7500", "20ms"), ("gate:443", "2ms")]));
    fake.says("b1", times(&[("a1:7500", "6ms"), ("gate:443", "9ms")]));
    fake.says("c1", times(&[("a1:7500", "21ms"), ("b1:7500", "22ms"), ("gate:443", "25ms")]));
    let round = one_round(&fake, &continuum(&["gate:443"], 1)).await;
    assert_eq!(
        round.to_users,
        [("a", "2ms"), ("b", "9ms"), ("cloud", "25ms")]
            .map(|(site, time)| (pair(site, "north"), ms(time)))
            .into()
    );
    let to_sites = [
        (pair("a", "b"), ms("5ms")),
        (pair("a", "cloud"), ms("20ms")),
        (pair("b", "a"), ms("6ms")),
        (pair("cloud", "a"), ms("21ms")),
        (pair("cloud", "b"), ms("22ms")),
    ];
    assert_eq!(round.to_sites, to_sites.into());
    // From `b` the cloud was silent.
    assert_eq!(round.failures, [(("b".into(), "timeout"), 1)].into());
    assert_eq!(round.sites.len(), 3);
}

#[tokio::test]
async fn the_nearest_of_several_places_and_nodes_counts() {
    let fake = Fake::default();
    fake.says("a1", times(&[("x:1", "9ms"), ("y:1", "4ms")]));
    fake.says("a2", times(&[("x:1", "3ms")]));
    let round = one_round(&fake, &continuum(&["x:1", "y:1"], 2)).await;
    assert_eq!(round.to_users, [(pair("a", "north"), ms("3ms"))].into());
    // One target of `a2`; and sites whose agents are nowhere.
    let failures = [(("a".into(), "timeout"), 1), (("b".into(), "agent"), 1), (("cloud".into(), "agent"), 1)];
    assert_eq!(round.failures, failures.into());
}

#[tokio::test(start_paused = true)]
async fn agents_that_refuse_or_are_silent_or_answer_nonsense_cost_nothing_but_themselves() {
    let fake = Fake::default();
    fake.says("a1", times(&[("gate:443", "2ms")]));
    fake.says("b1", Says::Nothing);
    fake.says("c1", Says::TooLittle);
    let continuum = continuum(&["gate:443"], 1);
    let round = one_round(&fake, &continuum).await;
    assert_eq!(round.to_users, [(pair("a", "north"), ms("2ms"))].into());
    assert_eq!(round.failures[&("b".into(), "agent")], 1);
    assert_eq!(round.failures[&("cloud".into(), "agent")], 1);

    // What nobody can have measured is not believed.
    for odd in ["0ms", "-3ms", "90s"] {
        fake.says("a1", times(&[("gate:443", odd)]));
        let round = one_round(&fake, &continuum).await;
        assert!(round.to_users.is_empty(), "{odd}");
    }
    fake.says("a1", Says::No);
    assert_eq!(one_round(&fake, &continuum).await.failures[&("a".into(), "agent")], 1);
}

#[tokio::test]
async fn of_a_large_site_some_nodes_speak_and_others_when_they_do_not() {
    let fake = Fake::default();
    for number in 1..=5 {
        fake.says(&format!("a{number}"), if number == 2 { Says::No } else { times(&[]) });
    }
    let (continuum, mut silent) = (continuum(&["gate:443"], 5), BTreeSet::new());
    round(&fake, &continuum, &mut silent).await;
    let names = |names: &[&str]| names.iter().map(|&name| NodeName::from(name)).collect::<Vec<_>>();
    assert_eq!(fake.asked(), names(&["a1", "a2", "a3"]));
    round(&fake, &continuum, &mut silent).await;
    assert_eq!(fake.asked(), names(&["a1", "a3", "a4"]), "another one for the one that was silent");
    fake.says("a2", times(&[]));
    for node in ["a1", "a3", "a4", "a5"] {
        fake.says(node, Says::No);
    }
    round(&fake, &continuum, &mut silent).await;
    assert_eq!(fake.asked(), names(&["a1", "a3", "a4"]));
    round(&fake, &continuum, &mut silent).await;
    assert!(fake.asked().contains(&"a5".into()));
}

#[tokio::test]
async fn many_targets_are_asked_for_bit_by_bit() {
    let fake = Fake::default();
    fake.says("a1", times(&[("u149:1", "8ms")]));
    let users: Vec<String> = (0..150).map(|number| format!("u{number}:1")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let round = one_round(&fake, &continuum(&users, 1)).await;
    let counts: Vec<usize> = fake.asked.lock().unwrap().iter().map(|(_, targets)| targets.len()).collect();
    assert_eq!(counts, [TARGETS, TARGETS, 150 - 2 * TARGETS]);
    assert_eq!(round.to_users[&pair("a", "north")], ms("8ms"));
    assert_eq!(round.failures[&("a".into(), "timeout")], 149);
}

#[derive(Debug, Clone, Copy)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_follow_each_other_and_the_inventory() {
    let fake = Fake::default();
    fake.says("a1", times(&[("gate:443", "2ms")]));
    let telemetry = Arc::new(Telemetry::new());
    let desk = Arc::new(Desk::new(&continuum(&["gate:443"], 1), &[fixture::policy(Mode::Observe)]));
    let kept = tokio::spawn(keep(fake.clone(), ms("1m"), desk, Arc::clone(&telemetry), Noon));
    let is = |line: &str| telemetry.text().unwrap().lines().any(|one| one == line);
    let first = "sterna_probe_user_round_trip_seconds{site=\"a\",users=\"north\"} 0.002";
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is(first));
    assert!(is("sterna_probe_last_success_timestamp_seconds{site=\"a\"} 1000"));
    // The agent falls silent: its value goes with the next round, not before and not later.
    fake.says("a1", Says::Nothing);
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert!(is(first));
    tokio::time::sleep(Duration::from_secs(2) + TO_ANSWER).await;
    assert!(!telemetry.text().unwrap().contains("round_trip_seconds{"));
    fake.says("a1", times(&[("gate:443", "4ms")]));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(is("sterna_probe_user_round_trip_seconds{site=\"a\",users=\"north\"} 0.004"));
    kept.abort();
}
