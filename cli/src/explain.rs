//! `sterna explain`: one service, every node, and what speaks for and against it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;
use sterna_core::continuum::ServiceName;
use sterna_core::explain::service::{Explained, service};
use sterna_core::record::Recorded;
use sterna_daemon::control::Considered;
use sterna_daemon::history::HistoryStore;

use crate::run::{Opened, say};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna explain`.
///
/// Tells of every node what the service would come to there (ms, USD/h, W, g/h), whether that is measured or modelled, the rule
/// that excludes the node, and what holds the move. It looks now, or with `--decision` at what was decided then; it changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service.
    service: String,
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Explain this decision of the history; the numbers count from 1, `last` is the newest.
    #[arg(long, value_name = "N")]
    decision: Option<Which>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// A decision of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The one of this number.
    Number(i64),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("last", _) => Ok(Self::Last),
            (_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
            _ => Err("it is a number from 1, or `last`".to_owned()),
        }
    }
}

/// What is printed for programs.
#[derive(Serialize)]
struct Printed {
    /// Number of the decision in the history; none of one that was made now.
    decision: Option<i64>,
    #[serde(flatten)]
    explained: Explained,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(explain(args))
}

async fn explain(args: Args) -> anyhow::Result<ExitCode> {
    let opened = Opened::read(&args.config)?;
    let (decision, recorded, notes) = match args.decision {
        Some(which) => {
            let has = opened.policy_of(&args.service)?.name;
            let (number, recorded) = recall(&opened.history_to_read()?, which, Some(&has)).await?;
            (Some(number), recorded, Vec::new())
        }
        None => {
            let Considered { observed, recorded } =
                opened.look().await?.consider(&opened.policy_of(&args.service)?).await?;
            (None, recorded, observed.notes)
        }
    };
    let explained = service(&recorded, &ServiceName::from(args.service))?;
    match args.output {
        Output::Table => {
            if let Some(number) = decision {
                say(&format!("decision {number}, made {}", explained.at));
            }
            say(explained.to_string().trim_end());
            for note in notes {
                say(&format!("note: {note}"));
            }
        }
        Output::Json => say(&serde_json::to_string_pretty(&Printed { decision, explained })?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A decision of the history, with its number; the newest is that of a policy, where one is named and has decided lately.
pub async fn recall(
    history: &HistoryStore,
    which: Which,
    policy: Option<&str>,
) -> anyhow::Result<(i64, Recorded)> {
    if let (Which::Last, Some(policy)) = (which, policy) {
        for number in history.newest_of_each_policy(jiff::Timestamp::now()).await? {
            if let Some(recorded) = history.decision(number).await?.filter(|one| one.policy.name == policy) {
                return Ok((number, recorded));
            }
        }
    }
    let newest = history.newest_decision().await?;
    let number = match (which, newest) {
        (_, None) => bail!("the history {} has no decision yet", history.path().display()),
        (Which::Last, Some(newest)) => newest,
        (Which::Number(number), Some(_)) => number,
    };
    match (history.decision(number).await?, newest) {
        (Some(recorded), _) => Ok((number, recorded)),
        (None, newest) => bail!(
            "the history {} has no decision {number}; the newest is {}",
            history.path().display(),
            newest.unwrap_or_default()
        ),
    }
}
