//! `sterna simulate`: try policies on a described continuum, offline.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_policies::diagnose;
use sterna_policies::load::Loaded;
use sterna_policies::policy::Policy;
use sterna_simulator::fleet::described;
use sterna_simulator::report::{MoveEnd, Outcome, Report, html, tables};
use sterna_simulator::scenario::{self, Scenario};
use sterna_simulator::{clock::SimTime, run};

use crate::exit::Invalid;
use crate::wiring::Output;

mod files;
mod fleet;
mod many;
mod replayed;
mod text;

/// Arguments of `sterna simulate`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("many").args(["seeds", "sweep"]).multiple(true))]
pub struct Args {
    /// The scenario file.
    #[arg(required_unless_present = "replay")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    recorded: replayed::Recorded,
    /// A policy file; give several to compare them. Only the moves of a fleet are decided without one.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Simulate a fleet with so many nodes, instead of as many as its file says.
    #[arg(long, value_name = "N", conflicts_with = "policy")]
    nodes: Option<u32>,
    /// Let something fail beside what the scenario lets fail: 'site/NAME at 9:00 for 2h', or node/NAME, nodes-of/SITE or
    /// link/SITE/SITE; by chance 'node/NAME mtbf 5d mttr 1h'. May be given several times.
    #[arg(long, value_name = "FAILURE", conflicts_with = "replay")]
    fail: Vec<String>,
    /// The seed: of what the scenario leaves to chance, and of every decision.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Run so many seeds from `--seed` on; all policies meet the same world with the same seed.
    #[arg(long, value_name = "N", conflicts_with_all = ["timeline", "html", "csv"], value_parser = clap::value_parser!(u32).range(1..))]
    seeds: Option<u32>,
    /// Try variants of the policy: a file with values for keys of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["timeline", "html", "csv"])]
    sweep: Option<PathBuf>,
    /// Run on so many threads; as many as there are processors if not said.
    #[arg(long, value_name = "N", value_parser = threads, requires = "many")]
    threads: Option<usize>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Tell everything that happened, in order.
    #[arg(long)]
    timeline: bool,
    /// Write the report as a page to this file as well: one file that a browser shows without a network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the report as CSV tables into this folder as well; it is made where there is none.
    #[arg(long, value_name = "FOLDER")]
    csv: Option<PathBuf>,
    /// Let inputs pass that have no effect, and policies that decide nothing; both are errors otherwise.
    #[arg(long)]
    allow_unused: bool,
}

/// The report as it is printed for programs. The hash is that of the report with its timelines.
#[derive(Serialize)]
struct Printed<'a> {
    hash: &'a str,
    report: &'a Report,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file =
        args.scenario.as_deref().map(|path| Ok::<_, anyhow::Error>((path, read_text(path)?))).transpose()?;
    if let Some((path, text)) = &file
        && described::is_fleet(text)
    {
        print(&fleet::run(&args, path, text)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(args.nodes.is_none(), "only a scenario with a [fleet] takes --nodes");
    anyhow::ensure!(!args.policy.is_empty(), "there is nothing to try: give at least one --policy FILE");
    let scenario = |(path, text): (&Path, String)| read_scenario(path, &text, args.allow_unused);
    let mut scenario = file.map(scenario).transpose()?;
    if let Some(scenario) = &mut scenario {
        scenario.inject(&args.fail).map_err(refused)?;
    }
    let policies = args.policy.iter().map(|path| read_policy(path)).collect::<anyhow::Result<Vec<_>>>()?;
    for (index, policy) in policies.iter().enumerate() {
        if policies[..index].iter().any(|other| other.name == policy.name) {
            anyhow::bail!(
                "two of the policies are called `{}`; their results could not be told apart",
                policy.name
            );
        }
    }
    if let Some(history) = &args.recorded.replay {
        return replayed::run(&args.recorded, history, policies, args.output, &bar(0)?);
    }
    let scenario = scenario.context("a scenario or `--replay` is needed")?;
    let mut idle = Vec::new();
    let text = match args.seeds.is_some() || args.sweep.is_some() {
        true => many::run(&args, &scenario, policies)?,
        false => {
            let (text, report) = once(&args, &scenario, &policies)?;
            idle.extend(report.undecided().map(|outcome| outcome.policy.clone()));
            text
        }
    };
    print(&text)?;
    decided(&scenario, &idle)?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't print the report"),
    }
}

/// A policy that decided nothing in a whole scenario is most often a mistake in one of the two.
fn decided(scenario: &Scenario, idle: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(
        idle.is_empty() || scenario.allow_unused,
        "in {} nothing was decided under {}: no move, and no rule that held one back; check that the policy's metrics and \
         objectives have to do with what changes in the scenario, or give --allow-unused",
        scenario.name,
        idle.join(" and ")
    );
    Ok(())
}

/// All policies with one seed; in words, and as values.
fn once(args: &Args, scenario: &Scenario, policies: &[Policy]) -> anyhow::Result<(String, Report)> {
    // Before the long part.
    let page = args.html.as_deref().map(files::Draft::of).transpose()?;
    args.csv.as_deref().map(files::folder).transpose()?;
    let mut report = simulate(scenario, policies, args.seed)?;
    let hash = report.hash().context("the report can't be put into JSON")?;
    if let Some(page) = page {
        page.fill(&html::page(&report, scenario, &hash)?)?.place()?;
    }
    if let Some(folder) = &args.csv {
        files::write_all(folder, &tables::tables(&report, scenario)?)?;
    }
    if !args.timeline {
        for outcome in &mut report.outcomes {
            outcome.timeline.clear();
        }
    }
    let text = match args.output {
        Output::Table => text::render(&report, &hash),
        Output::Json => {
            let printed = Printed { hash: &hash, report: &report };
            serde_json::to_string_pretty(&printed)? + "\n"
        }
    };
    Ok((text, report))
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one is needed".to_owned()),
        Ok(threads) => Ok(threads),
        Err(error) => Err(format!("{error}")),
    }
}

/// Tries an older and a newer policy on a scenario, and prints how both fare. Gives whether they moved differently.
pub fn side_by_side(scenario: &Path, old: Policy, new: Policy, output: Output) -> anyhow::Result<bool> {
    let scenario = read_scenario(scenario, &read_text(scenario)?, true)?;
    // They may have the same name.
    let policies = [("old", old), ("new", new)]
        .map(|(word, policy)| Policy { name: format!("{word} {}", policy.name), ..policy });
    let mut report = simulate(&scenario, &policies, 0)?;
    let hash = report.hash().context("the report can't be put into JSON")?;
    let differs = match report.outcomes.as_slice() {
        [old, new] => moved(old) != moved(new) || old.placement != new.placement,
        _ => false,
    };
    report.outcomes.iter_mut().for_each(|outcome| outcome.timeline.clear());
    let text = match output {
        Output::Table => text::render(&report, &hash),
        Output::Json => serde_json::to_string_pretty(&Printed { hash: &hash, report: &report })?,
    };
    crate::run::say(text.trim_end());
    Ok(differs)
}

/// What a policy moved, and what came of it: not why, which differs with the policy's words.
fn moved(outcome: &Outcome) -> Vec<(SimTime, &ServiceName, &NodeName, &NodeName, Option<&MoveEnd>)> {
    let all = outcome.moves.iter();
    all.map(|one| (one.began, &one.service, &one.from, &one.to, one.end.as_ref())).collect()
}

/// Runs the scenario under all policies, with a bar on standard error where a person is watching.
fn simulate(scenario: &Scenario, policies: &[Policy], seed: u64) -> anyhow::Result<Report> {
    let bar = bar(1000 * u64::try_from(policies.len())?)?;
    let whole = scenario.duration.as_nanos();
    let report = run::compare(scenario, policies, seed, &mut |index, now: SimTime| {
        let done = u128::from(now.as_nanos()) * 1000 / u128::from(whole.max(1));
        let before = 1000 * u64::try_from(index).unwrap_or(0);
        bar.set_position(before + u64::try_from(done).unwrap_or(0));
        if let Some(policy) = policies.get(index) {
            bar.set_message(policy.name.clone());
        }
    });
    bar.finish_and_clear();
    Ok(report?)
}

/// A bar on standard error where a person is watching.
fn bar(length: u64) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{msg:20} {bar:40} {percent:>3} %")?;
    Ok(ProgressBar::new(length).with_style(style))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    let text = read_text(path)?;
    let Loaded { value, warnings } =
        sterna_policies::load::policy(&path.display().to_string(), &text).map_err(refused)?;
    warn(warnings);
    Ok(value)
}

fn read_scenario(path: &Path, text: &str, allow_unused: bool) -> anyhow::Result<Scenario> {
    let read = |beside: &Path| scenario::text(beside, std::fs::read(beside)?);
    let read = scenario::load::load_allowing(&path.display().to_string(), text, &read, allow_unused)
        .map_err(refused)?;
    for warnings in read.warnings {
        warn(warnings);
    }
    Ok(read.scenario)
}

fn refused(invalid: diagnose::Invalid) -> Invalid {
    Invalid(invalid.into())
}

#[expect(clippy::print_stderr, reason = "warnings about a file are for whoever wrote it")]
fn warn(warnings: diagnose::Report) {
    if !warnings.is_empty() {
        eprintln!("{:?}", miette::Report::new(warnings));
    }
}
