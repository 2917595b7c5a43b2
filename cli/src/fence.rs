//! `sterna fence`: tell the other nodes that a node is gone for good, so that they run what they hold of its services.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use jiff::Timestamp;
use serde::Serialize;
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use sterna_daemon::control::ending::REMEMBERED;
use sterna_daemon::history::HistoryStore;
use sterna_executor::fleet::{Fenced, Fleet, FleetError};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::pod_end::PodEnd;
use sterna_executor::migration::promotion::{self, Known, Outdated, Verdict};
use sterna_executor::platform::kubernetes::node::watching;

use crate::wiring::{self, Of, Output};

/// Arguments of `sterna fence`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A node that is fenced must never run its services again: destroy it, or make sure that it stays off until its state is \
removed. Sterna refuses to fence a node whose agent still answers and knows of what left it. All other nodes must answer, for one of them may have the \
service. A node that is a pod of Kubernetes, and that a scheduler has seen end, needs nobody's word: leave --by and --reason out.")]
pub struct Args {
    /// The node that is gone.
    node: String,
    /// Who says so; kept with the certificate.
    #[arg(long, value_name = "NAME", requires = "reason")]
    by: Option<String>,
    /// How they know; kept with the certificate.
    #[arg(long, value_name = "TEXT", requires = "by")]
    reason: Option<String>,
    /// Go on although this node does not answer: you know that it has none of these services (repeatable).
    #[arg(long, value_name = "NODE", requires = "by")]
    without: Vec<NodeName>,
    /// Also run what is held of moves that were undone, where nothing newer is left: what the service did since is lost.
    #[arg(long, requires = "by")]
    outdated: bool,
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Serialize)]
struct Line {
    service: ServiceName,
    node: NodeName,
    result: Fate,
    /// The result in words.
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    Runs,
    Incomplete,
    /// Another node has it.
    Elsewhere,
    /// Not without a word more.
    NotSure,
    /// Its node does not do it.
    Failed,
}

impl Fate {
    /// Whether the service is where it can be had.
    const fn is_well(self) -> bool {
        matches!(self, Self::Runs | Self::Elsewhere)
    }
}

impl Line {
    fn ran(service: ServiceName, node: NodeName, came: Result<Fenced, FleetError>) -> Self {
        match came {
            Ok(Fenced::Runs) => Self { service, node, result: Fate::Runs, said: Fenced::Runs.to_string() },
            Ok(Fenced::Incomplete) => Self::incomplete(service, node),
            Err(error) => Self { service, node, result: Fate::Failed, said: format!("{error}; try again") },
        }
    }

    fn incomplete(service: ServiceName, node: NodeName) -> Self {
        Self { service, node, result: Fate::Incomplete, said: Fenced::Incomplete.to_string() }
    }

    /// What is not made to run, for this reason; `remedy` is what may be done about it.
    fn left(service: ServiceName, node: NodeName, why: &Verdict, remedy: &str) -> Self {
        let (result, said) = match why {
            Verdict::Elsewhere(_) => (Fate::Elsewhere, format!("needs nothing: {why}")),
            _ => (Fate::NotSure, format!("not run: {why}{remedy}")),
        };
        Self { service, node, result, said }
    }
}

/// Runs the command: exit code 0 when everything that was on its way runs, 1 when something is lost or not made to run.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&args.of.inventory)?;
    let gone = NodeName::from(args.node.clone());
    if let Some(unknown) = args.without.iter().find(|node| !continuum.nodes.contains_key(*node)) {
        bail!("--without: the inventory has no node `{unknown}`");
    }
    let said = args.by.as_ref().zip(args.reason.as_ref());
    if said.is_some_and(|(by, reason)| by.trim().is_empty() || reason.trim().is_empty()) {
        bail!("--by and --reason must say something: they are kept as the grounds");
    }
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &args.of.state.authority(&continuum)?).await?;
        let history = Recorded::read(&args.of.state.folder(&continuum)?).await?;
        let ground = Ground { fleet: &fleet, continuum: &continuum, gone: &gone };
        let (lines, silent) = match said {
            Some((by, reason)) => {
                let word = Word { by, reason, without: &args.without, outdated: args.outdated };
                ground.on_word(history, &word).await?
            }
            None => ground.by_proof(&history).await?,
        };
        if !lines.is_empty() || silent.is_empty() {
            print(&gone, &lines, args.of.output)?;
        }
        if !silent.is_empty() {
            let names: Vec<_> = silent.iter().map(|node| format!("`{node}`")).collect();
            bail!(
                "{} did not answer, so that it is not known what is held there of services that left `{gone}`: run this again when \
                 they answer, or, on your word, name each one that has nothing with --without",
                names.join(", ")
            );
        }
        let well = lines.iter().all(|line| line.result.is_well());
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// What schedulers have written down of late.
struct Recorded {
    ends: Vec<PodEnd>,
    undone: BTreeSet<MigrationId>,
}

impl Recorded {
    async fn read(state: &Path) -> anyhow::Result<Self> {
        let since = Timestamp::now().checked_sub(REMEMBERED)?;
        let (ends, undone) = match HistoryStore::read(state)? {
            Some(history) => (history.pod_ends(since).await?, history.undone_since(since).await?),
            None => Default::default(),
        };
        Ok(Self { ends, undone: undone.into_iter().collect() })
    }
}

/// What somebody says of a node that is gone.
struct Word<'a> {
    by: &'a str,
    reason: &'a str,
    without: &'a [NodeName],
    outdated: bool,
}

/// A node that is gone, and the others.
struct Ground<'a> {
    fleet: &'a Fleet,
    continuum: &'a Continuum,
    gone: &'a NodeName,
}

/// What came of each service, and who did not answer.
type Came = (Vec<Line>, BTreeSet<NodeName>);

impl Ground<'_> {
    /// Has run what is held of services that left that node, since somebody says that it is gone.
    async fn on_word(&self, history: Recorded, word: &Word<'_>) -> anyhow::Result<Came> {
        let Self { fleet, continuum, gone } = self;
        let mut empty = watching::empty(continuum, &history.ends).await;
        empty.extend(word.without.iter().chain([*gone]).cloned());
        let told = fleet.told(&empty).await;
        let there = fleet.known_there(gone, &told).await?;
        let answers = there.is_some();
        let known = Known { undone: history.undone, there: there.unwrap_or_default() };
        let outdated = if word.outdated { Outdated::BetterThanNothing } else { Outdated::Never };
        let left = promotion::on_word(&told, gone, &known, outdated);
        if left.is_empty() && answers {
            bail!("the agent of `{gone}` answers: it is not gone. Stop the node for good first");
        }
        if left.is_empty() && !continuum.nodes.contains_key(*gone) {
            bail!(
                "the inventory has no node `{gone}`, and no node holds a service that left one of that name"
            );
        }
        let mut lines = Vec::new();
        for one in left {
            let (service, node) = (one.arriving.order.service.clone(), one.holder.clone());
            lines.push(match &one.verdict {
                Verdict::Promote => Line::ran(service, node, fleet.fence(&one, word.by, word.reason).await),
                Verdict::Incomplete => Line::incomplete(service, node),
                why @ Verdict::Waits(_) => {
                    Line::left(service, node, why, ". If you know that it is not, say --without")
                }
                why @ Verdict::Late => Line::left(
                    service,
                    node,
                    why,
                    ". If you would rather have that than nothing, say --outdated",
                ),
                why => Line::left(service, node, why, ""),
            });
        }
        Ok((lines, told.silent))
    }

    /// Has run what is held of services that left pods of that node which a scheduler has seen end.
    async fn by_proof(&self, history: &Recorded) -> anyhow::Result<Came> {
        let Self { fleet, continuum, gone } = self;
        let ends: Vec<PodEnd> = history.ends.iter().filter(|end| end.node == **gone).cloned().collect();
        if ends.is_empty() {
            bail!(
                "nothing proves that `{gone}` is gone: no scheduler has seen a pod of it end. If you know that it is, say who you are \
                 and how you know with --by and --reason"
            );
        }
        let told = fleet.told(&watching::empty(continuum, &ends).await).await;
        let mut lines = Vec::new();
        for one in promotion::candidates(&told, &ends, &history.undone) {
            let (service, node) = (one.arriving.order.service.clone(), one.holder.clone());
            lines.push(match &one.verdict {
                Verdict::Promote => Line::ran(service, node, fleet.promote(&one).await),
                Verdict::Incomplete => Line::incomplete(service, node),
                why => Line::left(service, node, why, ". It needs your word: --by and --reason"),
            });
        }
        Ok((lines, told.silent))
    }
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
