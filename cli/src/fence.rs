//! `sterna fence`: tell the other nodes that a node is gone for good, so that they run what they hold of its services.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use sterna_daemon::control::ending::REMEMBERED;
use sterna_daemon::history::HistoryStore;
use sterna_executor::fleet::{Fenced, Fleet};
use sterna_executor::migration::pod_end::PodEnd;
use sterna_executor::migration::promotion::{Verdict, candidates};
use sterna_executor::platform::kubernetes::node::watching;

use crate::wiring::{self, Of, Output};

/// Arguments of `sterna fence`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A node that is fenced must never run its services again: destroy it, or make sure that it stays off until its state is \
removed. Sterna refuses to fence a node whose agent still answers. A node that is a pod of Kubernetes, and that a scheduler has \
seen end, needs nobody's word: leave --by and --reason out.")]
pub struct Args {
    /// The node that is gone.
    node: String,
    /// Who says so; kept with the certificate.
    #[arg(long, value_name = "NAME", requires = "reason")]
    by: Option<String>,
    /// How they know; kept with the certificate.
    #[arg(long, value_name = "TEXT", requires = "by")]
    reason: Option<String>,
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Serialize)]
struct Line {
    service: ServiceName,
    node: NodeName,
    result: Came,
    /// The result in words.
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Came {
    Runs,
    Incomplete,
    /// Not without somebody's word.
    NotSure,
}

impl Line {
    fn new(service: ServiceName, node: NodeName, came: Fenced) -> Self {
        let result = match came {
            Fenced::Runs => Came::Runs,
            Fenced::Incomplete => Came::Incomplete,
        };
        Self { service, node, result, said: came.to_string() }
    }
}

/// Runs the command: exit code 0 when everything that was held runs, 1 when something that was on its way is lost.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&args.of.inventory)?;
    let gone = NodeName::from(args.node.clone());
    if !continuum.nodes.contains_key(&gone) {
        bail!("the inventory has no node `{gone}`");
    }
    let said = args.by.as_ref().zip(args.reason.as_ref());
    if said.is_some_and(|(by, reason)| by.trim().is_empty() || reason.trim().is_empty()) {
        bail!("--by and --reason must say something: they are kept as the grounds");
    }
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &args.of.state.authority(&continuum)?).await?;
        if let Ok(agent) = fleet.agent(&gone)
            && agent.facts().await.is_ok()
        {
            bail!("the agent of `{gone}` answers: it is not gone. Stop the node for good first");
        }
        let lines = match said {
            Some((by, reason)) => {
                let found = fleet.fence(&gone, by, reason).await;
                let found = found.context("not everything could be asked; try again")?;
                found.into_iter().map(|(service, node, came)| Line::new(service, node, came)).collect()
            }
            None => by_proof(&fleet, &continuum, &args.of.state.folder(&continuum)?, &gone).await?,
        };
        print(&gone, &lines, args.of.output)?;
        let lost = lines.iter().any(|line| line.result != Came::Runs);
        Ok(if lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// Has run what is held of services that left pods of that node which a scheduler has seen end.
async fn by_proof(
    fleet: &Fleet,
    continuum: &Continuum,
    state: &Path,
    gone: &NodeName,
) -> anyhow::Result<Vec<Line>> {
    let since = Timestamp::now().checked_sub(REMEMBERED)?;
    let (ends, undone) = match HistoryStore::read(state)? {
        Some(history) => (history.pod_ends(since).await?, history.undone_since(since).await?),
        None => Default::default(),
    };
    let ends: Vec<PodEnd> = ends.into_iter().filter(|end| end.node == *gone).collect();
    if ends.is_empty() {
        bail!(
            "nothing proves that `{gone}` is gone: no scheduler has seen a pod of it end. If you know that it is, say who you are and \
             how you know with --by and --reason"
        );
    }
    let told = fleet.told(&watching::empty(continuum, &ends).await).await;
    let mut lines = Vec::new();
    for one in candidates(&told, &ends, &undone.into_iter().collect()) {
        let (service, node) = (one.arriving.order.service.clone(), one.holder.clone());
        lines.push(match &one.verdict {
            Verdict::Promote => Line::new(service, node, fleet.promote(&one).await?),
            Verdict::Incomplete => Line::new(service, node, Fenced::Incomplete),
            why => {
                Line { service, node, result: Came::NotSure, said: format!("not without your word: {why}") }
            }
        });
    }
    Ok(lines)
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
            table.add_row([line.service.to_string(), line.node.to_string(), line.said.clone()]);
        }
        println!("{table}");
    }
    Ok(())
}
