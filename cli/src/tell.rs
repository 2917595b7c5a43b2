//! What the commands have in common that say something to a running scheduler.

use std::process::ExitCode;

use serde_json::Value;

use crate::run;
use crate::service::{Of, Service, Who};
use crate::wiring::{Output, runtime};

/// Says something to the scheduler and prints what came of it: `done`, or `was` where it was so already.
pub fn say(
    of: &Of,
    path: &str,
    who: &Who,
    about: &[(&str, &str)],
    [done, was]: [&str; 2],
) -> anyhow::Result<ExitCode> {
    let service = Service::open(&of.config)?;
    let heard = runtime()?.block_on(service.say(path, &who.body(about)?))?;
    match of.output {
        Output::Json => run::say(&serde_json::to_string_pretty(&heard)?),
        Output::Table => {
            let changed = heard.get("changed").and_then(Value::as_bool).unwrap_or(false);
            run::say(if changed { done } else { was });
        }
    }
    Ok(ExitCode::SUCCESS)
}
