//! The same fleet in other simulators: LEAF, from PyPI, and SimGrid, from Debian. Each by a program of ours that reads shares and
//! moves from a file, and times itself from the building of its world to the end of its run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sterna_e2e::process::{self, Finished, bound};
use sterna_simulator::fleet::{Fleet, closed_form, run as run_fleet};

use super::{Row, hours, shortened};
use crate::table::{loud, progress};

const LEAF: &str = include_str!("../programs/fleet_leaf.py");
const SIMGRID: &str = include_str!("../programs/fleet_simgrid.cpp");
/// LEAF and what it stands on.
const LEAF_PACKAGES: [&str; 1] = ["leafsim==0.4.2"];
/// The most nodes that others are asked to simulate.
const MOST: u32 = 1000;
/// Ticks of a day.
const DAY: u64 = 288;
/// Ticks of an hour.
const HOUR: u64 = 12;

/// Another simulator.
#[derive(Debug, Clone, Copy)]
enum Peer {
    Leaf,
    Simgrid,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Leaf => "LEAF",
            Self::Simgrid => "SimGrid",
        }
    }

    fn migration(self) -> &'static str {
        match self {
            Self::Leaf => "none, at once",
            Self::Simgrid => "passes, what is written meanwhile",
        }
    }

    /// How many ticks it is given: large fleets take SimGrid minutes per hour.
    fn ticks(self, nodes: u32) -> u64 {
        match self {
            Self::Simgrid if nodes > 100 => HOUR,
            _ => DAY,
        }
    }
}

/// What our programs print.
#[derive(Debug, Deserialize)]
struct Told {
    seconds: f64,
    kwh: f64,
    migrations: u64,
    mean_migration: Option<f64>,
    peak_kib: f64,
}

/// Runs those that can be had. What can't is told, and put among what is left out.
pub async fn run(sizes: &[u32], yes: bool, rows: &mut Vec<Row>, left_out: &mut Vec<String>) {
    for peer in [Peer::Leaf, Peer::Simgrid] {
        if let Err(error) = all_sizes(peer, sizes, yes, rows).await {
            let why = format!("{}: {error:#}", peer.name());
            loud(&why);
            left_out.push(why);
        }
    }
}

async fn all_sizes(peer: Peer, sizes: &[u32], yes: bool, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = match peer {
        Peer::Leaf => leaf(folder.path(), yes).await?,
        Peer::Simgrid => simgrid(folder.path(), yes).await?,
    };
    for nodes in sizes.iter().copied().filter(|nodes| *nodes <= MOST) {
        let fleet = shortened(nodes, peer.ticks(nodes));
        write(folder.path(), &fleet, nodes)?;
        progress(&format!("{}: {nodes} nodes, {} h", peer.name(), hours(&fleet)));
        let report = run_fleet(&fleet)?;
        let (services, ticks) = (report.services.to_string(), fleet.ticks().to_string());
        let (path, nodes_text) = (folder.path().display().to_string(), nodes.to_string());
        let mut words = program.clone();
        words.extend([path, nodes_text, services, ticks]);
        let told: Told = serde_json::from_str(last_line(&done(&words).await?.stdout))
            .context("it printed something that is not understood")?;
        rows.push(Row {
            simulator: peer.name().to_owned(),
            migration: peer.migration(),
            nodes,
            services: report.services,
            hours: hours(&fleet),
            seconds: vec![told.seconds],
            peak: told.peak_kib / 1024.0,
            energy: told.kwh,
            closed_form: closed_form::energy(&fleet, &report).map(|energy| energy.as_kwh()),
            migrations: told.migrations,
            mean_migration: told.mean_migration,
            carbon: None,
            cost: None,
            hash: None,
        });
    }
    Ok(())
}

/// Has what a group of needs asks for on this machine, by the script that `./check` uses.
async fn install(group: &str, yes: bool) -> anyhow::Result<()> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = format!(". deploy/setup/prerequisites.sh && install_for {group}");
    // In our own process group: whoever sits at the terminal is asked.
    let mut command = tokio::process::Command::new("bash");
    command.args(["-euc", &script]).env("yes", if yes { "1" } else { "0" }).current_dir(sources);
    let status = command.kill_on_drop(true).status().await?;
    ensure!(status.success(), "what it needs could not be installed; why stands above");
    Ok(())
}

/// LEAF in a virtual environment of its own: how our program is called.
async fn leaf(folder: &Path, yes: bool) -> anyhow::Result<Vec<String>> {
    install("leaf", yes).await?;
    let (venv, program) = (folder.join("venv"), folder.join("day.py"));
    std::fs::write(&program, LEAF)?;
    let text = |path: PathBuf| path.display().to_string();
    done(&["python3".into(), "-m".into(), "venv".into(), text(venv.clone())]).await?;
    let python = text(venv.join("bin/python"));
    let mut install: Vec<String> =
        [&python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            .map(str::to_owned)
            .to_vec();
    install.extend(LEAF_PACKAGES.map(str::to_owned));
    done(&install).await?;
    Ok(vec![python, text(program)])
}

/// SimGrid of the distribution: how our program is called.
async fn simgrid(folder: &Path, yes: bool) -> anyhow::Result<Vec<String>> {
    install("simgrid", yes).await?;
    let (source, program) = (folder.join("simgrid.cpp"), folder.join("simgrid"));
    std::fs::write(&source, SIMGRID)?;
    let text = |path: PathBuf| path.display().to_string();
    let program = text(program);
    let words = ["c++", "-std=c++17", "-O2", "-o", &program, &text(source), "-lsimgrid"].map(str::to_owned);
    done(&words).await?;
    Ok(vec![program])
}

/// Shares and moves, and the platform in SimGrid's own format.
fn write(folder: &Path, fleet: &Fleet, nodes: u32) -> anyhow::Result<()> {
    let mut row = vec![0; fleet.services.len()];
    let mut shares = Vec::new();
    for tick in 0..fleet.ticks() {
        fleet.trace.fill(tick, &mut row);
        shares.extend(row.iter().flat_map(|share| share.to_le_bytes()));
    }
    std::fs::write(folder.join("shares"), shares)?;
    let mut moves = String::new();
    for order in fleet.orders.iter().filter(|order| order.at < fleet.duration) {
        writeln!(moves, "{} {} {}", order.at.as_nanos() / fleet.tick, order.service, order.to)?;
    }
    std::fs::write(folder.join("moves"), moves)?;
    let platform = format!(
        r#"<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="fleet" prefix="n" suffix="" radical="0-{}" speed="2Gf" core="8" bw="1.25GBps" lat="10us">
    <prop id="wattage_per_state" value="100:100:250"/>
  </cluster>
</platform>
"#,
        nodes - 1
    );
    std::fs::write(folder.join("platform.xml"), platform)?;
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.trim().lines().next_back().unwrap_or("")
}

/// Runs a program to its end.
async fn done(words: &[String]) -> anyhow::Result<Finished> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = bound(Path::new(program));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let finished = process::run(&mut command).await.with_context(|| program.clone())?;
    let said = last_line(&finished.stderr);
    ensure!(finished.status.success(), "{program} ended with {}: {said}", finished.status);
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_read_the_very_same_fleet() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = shortened(20, 30);
        write(folder.path(), &fleet, 20).unwrap();
        let shares = std::fs::read(folder.path().join("shares")).unwrap();
        assert_eq!(shares.len(), 30 * 80 * 2);
        let at = |tick: usize, service: usize| {
            let at = (tick * 80 + service) * 2;
            u16::from_le_bytes([shares[at], shares[at + 1]])
        };
        assert_eq!(at(29, 79), fleet.trace.share(29, 79, 80));
        let moves = std::fs::read_to_string(folder.path().join("moves")).unwrap();
        let made = run_fleet(&fleet).unwrap().migrations.len();
        assert!(made > 0);
        assert_eq!(moves.lines().count(), made);
        assert!(
            std::fs::read_to_string(folder.path().join("platform.xml")).unwrap().contains("radical=\"0-19\"")
        );
    }

    #[test]
    fn what_our_programs_print_is_understood() {
        let text =
            r#"{"seconds": 1.5, "kwh": 320.87, "migrations": 200, "mean_migration": null, "peak_kib": 1024}"#;
        let told: Told = serde_json::from_str(last_line(&format!("a warning\n{text}\n"))).unwrap();
        assert_eq!((told.seconds, told.migrations, told.mean_migration), (1.5, 200, None));
    }
}
