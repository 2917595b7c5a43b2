//! `sterna cancel`: have a migration undone that is under way.

use std::process::ExitCode;

use anyhow::bail;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::fleet::Fleet;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::report::Outcome;

use crate::migrate::print;
use crate::wiring::{self, Of};

/// Arguments of `sterna cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service, or the id of the migration.
    what: String,
    /// Why; it stands in the report.
    #[arg(long, default_value = "by hand")]
    why: String,
    #[command(flatten)]
    of: Of,
}

/// Runs the command: exit code 0 when the service stays where it was.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&args.of.inventory)?;
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &args.of.state.authority(&continuum)?).await?;
        let (id, from, to) = find(&fleet, &args.what).await?;
        fleet.cancel(id, &from, &args.why).await?;
        let report = fleet.follow(id, &from, &to, &mut |_| ()).await?;
        print(&report, args.of.output)?;
        Ok(match report.outcome {
            Outcome::Moved => ExitCode::FAILURE,
            Outcome::RolledBack { .. } | Outcome::Refused { .. } => ExitCode::SUCCESS,
        })
    })
}

/// The migration under way that is meant, with the nodes that it leaves and goes to.
async fn find(fleet: &Fleet, what: &str) -> anyhow::Result<(MigrationId, NodeName, NodeName)> {
    let mut silent = Vec::new();
    for (node, _) in fleet.agents() {
        match fleet.standings(node).await {
            Ok(standings) => {
                let meant = standings.into_iter().rev().find(|one| {
                    let named = one.order.service == ServiceName::from(what.to_owned());
                    one.report.is_none() && (named || one.order.id.to_string() == what)
                });
                if let Some(meant) = meant {
                    return Ok((meant.order.id, meant.order.from, meant.order.to));
                }
            }
            Err(error) => silent.push(error.to_string()),
        }
    }
    let silent =
        if silent.is_empty() { String::new() } else { format!("; not asked: {}", silent.join("; ")) };
    bail!("no migration of `{what}` is under way, nor one with that id{silent}")
}
