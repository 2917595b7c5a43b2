//! `sterna sites`: make, show and remove the nodes of a continuum that are containers of this host or pods of a cluster, and pack
//! what makes other hosts nodes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use indicatif::{ProgressBar, ProgressStyle};
use sterna_core::continuum::{Continuum, Node, NodeName};
use sterna_executor::fleet::Fleet;
use sterna_executor::identity::Role;
use sterna_executor::platform::docker::{LocalNodes, Settings, archive, host};
use sterna_executor::platform::kubernetes::node::PodNodes;
use sterna_executor::platform::status::{NodeStatus, State};
use sterna_executor::platform::step::Step;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::wiring::{self, Output, StateArgs, Which};

/// Arguments of `sterna sites`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the nodes that have no agent of their own in the inventory: as containers of the host's Docker engine, or as pods where
    /// the inventory says `kubernetes`.
    Up(Which),
    /// Remove them, with all that runs on them.
    Down(Which),
    /// Show them; exit code 2 if one is not ready.
    Status(Which),
    /// Pack what makes a host of your own a node that has an agent in the inventory.
    Pack(Pack),
    /// Write the image of nodes as an archive, to be loaded on the nodes of a cluster; prints its name.
    Image(Image),
    /// Print where the root file system of nodes lies, as a tar file; build it where that was never done.
    Rootfs,
}

/// Arguments of `sterna sites pack`.
#[derive(Debug, clap::Args)]
struct Pack {
    /// The inventory file.
    inventory: PathBuf,
    /// The node.
    node: String,
    /// The tar file to write, to be unpacked at the host's root. It holds the node's private key.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `sterna sites image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Load it on each node of the cluster that nodes of Sterna are to stand on, such as with `ctr -n k8s.io images import FILE`. Nothing \
pulls it: it is in no registry, unless you push it to one of yours and say so in the inventory.")]
struct Image {
    /// The file to write; one that is there is not written over.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let inventory = |which: &Which| wiring::inventory(&which.inventory);
    wiring::runtime()?.block_on(async {
        match &args.command {
            Command::Up(which) => up(which, &inventory(which)?).await,
            Command::Down(which) => down(which, &inventory(which)?).await,
            Command::Status(which) => status(which, &inventory(which)?).await,
            Command::Pack(pack) => self::pack(pack, &wiring::inventory(&pack.inventory)?).await,
            Command::Image(image) => self::image(&image.out).await,
            Command::Rootfs => rootfs().await,
        }
    })
}

async fn pack(pack: &Pack, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let authority = pack.state.authority(continuum)?;
    let bar = ProgressBar::hidden();
    let node = NodeName::from(pack.node.clone());
    let settings = Settings::from_environment()?;
    host::pack(continuum, &node, &authority, &settings, &pack.out, &mut |step| say(&bar, &step)).await?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the path is the command's result")]
async fn rootfs() -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let bar = ProgressBar::hidden();
    let file = host::rootfs(&Settings::from_environment()?, &stop, &mut |step| say(&bar, &step)).await?;
    println!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the name is the command's result")]
async fn image(out: &Path) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let bar = ProgressBar::hidden();
    let settings = Settings::from_environment()?;
    let name = archive::write(&settings, out, &stop, &mut |step| say(&bar, &step)).await?;
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

/// Whether the inventory has nodes that are pods.
fn has_pods(continuum: &Continuum) -> bool {
    continuum.nodes.values().any(|node| node.kubernetes.is_some())
}

/// This host's engine, if nodes may be in it; where all are elsewhere it need not be there.
async fn engine(continuum: &Continuum) -> anyhow::Result<Option<LocalNodes>> {
    let needed = continuum.nodes.values().any(Node::is_local) || !has_pods(continuum);
    match LocalNodes::connect().await {
        Ok(engine) => Ok(Some(engine)),
        Err(error) if needed => Err(error.into()),
        Err(_) => Ok(None),
    }
}

async fn clusters(continuum: &Continuum) -> PodNodes {
    PodNodes::of(continuum.nodes.values()).await
}

async fn up(which: &Which, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let authority = which.state.authority(continuum)?;
    let settings = Settings::from_environment()?;
    let image = settings.image()?;
    let (engine, clusters) = (engine(continuum).await?, clusters(continuum).await);
    let stop = stop_on_signal()?;
    let bar = spinner()?;
    let mut tell = |step: Step| match step {
        Step::Note(_) | Step::Privilege(..) => say(&bar, &step),
        _ if bar.is_hidden() => say(&bar, &step),
        _ => bar.set_message(step.to_string()),
    };
    let work = async {
        let call = match has_pods(continuum) {
            true => Some(clusters.up(continuum, &authority, &image, &stop, &mut tell).await?),
            false => None,
        };
        let Some(engine) = engine.filter(|_| call.is_none() || continuum.nodes.values().any(Node::is_local))
        else {
            return anyhow::Ok(Vec::new());
        };
        match (engine.up(continuum, &authority, &settings, &stop, &mut tell).await, call) {
            (Err(error), Some(call)) => {
                if let Err(left) = clusters.undo(continuum, &call).await {
                    tell(Step::Note(format!("not all that was made is gone: {left}")));
                }
                Err(error.into())
            }
            (result, _) => Ok(result?),
        }
    };
    let result = work.await;
    bar.finish_and_clear();
    let mut nodes = result?;
    if has_pods(continuum) {
        // A pod that was made anew has another address than the orders say that are open with it.
        let all: Vec<NodeName> = continuum.nodes.keys().cloned().collect();
        Fleet::connect(continuum, &authority).await?.introduce(&all).await;
    }
    nodes.extend(clusters.status(continuum, &authority.issue(&Role::Scheduler)?, &image).await?);
    print(which.output, &nodes)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "what was removed is the command's result")]
async fn down(which: &Which, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let (engine, clusters) = (engine(continuum).await?, clusters(continuum).await);
    // Each as far as it goes: one that can't be asked keeps nothing of the other.
    let pods = clusters.down(continuum).await;
    let mut removed = match engine {
        Some(engine) => engine.down(&continuum.name).await?,
        None => Vec::new(),
    };
    removed.extend(pods?);
    match which.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&removed)?),
        Output::Table if removed.is_empty() => println!("nothing to remove"),
        Output::Table => removed.iter().for_each(|thing| println!("removed {thing}")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(which: &Which, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let credentials = which.state.authority(continuum)?.issue(&Role::Scheduler)?;
    let image = Settings::from_environment()?.image()?;
    let (engine, clusters) = (engine(continuum).await?, clusters(continuum).await);
    let mut nodes = match engine {
        Some(engine) => engine.status(continuum, &credentials, Some(&image)).await?,
        None => Vec::new(),
    };
    nodes.extend(clusters.status(continuum, &credentials, &image).await?);
    print(which.output, &nodes)?;
    let ready = nodes.iter().all(|node| node.state == State::Ready);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(crate::exit::CHANGES) })
}

/// Cancelled by Ctrl-C and by the signal that asks a process to end.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// Moves where a person watches; hidden elsewhere.
fn spinner() -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(120));
    Ok(bar)
}

#[expect(clippy::print_stderr, reason = "progress is for whoever watches")]
fn say(bar: &ProgressBar, step: &Step) {
    bar.suspend(|| eprintln!("{step}"));
}

#[expect(clippy::print_stdout, reason = "the nodes are the command's result")]
fn print(output: Output, nodes: &[NodeStatus]) -> anyhow::Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(nodes)?),
        Output::Table if nodes.is_empty() => {
            println!("the inventory has no nodes that are made: each has an agent of its own")
        }
        Output::Table => {
            println!("{}", table(nodes));
            for (node, remedy) in nodes.iter().filter_map(|node| Some((&node.node, node.remedy.as_ref()?))) {
                println!("{node}: {remedy}");
            }
        }
    }
    Ok(())
}

fn table(nodes: &[NodeStatus]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["node", "site", "platform", "state", "agent", "engine", "privilege", "notes"]);
    for node in nodes {
        let agent = match (&node.address, node.agent) {
            (None, _) => "-".to_owned(),
            (Some(address), true) => address.clone(),
            (Some(address), false) => format!("{address} (silent)"),
        };
        table.add_row([
            node.node.to_string(),
            node.site.to_string(),
            match &node.host {
                Some(host) => format!("{} ({host})", node.platform),
                None => node.platform.to_string(),
            },
            node.state.to_string(),
            agent,
            node.engine.clone().unwrap_or_else(|| "-".to_owned()),
            node.privilege.map_or_else(|| "-".to_owned(), |privilege| privilege.to_string()),
            node.notes.join("; "),
        ]);
    }
    table.to_string()
}
