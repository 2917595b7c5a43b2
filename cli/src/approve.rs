//! `sterna approve`: show the plan that waits, or approve it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use sterna_core::explain;
use sterna_core::report::Decision;
use sterna_daemon::api::view::Waiting;
use sterna_daemon::history::approval::Proposal;

use crate::exit;
use crate::run::say;
use crate::service::{Of, Service, Who, time};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a number it shows the plans that wait, and ends with 2 where there is one. With a number it has that very plan carried \
out, if the services and nodes are still as they were when it was made, and says what changed where they are not.")]
pub struct Args {
    /// The number of the plan, as it was shown.
    #[arg(value_name = "NUMBER")]
    id: Option<i64>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    of: Of,
}

/// How long to wait for the scheduler to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let service = Service::open(&args.of.config)?;
    runtime()?.block_on(async {
        match args.id {
            None => show(&service, args.of.output).await,
            Some(id) => approve(&service, id, &args).await,
        }
    })
}

async fn show(service: &Service, output: Output) -> anyhow::Result<ExitCode> {
    let history = service.history()?;
    let mut plans = history.open_proposals().await?;
    plans.retain(|one| one.expires > jiff::Timestamp::now());
    let mut waiting = Vec::new();
    for plan in plans {
        let Some(recorded) = history.decision(plan.id).await? else {
            bail!("decision {} is not in the history", plan.id);
        };
        waiting.push((plan, recorded.decision));
    }
    let code = if waiting.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::CHANGES) };
    if output == Output::Json {
        let view = |(plan, decision): (Proposal, Decision)| Waiting::new(plan, &decision, Vec::new());
        say(&serde_json::to_string_pretty(&waiting.into_iter().map(view).collect::<Vec<_>>())?);
        return Ok(code);
    }
    if waiting.is_empty() {
        say("no plan waits for approval");
    }
    for (plan, decision) in waiting {
        say(explain::text(&decision).trim_end());
        let (at, until) = (time(plan.at), time(plan.expires));
        let Proposal { id, policy, .. } = &plan;
        match plan.steps.first().and_then(|step| step.by.as_ref()) {
            Some(by) => say(&format!("\nplan {id} was approved by {by} and begins with the next look")),
            None => say(&format!(
                "\nplan {id} of the policy {policy} was made at {at} UTC and waits until {until}; approve it with \
                 `sterna approve {id}`"
            )),
        }
    }
    Ok(code)
}

async fn approve(service: &Service, id: i64, args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/approvals/{id}");
    let mut waiting = service.say(&path, &args.who.body(&[])?).await?;
    let began = tokio::time::Instant::now();
    // What it comes to is known once the scheduler has looked.
    while last(&waiting) == "approved" && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if let Some(newer) = service.ask(&path).await? {
            waiting = newer;
        }
    }
    if args.of.output == Output::Json {
        say(&serde_json::to_string_pretty(&waiting)?);
    }
    match last(&waiting) {
        "begun" if args.of.output == Output::Table => {
            say(&format!("plan {id} is being carried out; `sterna history` shows what comes of it"));
        }
        "approved" if args.of.output == Output::Table => {
            say(&format!("plan {id} is approved; it begins when the scheduler has done what it does now"));
        }
        "begun" | "approved" => {}
        other => bail!("plan {id} is {other}: {}", note(&waiting)),
    }
    Ok(ExitCode::SUCCESS)
}

fn last(waiting: &Value) -> &str {
    let step = waiting["steps"].as_array().and_then(|steps| steps.last());
    step.and_then(|step| step["step"].as_str()).unwrap_or("waiting")
}

fn note(waiting: &Value) -> &str {
    let step = waiting["steps"].as_array().and_then(|steps| steps.last());
    step.and_then(|step| step["note"].as_str()).unwrap_or("no reason is given")
}
