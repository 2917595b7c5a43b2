//! Services move to and fro behind a front, and their clients keep their connections: no request fails, none is lost, none is
//! done twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sterna_e2e::clients::page;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::front::{Front, Fronted, METRICS};
use sterna_e2e::inventory::{NODES, Service, three_sites};
use sterna_e2e::resp::{Connection, Reply};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::zoo::Workload as _;
use sterna_e2e::zoo::nginx::Nginx;
use sterna_e2e::zoo::redis::Redis;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const IMAGE: &str = "sterna-services:latest";
/// As many as redis-benchmark has by itself.
const CLIENTS: usize = 50;
/// Where nobody asks for another number of moves by `STERNA_FRONT_MOVES`.
const MOVES: usize = 4;
/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(40);

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    answers: u64,
    longest_gap: Duration,
}

impl Seen {
    fn note(&mut self, answers: u64, took: Duration) {
        self.answers += answers;
        self.longest_gap = self.longest_gap.max(took);
    }

    fn join(&mut self, other: &Self) {
        self.answers += other.answers;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }
}

/// Counts a key of its own, over one connection, many commands at once, and sees that no number is missing or doubled.
async fn count(address: SocketAddr, number: usize, stop: Arc<AtomicBool>) -> anyhow::Result<Seen> {
    let mut connection = Connection::open(address).await?;
    let (key, depth) = (format!("counter{number}"), 1 + number % 16);
    connection.command(&["SELECT", "2"]).await?;
    let (mut seen, mut last) = (Seen::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let batch = std::iter::repeat_with(|| vec!["INCR", key.as_str()]).take(depth);
        let answers =
            tokio::time::timeout(PATIENCE, connection.commands(batch)).await.context("no answer")??;
        for answer in answers {
            last += 1;
            ensure!(answer == Reply::Integer(last), "{key}: {answer:?} instead of {last}");
        }
        seen.note(depth as u64, begin.elapsed());
    }
    Ok(seen)
}

/// Asks for a page over one connection that is kept.
async fn browse(address: SocketAddr, stop: Arc<AtomicBool>) -> anyhow::Result<Seen> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        tokio::time::timeout(PATIENCE, page(&mut stream)).await.context("no answer")??;
        seen.note(1, begin.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(seen)
}

#[derive(Debug, Deserialize)]
struct Report {
    downtime: Option<String>,
}

/// Moves a service; what Sterna says of its downtime.
async fn migrate(sterna: &Sterna, continuum: &Continuum, service: &str, to: &str) -> anyhow::Result<String> {
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let order = ["migrate", service, "--to", to, "--inventory", &file, "--state", &state, "--output", "json"];
    let report: Report = serde_json::from_str(&sterna.must(&order).await?)?;
    report.downtime.context("the downtime is not known")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_their_connections_while_services_move() {
    let moves = std::env::var("STERNA_FRONT_MOVES").ok().map_or(MOVES, |text| text.parse().unwrap());
    let (redis, nginx) = (Redis::default().service().image(IMAGE), Nginx::default().service().image(IMAGE));
    let services = redis.table(NODES[0]).unwrap() + &nginx.table(NODES[0]).unwrap();
    let sterna = Sterna::built().unwrap();
    let continuum = Continuum::up(&sterna, &three_sites("e2e-front", &services)).await.unwrap();
    continuum.services_up().await.unwrap();
    let fronted = [
        Fronted { name: "redis", port: 6379, protocol: "redis" },
        Fronted { name: "nginx", port: 8104, protocol: "http" },
    ];
    let front = Front::start(&sterna, &continuum, &fronted).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut counting, mut browsing) = (JoinSet::new(), JoinSet::new());
    for number in 0..CLIENTS {
        counting.spawn(count(front.address("redis").unwrap(), number, stop.clone()));
    }
    for _ in 0..8 {
        browsing.spawn(browse(front.address("nginx").unwrap(), stop.clone()));
    }
    for at in 0..moves {
        for service in ["redis", "nginx"] {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let to = NODES[(at + 1) % 2];
            let downtime = migrate(&sterna, &continuum, service, to).await.unwrap();
            println!("{service} to {to}: downtime {downtime}");
            assert_eq!(continuum.runs_on(service).await.unwrap(), Some(to));
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    for (service, mut clients) in [("redis", counting), ("nginx", browsing)] {
        let mut seen = Seen::default();
        while let Some(one) = clients.join_next().await {
            let one = one.unwrap().unwrap();
            assert!(one.answers > 0);
            seen.join(&one);
        }
        println!("{service}: {} answers, longest gap {:?}", seen.answers, seen.longest_gap);
        for name in ["closed_at_boundary_total", "closed_in_request_total", "refused_total"] {
            assert_eq!(front.counted(service, name).await.unwrap(), 0, "{service}: {name}");
        }
        let told = front.counted(service, "moves_total").await.unwrap();
        assert_eq!(told, moves as u64, "{service}: the agents told of every move");
        let (cut, held) = (
            front.counted(service, "moves_cut_total").await.unwrap(),
            front.counted(service, "held_total").await.unwrap(),
        );
        println!("{service}: {told} moves, {cut} of them with something under way at the end, {held} held");
    }
    continuum.down().await.unwrap();
}

/// The front runs in the agent of the third node, which comes to run the service itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_stays_reachable_through_a_front_that_an_agent_runs() {
    let nginx = Nginx::default().service().image(IMAGE);
    let other = Service::new("other", IMAGE, &["sleep", "inf"]).port(METRICS);
    let services = nginx.table(NODES[0]).unwrap() + &other.table(NODES[0]).unwrap();
    let sterna = Sterna::built().unwrap();
    let continuum = Continuum::up(&sterna, &three_sites("e2e-agent-front", &services)).await.unwrap();
    continuum.services_up().await.unwrap();
    let fronted = [Fronted { name: "nginx", port: 8104, protocol: "http" }];
    let front = Front::in_agent(&sterna, &continuum, NODES[2], &fronted).await.unwrap();
    let address = front.address("nginx").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut browsing = JoinSet::new();
    for _ in 0..4 {
        browsing.spawn(browse(address, stop.clone()));
    }
    let moves = [NODES[1], NODES[2], NODES[0]];
    for to in moves {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let downtime = migrate(&sterna, &continuum, "nginx", to).await.unwrap();
        println!("nginx to {to}: downtime {downtime}");
        assert_eq!(continuum.runs_on("nginx").await.unwrap(), Some(to));
        // One that comes now.
        let mut late = BufReader::new(TcpStream::connect(address).await.unwrap());
        tokio::time::timeout(PATIENCE, page(&mut late)).await.expect("an answer").unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(one) = browsing.join_next().await {
        assert!(one.unwrap().unwrap().answers > 0);
    }
    for name in ["closed_in_request_total", "refused_total"] {
        assert_eq!(front.counted("nginx", name).await.unwrap(), 0, "{name}");
    }
    assert_eq!(front.counted("nginx", "moves_total").await.unwrap(), moves.len() as u64);
    // Where the front listens no service can.
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let dry = ["migrate", "other", "--to", NODES[2], "--dry-run", "--inventory", &file, "--state", &state];
    let refused = sterna.run_in(continuum.folder(), &[], &dry).await.unwrap();
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("C302") && said.contains("9464/tcp is listened on by the node's front"), "{said}");
    continuum.down().await.unwrap();
}
