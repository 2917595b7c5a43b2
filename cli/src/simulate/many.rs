//! `sterna simulate` with several seeds, or a sweep over variants of a policy.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sterna_policies::policy::Policy;
use sterna_simulator::scenario::Scenario;
use sterna_simulator::sweep::grid::Grid;
use sterna_simulator::sweep::{self, Comparison, Measure, Runs};

use super::{Args, bar, read_text, refused, warn};
use crate::wiring::Output;

mod text;

/// The comparison as it is printed for programs.
#[derive(Serialize)]
struct Printed<'a> {
    hash: &'a str,
    comparison: &'a Comparison,
}

/// Runs all policies, or all variants of the only one, over all seeds, and says how they compare.
pub fn run(args: &Args, scenario: &Scenario, policies: Vec<Policy>) -> anyhow::Result<String> {
    let Grid { variants, objectives } = match &args.sweep {
        Some(file) => grid(args, file)?,
        None => Grid { variants: Vec::new(), objectives: Measure::USUAL.to_vec() },
    };
    let (names, policies): (Vec<_>, Vec<_>) = match args.sweep.is_some() {
        true => {
            let width = variants.len().to_string().len();
            let numbered = variants.into_iter().zip(1..).map(|(variant, number)| {
                // By these they are told apart; the policies themselves keep their name.
                ((format!("variant {number:0width$}"), variant.settings), variant.policy)
            });
            numbered.unzip()
        }
        false => policies.into_iter().map(|policy| ((policy.name.clone(), Vec::new()), policy)).unzip(),
    };
    let seeds = args.seeds.unwrap_or(1);
    let count = if scenario.is_random() { u64::from(seeds) } else { 1 };
    let bar = bar(u64::try_from(policies.len())? * count)?;
    bar.set_message("runs");
    let runs = Runs { scenario, policies: &policies, seed: args.seed, seeds, threads: args.threads };
    let matrix = sweep::run(runs, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let comparison = Comparison::of(scenario, &names, matrix, &objectives);
    let hash = comparison.hash().context("the comparison can't be put into JSON")?;
    Ok(match args.output {
        Output::Table => text::render(&comparison, &hash),
        Output::Json => {
            serde_json::to_string_pretty(&Printed { hash: &hash, comparison: &comparison })? + "\n"
        }
    })
}

fn grid(args: &Args, file: &Path) -> anyhow::Result<Grid> {
    let [base] = args.policy.as_slice() else {
        anyhow::bail!("a sweep varies one policy; give it as the only `--policy`");
    };
    let (base, text) = (read_text(base)?, read_text(file)?);
    let (grid, warnings) =
        sweep::grid::load(&file.display().to_string(), &text, &base, args.seed).map_err(refused)?;
    warn(warnings);
    Ok(grid)
}
