//! `sterna fence`: tell the other nodes that a node is gone for good, so that they run what they hold of its services.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::fleet::{Fenced, Fleet};

use crate::wiring::{self, Of, Output};

/// Arguments of `sterna fence`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A node that is fenced must never run its services again: destroy it, or make sure that it stays off until its state is \
removed. Sterna refuses to fence a node whose agent still answers.")]
pub struct Args {
    /// The node that is gone.
    node: String,
    /// Who says so; kept with the certificate.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// How they know; kept with the certificate.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Serialize)]
struct Line {
    service: ServiceName,
    node: NodeName,
    result: Fenced,
}

/// Runs the command: exit code 0 when everything that was held runs, 1 when something that was on its way is lost.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&args.of.inventory)?;
    let gone = NodeName::from(args.node.clone());
    if !continuum.nodes.contains_key(&gone) {
        bail!("the inventory has no node `{gone}`");
    }
    if args.by.trim().is_empty() || args.reason.trim().is_empty() {
        bail!("--by and --reason must say something: they are kept as the grounds");
    }
    wiring::runtime()?.block_on(async {
        let authority = args.of.state.authority(&continuum)?;
        let fleet = Fleet::connect(&continuum, &authority).await?;
        if let Ok(agent) = fleet.agent(&gone)
            && agent.facts().await.is_ok()
        {
            bail!("the agent of `{gone}` answers: it is not gone. Stop the node for good first");
        }
        let found = fleet.fence(&gone, &args.by, &args.reason).await;
        let found = found.context("not everything could be asked; try again")?;
        let lines: Vec<Line> =
            found.into_iter().map(|(service, node, result)| Line { service, node, result }).collect();
        print(&gone, &lines, args.of.output)?;
        let lost = lines.iter().any(|line| line.result != Fenced::Runs);
        Ok(if lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(gone: &NodeName, lines: &[Line], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(lines)?);
    } else if lines.is_empty() {
        println!("nothing was on its way from `{gone}`");
    } else {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["service", "node", "result"]);
        for line in lines {
            table.add_row([line.service.to_string(), line.node.to_string(), line.result.to_string()]);
        }
        println!("{table}");
    }
    Ok(())
}
