//! `sterna history`: decisions and migrations of the past.

use std::process::ExitCode;

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;
use sterna_core::compare::compare;
use sterna_core::explain;
use sterna_core::record::Recorded;
use sterna_daemon::history::approval::Proposal;
use sterna_daemon::history::list::{DecisionLine, MigrationLine};
use sterna_policies::policy::Policy;
use sterna_policies::quantity::{Bytes, Millis};

use crate::policy::diff;
use crate::run::say;
use crate::service::{Of, Service, since, time};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One decision, in full.
    #[arg(value_name = "NUMBER", conflicts_with_all = ["since", "all", "limit"])]
    decision: Option<i64>,
    /// How far to look back: a span such as `7d`, or an instant.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = since)]
    since: jiff::Timestamp,
    /// Also decisions by which nothing was to be moved.
    #[arg(long)]
    all: bool,
    /// At most so many decisions and so many migrations, the newest.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Serialize)]
struct Past {
    decisions: Vec<DecisionLine>,
    approvals: Vec<Proposal>,
    migrations: Vec<MigrationLine>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let service = Service::open(&args.of.config)?;
    runtime()?.block_on(async {
        let history = service.history()?;
        if let Some(number) = args.decision {
            let recorded = history.decision(number).await?;
            let recorded = recorded.with_context(|| {
                format!("there is no decision {number}; `sterna history --all` lists them")
            })?;
            match args.of.output {
                Output::Json => say(&serde_json::to_string_pretty(&recorded)?),
                Output::Table => {
                    say(&format!("decision {number} at {}", time(recorded.now)));
                    say(explain::text(&recorded.decision).trim_end());
                    // One that a newer or older program wrote is no reason to show nothing.
                    let before = match history.before(number, &recorded.policy.name).await? {
                        Some(before) => history.decision(before).await.ok().flatten(),
                        None => None,
                    };
                    let before = before.map(|before| before.policy);
                    if let Some(before) = before.filter(|before| *before != recorded.policy) {
                        say(&format!("\n{}", against(before, &recorded)?.trim_end()));
                    }
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut approvals = history.proposals(args.limit).await?;
        approvals.retain(|one| one.at >= args.since);
        let past = Past {
            decisions: history.decisions(args.since, !args.all, args.limit).await?,
            approvals,
            migrations: history.migrations(args.since, args.limit).await?,
        };
        match args.of.output {
            Output::Json => say(&serde_json::to_string_pretty(&past)?),
            Output::Table => say(text(&past).trim_end()),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What the policy of the decision before would have decided on the same.
fn against(before: Policy, recorded: &Recorded) -> anyhow::Result<String> {
    let notes = diff::unasked(&recorded.policy, [&before, &recorded.policy]);
    let comparison = compare(&diff::again(recorded, before), recorded)?;
    let mut text = format!("the first decision by another policy than the one before it; {comparison}");
    notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    Ok(text)
}

/// What became of a plan that was put up, and who has approved it.
fn stands(put_up: &Proposal) -> String {
    let Some(last) = put_up.steps.last() else { return "waits for approval".to_owned() };
    let by = put_up.steps.iter().rev().find_map(|step| Some((step.step, step.by.as_ref()?)));
    let by = by.map(|(step, by)| format!("{} by {by}", step.name()));
    match by {
        Some(by) if last.by.is_some() => by,
        Some(by) => format!("{}, {by}", last.step.name()),
        None => last.step.name().to_owned(),
    }
}

fn text(past: &Past) -> String {
    let mut parts = Vec::new();
    if past.decisions.is_empty() {
        parts.push(
            "no decisions to be shown (`--all` also shows those by which nothing was to be moved)".to_owned(),
        );
    } else {
        let mut table = Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY)
            .set_header(["decision", "at (UTC)", "mode", "verdict", "moves", ""]);
        for one in &past.decisions {
            let approval = past.approvals.iter().find(|put_up| put_up.id == one.id).map(stands);
            table.add_row([
                one.id.to_string(),
                time(one.at),
                one.mode.clone(),
                one.verdict.clone(),
                one.moves.to_string(),
                approval.unwrap_or_default(),
            ]);
        }
        parts.push(table.to_string());
    }
    if past.migrations.is_empty() {
        parts.push("no migrations".to_owned());
    } else {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
            "ordered (UTC)",
            "decision",
            "service",
            "from",
            "to",
            "outcome",
            "downtime",
            "took",
            "sent",
        ]);
        for one in &past.migrations {
            let end = one.end.as_ref();
            let measured = end.map(|end| end.measured);
            table.add_row([
                time(one.ordered),
                one.decision.map_or_else(|| "by hand".to_owned(), |id| id.to_string()),
                one.service.clone(),
                one.from.clone(),
                one.to.clone(),
                end.map_or_else(|| "not known yet".to_owned(), |end| end.outcome.clone()),
                of_time(measured.and_then(|cost| cost.downtime)),
                of_time(measured.and_then(|cost| cost.duration)),
                of_bytes(measured.and_then(|cost| cost.bytes)),
            ]);
        }
        parts.push(table.to_string());
    }
    parts.join("\n\n")
}

/// A time, or a dash where it is not known.
pub fn of_time(time: Option<Millis>) -> String {
    match time {
        Some(time) if time.as_f64() >= 1000.0 => format!("{:.2}s", time.as_f64() / 1e3),
        Some(time) => format!("{time:.0}"),
        None => "-".to_owned(),
    }
}

/// A size, or a dash where it is not known.
pub fn of_bytes(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())
}
