//! `sterna approve`: show the plan that waits, or approve it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use sterna_core::explain;

use crate::exit;
use crate::run::say;
use crate::service::{Of, Service, Who, time};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a number it shows the plan that waits, and ends with 2 where there is one. With a number it has that very plan carried \
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
    let waits = history.open_proposal().await?;
    let Some(waits) = waits.filter(|one| one.expires > jiff::Timestamp::now()) else {
        say(if output == Output::Json { "null" } else { "no plan waits for approval" });
        return Ok(ExitCode::SUCCESS);
    };
    let Some(recorded) = history.decision(waits.id).await? else {
        bail!("decision {} is not in the history", waits.id);
    };
    match output {
        Output::Json => {
            let waiting = sterna_daemon::api::view::Waiting::new(waits, &recorded.decision, Vec::new());
            say(&serde_json::to_string_pretty(&waiting)?);
        }
        Output::Table => {
            say(explain::text(&recorded.decision).trim_end());
            let (at, until) = (time(waits.at), time(waits.expires));
            match waits.steps.first().and_then(|step| step.by.as_ref()) {
                Some(by) => {
                    say(&format!("\nplan {} was approved by {by} and begins with the next look", waits.id))
                }
                None => say(&format!(
                    "\nplan {} was made at {at} UTC and waits until {until}; approve it with `sterna approve {}`",
                    waits.id, waits.id
                )),
            }
        }
    }
    Ok(ExitCode::from(exit::CHANGES))
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
