//! `sterna plan`: decide once, print, change nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_core::report::{Decision, Hold, Verdict};
use sterna_core::saved::SavedPlan;
use sterna_core::{explain, why};
use sterna_daemon::control::Considered;

use crate::exit;
use crate::run::{Opened, say};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna plan`.
///
/// Exit codes: 0 nothing to do, 2 there are moves, 3 a file is invalid, 4 metrics do not suffice.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How to print the decision.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Say only why a service is not on a node, as often as you like.
    #[arg(long, value_name = "SERVICE=NODE", value_parser = question)]
    why: Vec<(ServiceName, NodeName)>,
    /// Write the plan to this file, as JSON, with all that it was made from; `sterna apply` carries it out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn question(text: &str) -> Result<(ServiceName, NodeName), String> {
    match text.split_once('=') {
        Some((service, node)) if !service.is_empty() && !node.is_empty() => Ok((service.into(), node.into())),
        _ => Err("it is a service, `=` and a node, such as redis=edge-1".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(plan(args))
}

async fn plan(args: Args) -> anyhow::Result<ExitCode> {
    let opened = Opened::read(&args.config)?;
    let Considered { observed, recorded } = opened.look().await?.consider(opened.policy()).await?;
    let answers = args
        .why
        .iter()
        .map(|(service, node)| {
            why::not(&recorded.observation, &recorded.policy, &recorded.decision, service, node)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let decision = recorded.decision.clone();
    if let Some(path) = &args.out {
        let text = SavedPlan::of(recorded).text()?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    match args.output {
        Output::Table if !answers.is_empty() => {
            let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
            say(answers.join("\n").trim_end());
        }
        Output::Json if !answers.is_empty() => say(&serde_json::to_string_pretty(&answers)?),
        Output::Table => {
            say(explain::text(&decision).trim_end());
            for note in &observed.notes {
                say(&format!("note: {note}"));
            }
        }
        Output::Json => {
            say(&serde_json::to_string_pretty(&decision)?);
            for note in &observed.notes {
                tracing::info!("{note}");
            }
        }
    }
    Ok(code(&decision))
}

fn code(decision: &Decision) -> ExitCode {
    match &decision.report.verdict {
        Verdict::Move => ExitCode::from(exit::CHANGES),
        Verdict::Held { by } if by.iter().any(|hold| matches!(hold, Hold::MetricsMissing { .. })) => {
            ExitCode::from(exit::METRICS)
        }
        Verdict::Stay | Verdict::Held { .. } => ExitCode::SUCCESS,
    }
}
