//! Small random problems, solved exactly: what the search leaves lying where everything can be known.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use sterna_core::assignment::exact::{Effort, Engine, Part, solve};
use sterna_core::assignment::model::Model;
use sterna_core::assignment::problem::Problem;
use sterna_core::assignment::search::budget::Proposals;
use sterna_core::assignment::search::{best, repair::repair};
use sterna_core::assignment::state::State;
use sterna_core::checker::assignment::judge;

use crate::table::{progress, show, table};

mod instance;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many problems.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    instances: u32,
    /// Decides which.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many proposals each of the two searches of a problem makes.
    #[arg(long, default_value_t = 50_000)]
    proposals: u64,
    /// How long the exact engine may take for a problem, in seconds.
    #[arg(long, default_value_t = 60.0)]
    time: f64,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A problem, solved both ways.
#[derive(Debug, Clone, Serialize)]
struct Pair {
    seed: u64,
    items: usize,
    bins: usize,
    rules: usize,
    /// What it is worth at first, after the repair, if one is needed.
    initial: i64,
    exact: i64,
    bound: Option<i128>,
    proved: bool,
    search: i64,
    /// Seconds of each.
    exactly: f64,
    searching: f64,
    /// What the judge finds wrong.
    wrong: Vec<String>,
}

impl Pair {
    /// How much worse the search is, as a part of what is best.
    fn gap(&self) -> f64 {
        (self.search - self.exact) as f64 / self.exact.abs().max(1) as f64
    }
}

/// All of them.
#[derive(Debug, Serialize)]
struct Run {
    seed: u64,
    proposals: u64,
    /// Problems that were drawn and not taken, because the repair could not make everything hold.
    passed_over: u64,
    pairs: Vec<Pair>,
}

/// Solves and prints.
///
/// # Errors
/// When the solver fails, the search claims more than is possible, the judge finds something wrong, or the file can't be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut seed = args.seed.wrapping_mul(1_000_003);
    let mut passed_over = 0;
    while pairs.len() < args.instances as usize {
        match both(&instance::instance(seed), seed, args)? {
            Some(pair) => pairs.push(pair),
            None => passed_over += 1,
        }
        if pairs.len().is_multiple_of(200) && pairs.last().is_some_and(|pair| pair.seed == seed) {
            progress(&format!("{} of {}", pairs.len(), args.instances));
        }
        seed = seed.wrapping_add(1);
    }
    let run = Run { seed: args.seed, proposals: args.proposals, passed_over, pairs };
    print(&run);
    crate::results::write(args.out.as_deref(), &run)?;
    let wrong: Vec<String> = run
        .pairs
        .iter()
        .flat_map(|pair| pair.wrong.iter().map(|wrong| format!("problem {}: {wrong}", pair.seed)))
        .collect();
    anyhow::ensure!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Solves a problem both ways; nothing if the repair can't make everything hold.
fn both(model: &Model, seed: u64, args: &Args) -> anyhow::Result<Option<Pair>> {
    let problem = Problem::new(model)?;
    let mut state = State::new(&problem, &problem.now);
    if !repair(&mut state, &[]) {
        return Ok(None);
    }
    let start = Instant::now();
    let effort = Effort { engine: Engine::built_in(), seed: 1, work: u64::MAX, seconds: args.time };
    let answer = solve(model, &state, Part::Whole, effort)?;
    let exactly = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let found = best(&problem, 2, seed, &Proposals(args.proposals), &|_| {});
    let searching = start.elapsed().as_secs_f64();

    let mut wrong = Vec::new();
    let mut check = |who: &str, at: &[u32], values: &[i64]| {
        let judgement = judge(model, at);
        if !judgement.holds() {
            wrong.push(format!("the {who} breaks something"));
        }
        if judgement.values != values.iter().map(|value| i128::from(*value)).collect::<Vec<_>>() {
            wrong.push(format!("the {who} says {values:?}, the judge {:?}", judgement.values));
        }
    };
    check("search", &found.at, &found.values);
    if let Some(better) = &answer.better {
        check("exact engine", &better.at, &better.values);
    }
    let exact = answer.better.map_or(state.value(), |better| better.values[0]);
    let search = found.values[0];
    if answer.bound.is_some_and(|bound| i128::from(search) < bound) {
        wrong.push(format!("the search comes to {search}, and the bound is {:?}", answer.bound));
    }
    Ok(Some(Pair {
        seed,
        items: model.items.len(),
        bins: model.bins.len(),
        rules: model.rules.len(),
        initial: state.value(),
        exact,
        bound: answer.bound,
        proved: answer.proved,
        search,
        exactly,
        searching,
        wrong,
    }))
}

fn print(run: &Run) {
    let count = |of: &dyn Fn(&Pair) -> bool| run.pairs.iter().filter(|pair| of(pair)).count().to_string();
    let mut gaps: Vec<f64> = run.pairs.iter().map(Pair::gap).collect();
    gaps.sort_by(f64::total_cmp);
    let gap = |share: f64| {
        let at = ((gaps.len() as f64 * share).ceil() as usize).clamp(1, gaps.len()) - 1;
        format!("{:.2} %", gaps[at] * 100.0)
    };
    let seconds = |of: fn(&Pair) -> f64| {
        let most = run.pairs.iter().map(of).fold(0.0, f64::max);
        format!("{:.1} s, {most:.2} s at most", run.pairs.iter().map(of).sum::<f64>())
    };
    let row = |name: &str, value: String| [name.to_owned(), value];
    show(&table(
        ["problems", &run.pairs.len().to_string()],
        [
            row("proved", count(&|pair| pair.proved)),
            row("made better by the exact engine", count(&|pair| pair.exact < pair.initial)),
            row("equal by the search", count(&|pair| pair.search == pair.exact)),
            row("median gap", gap(0.5)),
            row("95th of 100 gaps", gap(0.95)),
            row("worst gap", gap(1.0)),
            row("exact engine", seconds(|pair| pair.exactly)),
            row("search", seconds(|pair| pair.searching)),
            row("wrong", count(&|pair| !pair.wrong.is_empty())),
        ],
    ));
}
