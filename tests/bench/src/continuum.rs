//! Services between devices and clouds: how well, and how soon, they are placed where they cost least.
//!
//! | module | what lives there |
//! |---|---|
//! | [`generator`] | instances, as the assignment problem has them |
//! | [`sites`] | regions, sites, racks, nodes |
//! | [`applications`] | what runs on them |
//! | [`placement`] | where it runs at first |
//! | [`prices`] | what is known of costs and distances, and from where |

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use sterna_core::assignment::bound::least_within;
use sterna_core::checker::assignment::judge;

use crate::improve::{Curve, Effort, gap};
use crate::table::{progress, show, table};

mod applications;
mod generator;
mod placement;
mod prices;
mod sites;

/// How long to search if not said, in seconds.
const USUAL: f64 = 30.0;
/// How much work the bound may take: some minutes for the largest instances.
const BOUND: u64 = 1 << 34;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many items on how many bins, as 1000x100.
    #[arg(value_parser = size)]
    size: (usize, usize),
    #[command(flatten)]
    effort: Effort,
    /// Decides what the instance is.
    #[arg(long, default_value_t = 1)]
    instance: u64,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parsed =
        text.split_once('x').and_then(|(items, bins)| Some((items.parse().ok()?, bins.parse().ok()?)));
    match parsed {
        Some((items, bins)) if (1..=10_000_000).contains(&items) && (2..=1_000_000).contains(&bins) => {
            Ok((items, bins))
        }
        _ => Err("two numbers as 1000x100: items, and at least 2 bins".to_owned()),
    }
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    items: usize,
    bins: usize,
    instance: u64,
    threads: u32,
    seed: u64,
    seconds: f64,
    initial: i128,
    cost: i128,
    /// No assignment costs less.
    bound: i128,
    /// Seconds to find the bound.
    bounding: f64,
    /// By how much the cost is above the bound, in percent.
    gap: f64,
    /// By term, at first and at the end.
    terms: Vec<(&'static str, i128, i128)>,
    moved: u32,
    /// Bins that carry anything, at first and at the end.
    in_use: (usize, usize),
    holds: bool,
    proposals: u64,
    /// The most memory that was taken until the end of the search, in MiB.
    memory: Option<u64>,
    curve: Curve,
}

/// Generates, searches and prints.
///
/// # Errors
/// When the search and the judge don't agree, or a file can't be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (items, bins) = args.size;
    let model = generator::model(items, bins, args.instance);
    let initial = judge(&model, &model.now());
    anyhow::ensure!(initial.holds(), "an instance that is broken at first; this is a bug");
    progress(&format!(
        "{items} items on {bins} bins at {} sites, {} rules, cost {}",
        model.scopes[0].part.iter().max().map_or(0, |last| last + 1),
        model.rules.len(),
        initial.values[0],
    ));
    let start = Instant::now();
    let improved = args.effort.improve(&model, start, USUAL)?;
    let seconds = start.elapsed().as_secs_f64();
    let memory = most_memory();
    let start = Instant::now();
    let bound = least_within(&model, &model.objectives[0], BOUND);
    let bounding = start.elapsed().as_secs_f64();
    let judgement = &improved.judgement;
    let both = initial.terms[0].iter().zip(&judgement.terms[0]);
    let run = Run {
        items,
        bins,
        instance: args.instance,
        threads: args.effort.threads,
        seed: args.effort.seed,
        seconds,
        initial: initial.values[0],
        cost: judgement.values[0],
        bound,
        bounding,
        gap: gap(judgement.values[0], bound),
        terms: generator::TERMS
            .into_iter()
            .zip(both)
            .map(|(name, (then, now))| (name, *then, *now))
            .collect(),
        moved: judgement.moved,
        in_use: (in_use(&model.now()), in_use(&improved.at)),
        holds: judgement.holds(),
        proposals: improved.proposals,
        memory,
        curve: improved.curve,
    };
    print(&run);
    crate::results::write(args.out.as_deref(), &run)
}

fn in_use(at: &[u32]) -> usize {
    at.iter().collect::<BTreeSet<_>>().len()
}

/// The most memory that this process has taken, in MiB.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn print(run: &Run) {
    let row = |name: &str, then: Option<i128>, now: i128| {
        [name.to_owned(), then.map_or_else(String::new, dollars), dollars(now)]
    };
    let mut rows: Vec<_> = run.terms.iter().map(|(name, then, now)| row(name, Some(*then), *now)).collect();
    rows.push(row("together", Some(run.initial), run.cost));
    rows.push(row("at least", None, run.bound));
    show(&table(["dollars per hour", "at first", "found"], rows));
    show(&format!(
        "{}x{}: {:.1} % less than at first, at most {:.2} % above what is possible; first better after {}; {} moved, {} bins in use \
         where {} were, {:.1} s, {:.1} \
         million proposals, {} MiB; {:.1} s for the bound; {}",
        run.items,
        run.bins,
        100.0 * (run.initial - run.cost) as f64 / run.initial.max(1) as f64,
        run.gap,
        run.curve.first.map_or_else(|| "no time".to_owned(), |first| format!("{:.0} ms", first * 1e3)),
        run.moved,
        run.in_use.1,
        run.in_use.0,
        run.seconds,
        run.proposals as f64 / 1e6,
        run.memory.map_or_else(|| "?".to_owned(), |memory| memory.to_string()),
        run.bounding,
        if run.holds { "every rule holds" } else { "RULES ARE BROKEN" },
    ));
}

fn dollars(micros: i128) -> String {
    format!("{:.2}", micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_items_and_bins() {
        assert_eq!(size("1000x100"), Ok((1000, 100)));
        for wrong in ["1000", "x", "1000x", "1000x1", "0x10", "1x2x3", "-1x5"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_is_known_on_linux() {
        assert!(most_memory().is_some_and(|memory| memory > 0));
    }
}
