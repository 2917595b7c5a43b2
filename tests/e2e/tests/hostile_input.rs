//! Whatever is said to an agent, by whomever: it refuses, in words and in time, nothing comes of it, and it goes on. A real node
//! with its real agent, called over real TLS by each role, on each route, in each of the ways to be wrong.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise, and says how many calls it made"
)]

mod hostile_input {
    pub mod generator;
    pub mod genuine;
    pub mod node;
    pub mod wire;
}

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hostile_input::generator::{Call, Generator, stalled};
use hostile_input::genuine::{self, Genuine};
use hostile_input::node::Node;
use hostile_input::wire::{Caller, Outcome};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;
use sterna_executor::identity::{Authority, Credentials, Role};
use sterna_executor::node::client::AgentClient;
use sterna_executor::node::server::routes::{Carries, ROUTES};
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Calls per route and role where nobody asks for another number: with 37 routes and 4 roles some 7400.
const CASES: usize = 50;
/// Of roles that do not get past the handshake.
const STRANGE_CASES: usize = 4;
/// Calls at once: fewer than one caller may have connections.
const AT_ONCE: usize = 12;
/// No answer takes longer. A document that stalls is given up after 15 s.
const PATIENCE: Duration = Duration::from_secs(10);
const STALL_PATIENCE: Duration = Duration::from_secs(25);
/// Most that the agent may grow by, in KiB.
const GROWTH: u64 = 64 << 10;

fn inventory() -> String {
    let mut text = "schema_version = 1\nname = \"hostile\"\n".to_owned();
    for site in ["a", "b"] {
        text.push_str(&format!(
            "[[site]]\nname = \"site-{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{site}1\"\ncpu = \"2\"\nmemory = \"1GiB\"\n"
        ));
    }
    text.push_str("[[link]]\nbetween = [\"site-a\", \"site-b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n");
    text.push_str(&ticker::service("ticker", 8, "a1"));
    text
}

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What is wrong with an outcome, if anything.
fn judge(call: &Call, outcome: &Outcome, admitted: bool) -> Option<String> {
    let right = match outcome {
        Outcome::Answered(status, _) if !admitted => {
            return Some(format!("{}: somebody without a certificate was answered {status}", call.what));
        }
        Outcome::Answered(status, _) => {
            (400..500).contains(status) || (call.void && (200..300).contains(status))
        }
        Outcome::Closed => !admitted || call.garbled,
        Outcome::Silence => false,
    };
    (!right).then(|| format!("{}: {outcome:?}", call.what))
}

/// What was seen of all calls.
#[derive(Default)]
struct Tally {
    calls: usize,
    statuses: BTreeMap<String, usize>,
    slowest: Duration,
    slowest_what: String,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, call: &Call, outcome: &Outcome, took: Duration, admitted: bool) {
        self.calls += 1;
        let status = match outcome {
            Outcome::Answered(status, _) => status.to_string(),
            other => format!("{other:?}"),
        };
        *self.statuses.entry(status).or_default() += 1;
        if took > self.slowest {
            (self.slowest, self.slowest_what) = (took, call.what.clone());
        }
        self.wrong.extend(judge(call, outcome, admitted));
    }

    /// Makes these calls, a limited number at once.
    async fn call(&mut self, caller: &Caller, calls: Vec<Call>, patience: Duration, admitted: bool) {
        let mut under_way = JoinSet::new();
        let mut left = calls.into_iter();
        loop {
            while under_way.len() < AT_ONCE {
                let Some(call) = left.next() else { break };
                let caller = caller.clone();
                under_way.spawn(async move {
                    let begin = Instant::now();
                    let outcome = caller.call(&call.bytes, patience).await;
                    (call, outcome, begin.elapsed())
                });
            }
            let Some(done) = under_way.join_next().await else { return };
            let (call, outcome, took) = done.unwrap();
            self.note(&call, &outcome, took, admitted);
        }
    }
}

/// Connections that say nothing, or nothing whole, held open until they are dropped.
async fn loiter(
    caller: &Caller,
    plain: usize,
    half: usize,
    heads: usize,
) -> (Vec<TcpStream>, Vec<impl Sized + use<>>) {
    let mut streams = Vec::new();
    for at in 0..plain + half {
        let mut stream = caller.plain().await.unwrap();
        if at >= plain {
            // The beginning of a greeting that announces more than comes.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
        }
        streams.push(stream);
    }
    let mut begun = Vec::new();
    for _ in 0..heads {
        if let Ok(mut stream) = caller.connect().await {
            let _ = stream.write_all(b"GET /v1/node HTTP/1.1\r\nHost: a1").await;
            begun.push(stream);
        }
    }
    (streams, begun)
}

/// What is said without TLS is answered by nothing but an alert.
async fn without_tls(caller: &Caller) {
    let mut noise = fastrand::Rng::with_seed(7);
    let mut shapes: Vec<Vec<u8>> = vec![
        b"GET /v1/node HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0x16, 3, 3, 0xff, 0xff],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(),
    ];
    shapes.extend((0..20).map(|_| std::iter::repeat_with(|| noise.u8(..)).take(500).collect()));
    for shape in shapes {
        let mut stream = caller.plain().await.unwrap();
        let _ = stream.write_all(&shape).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE + PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{shape:?} is not ended");
        assert!(!answer.starts_with(b"HTTP"), "{shape:?} is answered in HTTP without TLS");
    }
}

/// A request within another one must not be taken for one: at most the first is answered, and then the connection ends.
async fn smuggled(caller: &Caller) {
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 4\r\nContent-Length: 0\r\n",
        "Content-Length: +4\r\n",
        "Content-Length : 4\r\n",
    ] {
        let request = format!(
            "POST /v1/migrations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{head}\r\n\
             5c\r\nGET /v1/services HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n"
        );
        let mut stream = caller.connect().await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("ticker") && !text.contains("HTTP/1.1 2"), "{head:?}: {text}");
    }
}

/// Credentials like these, but with a certificate whose time is over.
fn expired(continuum: &Continuum, like: &Credentials) -> Credentials {
    let folder = continuum.state().join(continuum.name()).join("authority");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let authority_key = rcgen::KeyPair::from_pem(&read("ca.key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).unwrap();
    let mut parameters = rcgen::CertificateParams::new([Role::Scheduler.host_name()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut credentials = like.clone();
    credentials.cert_pem = parameters.signed_by(&key, &issuer).unwrap().pem();
    credentials.key_pem = key.serialize_pem();
    credentials
}

async fn started(continuum: &Continuum) -> String {
    let stat = continuum.exec("a1", "ticker", &["cat", "/proc/1/stat"]).await.unwrap();
    stat.split_whitespace().nth(21).expect("a start time").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_said_to_an_agent_nothing_comes_of_it_and_it_goes_on() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (cases, seed) = (asked("STERNA_HOSTILE_CASES", CASES as u64), asked("STERNA_HOSTILE_SEED", 1));
    let sterna = Sterna::built().unwrap();
    let continuum = Continuum::up(&sterna, &inventory()).await.unwrap();
    continuum.services_up().await.unwrap();
    ticker::ready(&continuum, "a1", "ticker").await.unwrap();

    let authority = Authority::open(&continuum.state().join(continuum.name()).join("authority")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let strange = Authority::open(&elsewhere.path().join("authority")).unwrap();
    let agent = |name: &str| Role::Agent(name.into());
    let scheduler = authority.issue(&Role::Scheduler).unwrap();
    let other = authority.issue(&agent("b1")).unwrap();
    let third = authority.issue(&agent("c1")).unwrap();
    let front = authority.issue(&Role::Front).unwrap();
    let mut stranger = strange.issue(&Role::Scheduler).unwrap();
    stranger.ca_pem.clone_from(&scheduler.ca_pem);

    let to = SocketAddr::new(continuum.address("a1").await.unwrap(), AGENT_PORT);
    let here = "a1".into();
    let asking = AgentClient::new(&scheduler, &here, &to.to_string()).await.unwrap();
    let image = asking.image_digest("sterna-services:latest").await.unwrap().expect("the ticker's image");
    // Something is held, so that there is something to spoil.
    let address = SocketAddr::new(continuum.address("b1").await.unwrap(), AGENT_PORT).to_string();
    let held = genuine::reservation(genuine::order("held", "b1", "a1", &address), &image);
    let source =
        AgentClient::new(&other, &here, &to.to_string()).await.unwrap().with_token(held.token.clone());
    source.reserve(&held).await.unwrap();
    let genuine = Genuine {
        here: "a1".to_owned(),
        there: "b1".to_owned(),
        address,
        image,
        facts: genuine::facts(&asking).await.unwrap(),
        held: held.clone(),
        credentials: other.clone(),
    };

    let node = Node::find(&continuum.container("a1")).await.unwrap();
    let (life, before, agent_before) =
        (started(&continuum).await, node.holds().await.unwrap(), node.agent().await.unwrap());

    let begin = Instant::now();
    let caller = |credentials: &Credentials| Caller::new(to, "a1", credentials).unwrap();
    let mut tally = Tally::default();
    // Bodies that never end, of every role and route, while all else goes on.
    let mut stalling = JoinSet::new();
    for credentials in [&scheduler, &third, &front] {
        let caller = caller(credentials);
        let routes = ROUTES.iter().filter(|route| route.carries == Carries::Document);
        let calls: Vec<Call> = routes.map(|route| stalled(&genuine, route)).collect();
        stalling.spawn(async move {
            let mut tally = Tally::default();
            tally.call(&caller, calls, STALL_PATIENCE, true).await;
            tally
        });
    }
    for (number, (credentials, cases)) in [
        (&scheduler, cases),
        (&other, cases),
        (&third, cases),
        (&front, cases),
        (&stranger, STRANGE_CASES as u64),
    ]
    .into_iter()
    .enumerate()
    {
        let mut generator = Generator::new(&genuine, seed.wrapping_add(number as u64));
        let calls = ROUTES.iter().enumerate().flat_map(|(row, route)| {
            // Each route begins with another kind of wrong, so that few cases see them all too.
            (0..usize::try_from(cases).unwrap()).map(move |case| (route, row + case))
        });
        let calls: Vec<Call> = calls.map(|(route, case)| generator.call(route, case)).collect();
        let admitted = number < 4;
        tally.call(&caller(credentials), calls, PATIENCE, admitted).await;
    }
    for shut_out in [Caller::nobody(to, "a1", &scheduler).unwrap(), caller(&expired(&continuum, &scheduler))]
    {
        let mut generator = Generator::new(&genuine, seed);
        let calls = ROUTES.iter().map(|route| generator.call(route, STRANGE_CASES)).collect();
        tally.call(&shut_out, calls, PATIENCE, false).await;
    }
    while let Some(done) = stalling.join_next().await {
        let stalled = done.unwrap();
        tally.calls += stalled.calls;
        tally.wrong.extend(stalled.wrong);
        let timed_out = stalled.statuses.get("408").copied().unwrap_or_default();
        assert!(timed_out > 0, "what stalls is timed: {:?}", stalled.statuses);
    }
    println!(
        "{} calls in {:.1} s, slowest {:?} ({}): {:?}",
        tally.calls,
        begin.elapsed().as_secs_f64(),
        tally.slowest,
        tally.slowest_what,
        tally.statuses
    );
    let shown = tally.wrong.iter().take(30).cloned().collect::<Vec<_>>().join("\n");
    assert!(tally.wrong.is_empty(), "{} wrong answers, seed {seed}:\n{shown}", tally.wrong.len());

    let scheduling = caller(&scheduler);
    without_tls(&scheduling).await;
    smuggled(&scheduling).await;
    // Of one agent that was taken over, more than it may have, and of nobody as many as there are places for handshakes.
    let loitering = loiter(&caller(&third), 200, 200, 60).await;
    let ask = Instant::now();
    let facts = tokio::time::timeout(PATIENCE, async {
        AgentClient::new(&scheduler, &here, &to.to_string()).await.unwrap().facts().await.unwrap()
    });
    assert_eq!(facts.await.expect("a genuine call is answered").node.as_str(), "a1");
    println!("460 connections loiter, a genuine call took {:?}", ask.elapsed());
    let refused = caller(&third).call(b"GET /v1/node HTTP/1.1\r\nHost: a\r\n\r\n", PATIENCE).await;
    assert!(matches!(&refused, Outcome::Answered(429, why) if why.contains("32 connections")), "{refused:?}");
    drop(loitering);

    let (after, agent_after) = (node.holds().await.unwrap(), node.agent().await.unwrap());
    assert_eq!(after, before, "nothing came of it");
    assert_eq!(
        (agent_after.pid, agent_after.start),
        (agent_before.pid, agent_before.start),
        "the same agent"
    );
    let grown = agent_after.peak.saturating_sub(agent_before.peak);
    println!("the agent had at most {} MiB, {} MiB more than before", agent_after.peak >> 10, grown >> 10);
    assert!(grown < GROWTH, "the agent grew by {grown} KiB");
    assert_eq!(node.log_with(&["panicked", "starting it again"]).await.unwrap(), Vec::<String>::new());
    assert_eq!(started(&continuum).await, life, "the same service");
    let gap = ticker::longest_gap(&continuum, "a1", "ticker").await.unwrap();
    println!("the service stood still for {gap:?} at most");
    assert!(gap < Duration::from_secs(5), "the service stood still for {gap:?}");

    source.discard(held.order.id).await.unwrap();
    continuum.migrate("ticker", "b1").await.unwrap();
    assert_eq!(continuum.runs_on("ticker").await.unwrap(), Some("b1"));
    continuum.down().await.unwrap();
}
