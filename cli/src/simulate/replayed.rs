//! `sterna simulate --replay HISTORY`: what other policies would have done with what was really observed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;
use sterna_core::history::Outcome;
use sterna_daemon::history::{FILE, HistoryStore};
use sterna_policies::policy::{Mode, Policy};
use sterna_simulator::replay::Replay;
use sterna_simulator::replay::report::{Compared, Totals};
use sterna_simulator::report::words::{outcome_word, span};

use super::text::new_table;
use crate::run::say;
use crate::service::time;
use crate::wiring::{Output, runtime};

/// What is replayed.
#[derive(Debug, clap::Args)]
pub struct Recorded {
    /// Instead of a scenario: what a scheduler observed and decided, from its history (the file, or the folder that it lies in).
    #[arg(long, value_name = "HISTORY", conflicts_with_all = ["scenario", "seed", "seeds", "sweep", "timeline", "html", "csv", "allow_unused"])]
    pub replay: Option<std::path::PathBuf>,
    /// The policy in the history whose looks are replayed, where several have decided.
    #[arg(long, value_name = "NAME", requires = "replay")]
    of: Option<String>,
    /// From when on: a span such as `7d`, or an instant [default: from the beginning].
    #[arg(long, value_name = "TIME", value_parser = crate::service::since, requires = "replay")]
    since: Option<Timestamp>,
}

#[derive(Serialize)]
struct Printed<'a> {
    of: &'a str,
    policies: &'a [Compared],
}

/// Replays a history under each policy, and prints what came of it.
pub fn run(
    recorded: &Recorded,
    path: &Path,
    policies: Vec<Policy>,
    output: Output,
    bar: &ProgressBar,
) -> anyhow::Result<ExitCode> {
    let since = recorded.since.unwrap_or(Timestamp::MIN);
    let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
    let (of, compared) = runtime()?.block_on(async {
        let history = HistoryStore::read_file(file.clone())?
            .with_context(|| format!("there is no history {}", file.display()))?;
        let deciders = history.deciders(since).await?;
        let names = || deciders.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (of, looks) = match (&recorded.of, deciders.as_slice()) {
            (_, []) => bail!("nothing has been decided in that time, by {}", file.display()),
            (None, [one]) => one.clone(),
            (None, _) => bail!("{} have decided in that time; say which one is replayed: --of NAME", names()),
            (Some(of), all) => all
                .iter()
                .find(|(name, _)| name == of)
                .with_context(|| format!("`{of}` has decided nothing in that time; there is {}", names()))?
                .clone(),
        };
        bar.set_length(looks);
        bar.set_message(of.clone());
        let replays: Vec<Replay> = policies.into_iter().map(Replay::new).collect();
        let told = bar.clone();
        let replays = history
            .each_of(&of, since, replays, move |replays, recorded| {
                replays.iter_mut().for_each(|replay| replay.look(&recorded));
                told.inc(1);
            })
            .await?;
        bar.finish_and_clear();
        anyhow::Ok((of, replays.into_iter().map(Replay::finish).collect::<Vec<_>>()))
    })?;
    match output {
        Output::Json => say(&serde_json::to_string_pretty(&Printed { of: &of, policies: &compared })?),
        Output::Table => say(text(&of, &compared).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(of: &str, all: &[Compared]) -> String {
    let mut out = String::new();
    for one in all {
        if !out.is_empty() {
            out.push('\n');
        }
        let (Some(first), Some(last)) = (one.first, one.last) else { continue };
        let _infallible = writeln!(
            out,
            "Looks of `{of}` from {} to {}, as {}{} would have decided",
            time(first),
            time(last),
            one.policy,
            match one.mode {
                Mode::Off => " (mode off: nothing may move)",
                Mode::Auto => "",
                Mode::Observe | Mode::Recommend | Mode::Approve => " (as if its mode were auto)",
            },
        );
        let _infallible = writeln!(
            out,
            "  {} looks: {} decided as recorded, byte for byte; {} wanted to move something",
            one.looks, one.alike, one.wanted
        );
        match one.apart {
            None => out.push_str("  It would have done what was done.\n"),
            Some(at) => {
                let _infallible = writeln!(
                    out,
                    "  It would have done otherwise from {} on; from then on moves go as predicted, and power and\n  processor use follow the inventory's lines.",
                    time(at)
                );
            }
        }
        if one.not_known > sterna_policies::quantity::Millis::ZERO {
            let _infallible = writeln!(
                out,
                "  {} in which nobody looked do not count; {} do.",
                span(one.not_known),
                span(one.counted)
            );
        }
        if !one.moves.is_empty() {
            let mut table = new_table(&["time (UTC)", "service", "from → to", "downtime", "ended"]);
            for made in &one.moves {
                table.add_row([
                    time(made.began),
                    made.service.to_string(),
                    format!("{} → {}", made.from, made.to),
                    made.outcome.map(|_| span(made.downtime)).unwrap_or_default(),
                    made.outcome
                        .map_or("recording ended first", |outcome: Outcome| outcome_word(outcome))
                        .to_owned(),
                ]);
            }
            let _infallible = writeln!(out, "{}", table.trim_fmt());
        }
        let mut sums = new_table(&["", "as it was", &one.policy]);
        type Row = (&'static str, fn(&Totals) -> String);
        let rows: [Row; 6] = [
            ("user latency, mean", |it| {
                it.user_latency_mean.map_or("unknown".to_owned(), |it| format!("{it:.2}"))
            }),
            ("cost", |it| format!("{:.4}", it.cost)),
            ("energy", |it| format!("{:.3}", it.energy)),
            ("carbon", |it| it.carbon.map_or("unknown".to_owned(), |it| format!("{it:.2}"))),
            ("migrations", |it| it.moves.to_string()),
            ("downtime", |it| span(it.downtime)),
        ];
        for (name, value) in rows {
            sums.add_row([name.to_owned(), value(&one.was), value(&one.with)]);
        }
        let _infallible = writeln!(out, "{}", sums.trim_fmt());
    }
    out
}
