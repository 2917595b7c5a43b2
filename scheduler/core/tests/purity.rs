//! The decision engine is a function: no clock, no network, no disk, no randomness of its own, nothing printed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

use std::path::Path;
use std::process::Command;

mod fixture;

/// What would be a way out of purity, whatever brings it in.
const FORBIDDEN: [&str; 9] =
    ["tokio", "kube", "bollard", "reqwest", "hyper", "rusqlite", "sterna-executor", "sterna-daemon", "rand"];

#[test]
fn nothing_impure_is_linked() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "-f", "{p}"])
        .args(["-p", "sterna-core", "--features", "highs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let linked: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains(&"sterna-policies") && linked.contains(&"good_lp"), "{text}");
    for name in FORBIDDEN {
        assert!(!linked.contains(&name), "sterna-core depends on {name}:\n{text}");
    }
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn no_clock_network_disk_or_randomness_is_named() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 10);
    for (path, text) in found {
        // With a seed, it is data; its other functions have one of their own.
        let text = text.replace("use fastrand::Rng;", "");
        for word in [
            "SystemTime",
            "Instant",
            "Timestamp::now",
            "Zoned::now",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "HashMap",
            "HashSet",
            "rand::",
            "Rng::new",
            "println!",
            "eprintln!",
        ] {
            assert!(!text.contains(word), "{path} names {word}");
        }
    }
}

/// Run by [`the_solver_prints_nothing`] in a process of its own.
#[test]
fn a_decision() {
    let decision = fixture::decide(&fixture::observation(), &fixture::policy());
    assert_eq!(fixture::moves(&decision), ["redis a1>b1"]);
}

#[test]
fn the_solver_prints_nothing() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_decision", "--nocapture", "--format", "terse"])
        .output()
        .unwrap();
    assert!(child.status.success());
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    // What the test harness itself prints: a count, a dot, and a summary.
    let others: Vec<&str> = text
        .lines()
        .filter(|line| {
            !(line.is_empty()
                || *line == "."
                || line.starts_with("running 1 test")
                || line.starts_with("test result: ok. 1 passed"))
        })
        .collect();
    assert_eq!(others, Vec::<&str>::new());
}
