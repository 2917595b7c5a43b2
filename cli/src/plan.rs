//! `sterna plan`: decide once, print, change nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
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
/// Of several policies each decides for the services that it has.
///
/// Exit codes: 0 nothing to do, 1 no decision could be made, 2 there are moves, 3 a file is invalid, 4 metrics do not suffice.
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
    /// Of several policies only this one.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
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
    let policies = opened.policies(args.policy.as_deref())?;
    if args.out.is_some() && policies.len() > 1 {
        let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
        bail!("a file keeps the plan of one policy; say which with --policy: {}", names.join(", "));
    }
    let looked = opened.look().await?;
    let mut all = Vec::new();
    for policy in &policies {
        all.push(looked.consider(policy).await?);
    }
    if !args.why.is_empty() {
        return why_not(&args, &opened, &all);
    }
    if let (Some(path), [one]) = (&args.out, all.as_slice()) {
        let text = SavedPlan::of(one.recorded.clone()).text()?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    match args.output {
        Output::Table => all.iter().for_each(|one| say(&text(one, all.len() > 1))),
        Output::Json => {
            for note in all.iter().flat_map(|one| &one.observed.notes) {
                tracing::info!("{note}");
            }
            let decisions: Vec<&Decision> = all.iter().map(|one| &one.recorded.decision).collect();
            let of = |one: &Considered| (one.recorded.policy.name.clone(), one.recorded.decision.clone());
            say(&match decisions.as_slice() {
                [one] => serde_json::to_string_pretty(one)?,
                _ => serde_json::to_string_pretty(&all.iter().map(of).collect::<BTreeMap<_, _>>())?,
            });
        }
    }
    Ok(code(all.iter().map(|one| &one.recorded.decision)).into())
}

/// A decision and its notes, under the policy's name where there are several.
fn text(one: &Considered, several: bool) -> String {
    let Considered { observed, recorded } = one;
    let mut lines = Vec::new();
    if several {
        lines.push(format!("{}:", recorded.policy.name));
    }
    lines.push(explain::text(&recorded.decision).trim_end().to_owned());
    lines.extend(observed.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

fn why_not(args: &Args, opened: &Opened, all: &[Considered]) -> anyhow::Result<ExitCode> {
    let mut answers = Vec::new();
    for (service, node) in &args.why {
        let has = opened.policy_of(service.as_str())?;
        let considered = all.iter().find(|one| one.recorded.policy.name == has.name);
        let Considered { recorded, .. } = considered
            .with_context(|| format!("`{service}` is the policy `{}`'s, which was not asked", has.name))?;
        answers.push(why::not(&recorded.observation, &recorded.policy, &recorded.decision, service, node)?);
    }
    match args.output {
        Output::Table => {
            let lines: Vec<String> = answers.iter().map(ToString::to_string).collect();
            say(lines.join("\n").trim_end());
        }
        Output::Json => say(&serde_json::to_string_pretty(&answers)?),
    }
    Ok(code(all.iter().map(|one| &one.recorded.decision)).into())
}

/// What is most worth knowing of all decisions: that one could not be made, that there are moves, else that metrics don't suffice.
fn code<'d>(decisions: impl Iterator<Item = &'d Decision>) -> u8 {
    let fails = |hold: &Hold| matches!(hold, Hold::Solver { .. } | Hold::Checker { .. });
    let code = |decision: &Decision| match &decision.report.verdict {
        Verdict::Move => exit::CHANGES,
        Verdict::Held { by } if by.iter().any(fails) => exit::ERROR,
        Verdict::Held { by } if by.iter().any(|hold| matches!(hold, Hold::MetricsMissing { .. })) => {
            exit::METRICS
        }
        Verdict::Stay | Verdict::Held { .. } => 0,
    };
    let codes: Vec<u8> = decisions.map(code).collect();
    let first = [exit::ERROR, exit::CHANGES, exit::METRICS].into_iter().find(|code| codes.contains(code));
    first.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(verdict: Verdict) -> Decision {
        let report = sterna_core::report::Report {
            policy: "p".to_owned(),
            verdict,
            services: Vec::new(),
            solver: None,
            makespan: None,
            unknown: Vec::new(),
        };
        Decision { plan: Default::default(), report, standing: Default::default() }
    }

    #[test]
    fn what_could_not_be_decided_is_an_error() {
        let held = |hold: Hold| decided(Verdict::Held { by: vec![hold] });
        let solver = held(Hold::Solver { message: "no answer".to_owned() });
        let checker = held(Hold::Checker { finding: "too full".to_owned() });
        let (stay, moves) = (decided(Verdict::Stay), decided(Verdict::Move));
        assert_eq!(code([&stay].into_iter()), 0);
        assert_eq!(code([&stay, &moves].into_iter()), exit::CHANGES);
        for failed in [&solver, &checker] {
            assert_eq!(code([&stay, &moves, failed].into_iter()), exit::ERROR);
        }
        assert_eq!(code([&held(Hold::UnderWay)].into_iter()), 0);
    }
}
