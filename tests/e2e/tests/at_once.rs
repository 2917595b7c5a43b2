//! Several services move at once, in both directions, and wait for their turn where an agent takes no more.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::inventory::three_sites;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::ticker;

/// Each with where it is, and where it goes. An agent lets two leave at once, and two arrive.
const MOVES: [(&str, &str, &str); 5] = [
    ("one", "a1", "b1"),
    ("two", "a1", "b1"),
    ("three", "a1", "b1"),
    ("four", "b1", "a1"),
    ("five", "c1", "b1"),
];

/// Addresses of stack and heap of the first process: a second start of the same program has others.
async fn life(continuum: &Continuum, node: &str, service: &str) -> String {
    let stat = continuum.exec(node, service, &["cat", "/proc/1/stat"]).await.unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    [fields[25], fields[44], fields[45]].join(" ")
}

#[tokio::test]
async fn five_at_once_all_arrive() {
    let sterna = Sterna::built().unwrap();
    let services: Vec<String> = MOVES.map(|(name, from, _)| ticker::service(name, 16, from)).to_vec();
    let continuum = Continuum::up(&sterna, &three_sites("e2e-at-once", &services.concat())).await.unwrap();
    continuum.services_up().await.unwrap();
    let mut lives = Vec::new();
    for (name, from, _) in MOVES {
        ticker::ready(&continuum, from, name).await.unwrap();
        lives.push(life(&continuum, from, name).await);
    }
    let start = Instant::now();
    let moved = join_all(MOVES.map(|(name, _, to)| continuum.migrate(name, to))).await;
    println!("five moves at once took {:.1} s", start.elapsed().as_secs_f64());
    for ((name, _, to), (before, moved)) in MOVES.into_iter().zip(lives.into_iter().zip(moved)) {
        moved.unwrap();
        assert_eq!(continuum.runs_on(name).await.unwrap(), Some(to));
        assert_eq!(life(&continuum, to, name).await, before, "{name} is the same process");
        let gap = ticker::longest_gap(&continuum, to, name).await.unwrap();
        println!("{name} stood still for {} ms", gap.as_millis());
        assert!(gap < Duration::from_secs(30));
    }
    continuum.down().await.unwrap();
}
