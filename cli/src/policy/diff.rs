//! `sterna policy diff`: what another policy would decide differently.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use sterna_core::compare::{Comparison, compare};
use sterna_core::difference;
use sterna_core::record::Recorded;
use sterna_daemon::control::Considered;
use sterna_policies::policy::Policy;

use crate::explain::{Which, recall};
use crate::run::{Opened, say};
use crate::wiring::{Output, runtime};
use crate::{exit, simulate};

/// Arguments of `sterna policy diff`.
///
/// Alone it tells what is written differently; with settings also what both decide now, with `--decision` what both decide on what
/// was seen then, and with `--scenario` how both fare on a described day. It changes nothing.
///
/// Exit codes: 0 they decide the same (without inputs: say the same), 2 they differ, 3 a file is invalid.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The older policy file.
    old: PathBuf,
    /// The newer policy file.
    new: PathBuf,
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Of several policies in the settings, the one in whose place both are tried. Left out: the one of their own name.
    #[arg(long, value_name = "NAME", requires = "config")]
    in_place_of: Option<String>,
    /// Decide on what was seen at this decision of the history; the numbers count from 1, `last` is the newest.
    #[arg(long, value_name = "N", requires = "config")]
    decision: Option<Which>,
    /// Try both on this scenario.
    #[arg(long, value_name = "FILE", conflicts_with = "decision")]
    scenario: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What is printed for programs.
#[derive(Serialize)]
struct Printed<'a> {
    /// Number of the decision whose inputs were taken.
    decision: Option<i64>,
    #[serde(flatten)]
    comparison: &'a Comparison,
    notes: &'a [String],
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (old, new) = (super::read(&args.old)?, super::read(&args.new)?);
    if let Some(scenario) = &args.scenario {
        let differs = simulate::side_by_side(scenario, old, new, args.output)?;
        return Ok(code(differs));
    }
    let Some(config) = &args.config else {
        let comparison = Comparison { fields: difference::between(&old, &new)?, decisions: None };
        return print(args.output, None, &comparison, &[]);
    };
    let opened = Opened::read(config)?;
    runtime()?.block_on(async {
        let (number, [old, new], notes) = match args.decision {
            Some(which) => {
                let (number, recorded) = recall(&opened.history_to_read()?, which, None).await?;
                let notes = unasked(&recorded.policy, [&old, &new]);
                (Some(number), [old, new].map(|policy| again(&recorded, policy)), notes)
            }
            None => {
                let (both, notes) = now(&opened, [old, new], args.in_place_of.as_deref()).await?;
                (None, both, notes)
            }
        };
        print(args.output, number, &compare(&old, &new)?, &notes)
    })
}

/// What is decided on recorded inputs.
pub fn again(recorded: &Recorded, mut policy: Policy) -> Recorded {
    // What others had then is not theirs.
    policy.select.others.clone_from(&recorded.policy.select.others);

    let Recorded { observation, history, now, seed, .. } = recorded.clone();
    Recorded::make(observation, policy, history, now, seed)
}

/// What nobody had asked for when the inputs were recorded.
pub fn unasked(then: &Policy, policies: [&Policy; 2]) -> Vec<String> {
    let new = |policy: &&Policy| {
        let unasked = policy.metrics.keys().filter(|metric| !then.metrics.contains_key(metric));
        unasked.map(|metric| (*metric, policy.name.clone())).collect::<Vec<_>>()
    };
    policies
        .iter()
        .flat_map(new)
        .map(|(metric, policy)| {
            format!("{policy}: {} was not asked for then, so it is not known here", metric.name())
        })
        .collect()
}

/// What both decide now: the agents are asked once, the metrics store by each policy's own queries.
async fn now(
    opened: &Opened,
    policies: [Policy; 2],
    replaced: Option<&str>,
) -> anyhow::Result<([Recorded; 2], Vec<String>)> {
    let looked = opened.look().await?;
    let mut without: Vec<String> = policies.iter().map(|policy| policy.name.clone()).collect();
    // The only one that there is makes place, and of several the one that is named.
    match (opened.policies(None)?.as_slice(), replaced) {
        ([only], None) => without.push(only.name.clone()),
        (_, Some(name)) => without.push(opened.policies(Some(name))?.remove(0).name),
        _ => {}
    }
    // With what the others have left to it.
    let beside = |policy: &Policy| opened.files.policies.beside(policy, &without, opened.continuum());
    let [old, new] = [beside(&policies[0])?, beside(&policies[1])?];
    let mut notes = Vec::new();
    let mut decide = async |policy: &Policy| -> anyhow::Result<Recorded> {
        let Considered { observed, recorded } = looked.consider(policy).await?;
        notes.extend(observed.notes.iter().map(|note| format!("{}: {note}", policy.name)));
        Ok(recorded)
    };
    let both = [decide(&old).await?, decide(&new).await?];
    Ok((both, notes))
}

fn print(
    output: Output,
    decision: Option<i64>,
    comparison: &Comparison,
    notes: &[String],
) -> anyhow::Result<ExitCode> {
    match output {
        Output::Table => {
            if let Some(number) = decision {
                say(&format!("on what was seen at decision {number}"));
            }
            say(comparison.to_string().trim_end());
            for note in notes {
                say(&format!("note: {note}"));
            }
        }
        Output::Json => say(&serde_json::to_string_pretty(&Printed { decision, comparison, notes })?),
    }
    Ok(code(comparison.differs()))
}

fn code(differs: bool) -> ExitCode {
    if differs { ExitCode::from(exit::CHANGES) } else { ExitCode::SUCCESS }
}
