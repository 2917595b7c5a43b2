//! The referee of "never lost, never twice": real faults strike at every point of a migration between real nodes, and what
//! comes of each is judged from outside.
//!
//! | module | what lives there |
//! |---|---|
//! | [`binary`] | the `sterna` binary with fault points |
//! | [`injection`] | which fault strikes at which point, in which order |
//! | [`world`] | the nodes, the services, and those who watch them |
//! | [`platform`] | where the nodes live, and which faults can strike them there |
//! | [`home`] | what a node is: a container, or a pod |
//! | [`cluster`] | the cluster whose pods the nodes are |
//! | [`node`] | a node seen from the host: processes, files, network |
//! | [`clock`] | clocks of the agents' own |
//! | [`disk`] | the nodes' disks, small enough to be filled |
//! | [`register`] | the agents' registers, read from outside |
//! | [`token`] | the service that can't run twice unseen, and the log of its tokens |
//! | [`strike`] | letting a fault strike, and healing |
//! | [`order`] | who gives the order: `sterna migrate`, or `sterna run` by its own decision |
//! | [`daemon`] | `sterna run`, killed and started again |
//! | [`history`] | what `sterna run` has written down, and whether it is true |
//! | [`trial`] | one run |
//! | [`judge`] | the referee |
//! | [`results`] | the table |
//! | [`power`] | power cuts of emulated hosts |

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub mod binary;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod history;
pub mod home;
pub mod injection;
pub mod judge;
pub mod node;
pub mod order;
pub mod platform;
pub mod power;
pub mod register;
pub mod results;
pub mod strike;
pub mod token;
pub mod trial;
pub mod world;

use cluster::Cluster;
use home::Ground;
use judge::{Before, Found};
use platform::Platform;
use results::Counts;
use trial::{Ended, Trial};
use world::World;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the nodes live. A cluster is brought up for it, and taken down after it.
    #[arg(long, value_enum, default_value = "docker")]
    pub platform: Platform,
    /// How many faults strike. By itself, one of every kind that can strike there; there are about 1000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Decides the order of the faults; the same number gives the same order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs of that order to leave out at its beginning.
    #[arg(long, default_value_t = 0)]
    pub skip: u32,
    /// Only faults whose kind, or point, contains this text.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Where every run's result goes, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where logs and registers go after a run that went wrong.
    #[arg(long, value_name = "FOLDER", default_value = "target/chaos")]
    pub evidence: PathBuf,
    /// Name of the nodes' continuum.
    #[arg(long, default_value = "chaos")]
    pub name: String,
    /// Sets of nodes on which runs are made side by side.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub lanes: u32,
    /// A `sterna` binary built with the feature `faults`; built here unless given.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
}

/// How often a migration is begun that does not come to the point where the fault is to strike.
const TRIES: u32 = 3;

/// All results, for programs.
#[derive(Debug, Serialize)]
struct Results<'a> {
    seed: u64,
    counts: Counts,
    tokens: u64,
    tokens_missing: u64,
    writes: u64,
    trials: &'a [Trial],
}

/// What must be done before there is a second thread.
///
/// # Errors
/// When we are not root, or the kernel refuses.
pub fn prepare(args: &Args) -> anyhow::Result<()> {
    world::must_be_root()?;
    match args.platform {
        Platform::Docker => Ok(()),
        Platform::Kubernetes => disk::keep_mounts_apart(),
    }
}

/// Has the faults strike, prints the table, and fails if anything was lost, doubled, left or unknown.
///
/// # Errors
/// When the nodes can't be had.
#[expect(clippy::print_stdout, reason = "the table is what is asked for")]
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // An error says that it is set already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let binary = binary::find(args.binary.as_deref()).await?;
    let wanted = |one: &injection::Injection| {
        args.only.as_deref().is_none_or(|text| format!("{} @ {}", one.fault, one.point).contains(text))
    };
    let kinds = args.platform.faults();
    let runs = args.runs.map_or(Ok(kinds.len()), usize::try_from)?;
    let all = injection::schedule(args.seed, &kinds).into_iter().filter(wanted);
    let all: Vec<_> = all.skip(usize::try_from(args.skip)?).take(runs).collect();
    let bar = bar(all.len())?;
    let ground = match args.platform {
        Platform::Docker => Ground::Engine,
        Platform::Kubernetes => {
            ensure!(args.lanes == 1, "on a cluster there is room for one lane");
            say(&bar, "bringing up a cluster of two nodes, and the node image to it");
            Ground::Cluster(Arc::new(Cluster::up(&binary).await?))
        }
    };
    let queue = Queue { all, next: AtomicUsize::new(0), done: Mutex::default() };
    // Side by side in this one task: what starts programs here must live as long as they.
    let lanes = (0..args.lanes).map(|lane| {
        // None begins with another: what a lane leaves behind is found by its name.
        let name = if args.lanes == 1 { args.name.clone() } else { format!("{}-{}", args.name, lane + 1) };
        run_lane(&binary, name, &ground, &args.evidence, &queue, &bar)
    });
    let (mut sums, mut failed) = (Sums::default(), None);
    for lane in futures_util::future::join_all(lanes).await {
        match lane {
            Ok(lane) => sums.add(lane.tokens, lane.missing),
            Err(error) => failed = Some(error),
        }
    }
    let mut trials = queue.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    trials.sort_by_key(|trial| trial.number);
    bar.finish_and_clear();
    let Sums { tokens, missing } = sums;

    let counts = Counts::of(&trials);
    let writes = trials.iter().map(|one| one.writes).sum();
    if let Some(out) = &args.out {
        write_results(
            out,
            &Results { seed: args.seed, counts, tokens, tokens_missing: missing, writes, trials: &trials },
        )?;
    }
    println!("{}", results::table(&trials));
    for line in args.platform.not_applicable() {
        println!("{line}");
    }
    let (count, middle, most) = results::frozen_in_vain(&trials);
    println!(
        "seed {}, {:.0} s; {tokens} tokens ({missing} datagrams lost), {writes} writes acknowledged; {count} times frozen in \
         vain: median {middle:.0} ms, at most {most:.0} ms",
        args.seed,
        began.elapsed().as_secs_f64()
    );
    // What was found until then stands above.
    failed.map_or(Ok(()), Err)?;
    Ok(if counts.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is to be tried, and what came of it.
#[derive(Debug)]
struct Queue {
    all: Vec<injection::Injection>,
    next: AtomicUsize,
    done: Mutex<Vec<Trial>>,
}

/// Tokens of all runs, and those that never arrived.
#[derive(Debug, Default)]
struct Sums {
    tokens: u64,
    missing: u64,
}

impl Sums {
    fn add(&mut self, tokens: u64, missing: u64) {
        self.tokens += tokens;
        self.missing += missing;
    }

    fn take(&mut self, world: &World) {
        let log = world.tokens.log();
        self.add(log.count, log.missing);
    }
}

/// Brings up nodes and carries out runs on them, one after the other, until none is left to be begun.
async fn run_lane(
    binary: &Path,
    name: String,
    ground: &Ground,
    evidence: &Path,
    queue: &Queue,
    bar: &ProgressBar,
) -> anyhow::Result<Sums> {
    let mut sums = Sums::default();
    say(bar, &format!("bringing up the nodes of {name}"));
    let mut world = World::up(binary, &name, ground).await?;
    let mut before = judge::stand(&mut world).await?;
    loop {
        let at = queue.next.fetch_add(1, Ordering::Relaxed);
        let Some(injection) = queue.all.get(at) else { break };
        bar.set_message(format!("{} at {}", injection.fault, injection.point));
        let mut start = Instant::now();
        let mut tries = 0;
        let trial = loop {
            tries += 1;
            let trial = trial::run(&mut world, at + 1, *injection, &before).await;
            let trial = trial.unwrap_or_else(|error| broken(at + 1, *injection, &error, start));
            say(bar, &line(&trial, queue.all.len()));
            // A migration that ended before its point, on a machine too busy for the freeze lease, shows nothing.
            if trial.reached || !trial.found.is_empty() || tries == TRIES {
                break trial;
            }
            let Ok(stands) = judge::stand(&mut world).await else { break trial };
            before = stands;
            start = Instant::now();
        };
        let clean = trial.found.is_empty();
        if !clean {
            let folder = world::evidence_folder(evidence, trial.number);
            let kept = world.evidence(&folder, start.elapsed()).await;
            let told = serde_json::to_string_pretty(&trial)?;
            kept.and_then(|()| Ok(std::fs::write(folder.join("run.json"), told)?))
                .unwrap_or_else(|error| say(bar, &format!("no evidence could be kept: {error:#}")));
        }
        queue.done.lock().unwrap_or_else(PoisonError::into_inner).push(trial);
        bar.inc(1);
        // How things stand for the next run; where they do not stand well, everything is made anew.
        match next(&mut world, clean).await {
            Ok(stands) => before = stands,
            Err(error) => {
                say(bar, &format!("making everything anew: {error:#}"));
                sums.take(&world);
                world.down().await?;
                world = World::up(binary, &name, ground).await?;
                before = judge::stand(&mut world).await?;
            }
        }
    }
    sums.take(&world);
    world.down().await?;
    Ok(sums)
}

/// How things stand after a run.
async fn next(world: &mut World, clean: bool) -> anyhow::Result<Before> {
    anyhow::ensure!(clean, "something was found");
    judge::stand(world).await
}

/// A run that could not be carried out.
fn broken(number: usize, injection: injection::Injection, error: &anyhow::Error, start: Instant) -> Trial {
    Trial {
        number,
        injection,
        from: String::new(),
        to: String::new(),
        reached: false,
        committed: injection::is_committed(injection.point),
        ended: Ended::Unknown,
        said: None,
        frozen_in_vain: None,
        longest_gap_ms: 0,
        writes: 0,
        printed: None,
        found: vec![Found::Unknown { what: format!("the run could not be carried out: {error:#}") }],
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn write_results(out: &Path, results: &Results<'_>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    std::fs::write(out, text).with_context(|| format!("can't write {}", out.display()))
}

fn line(trial: &Trial, all: usize) -> String {
    let Trial { number, injection, from, to, .. } = trial;
    let mut text = format!(
        "{number:>3}/{all} {} at {}, {} {from} to {to}: {:?}{} in {:.1} s, {} ms without a token",
        injection.fault,
        injection.point,
        injection.service.name(),
        trial.ended,
        if trial.reached { "" } else { ", NOT REACHED" },
        trial.seconds,
        trial.longest_gap_ms,
    );
    if let Some(said) = &trial.said {
        text.push_str(&format!(" ({said})"));
    }
    for found in &trial.found {
        text.push_str(&format!("\n        FOUND {found:?}"));
    }
    text
}

fn bar(all: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} to go: {msg}")?;
    let bar = ProgressBar::new(u64::try_from(all)?).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

#[expect(clippy::print_stderr, reason = "progress is for whoever watches, be it in a log")]
fn say(bar: &ProgressBar, text: &str) {
    if bar.is_hidden() {
        eprintln!("{text}");
    } else {
        bar.println(text);
    }
}
