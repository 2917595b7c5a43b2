//! `sterna sites`: make, show and remove the local nodes of a continuum, and pack what makes other hosts nodes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use indicatif::{ProgressBar, ProgressStyle};
use sterna_core::continuum::{Continuum, NodeName};
use sterna_executor::identity::Role;
use sterna_executor::platform::docker::{LocalNodes, NodeStatus, Settings, State, Step, host};
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
    /// Make the nodes that have no agent of their own in the inventory, as containers of the host's Docker engine.
    Up(Which),
    /// Remove them, with all that runs on them.
    Down(Which),
    /// Show them; exit code 2 if one is not ready.
    Status(Which),
    /// Pack what makes a host of your own a node that has an agent in the inventory.
    Pack(Pack),
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

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let inventory = |which: &Which| wiring::inventory(&which.inventory);
    wiring::runtime()?.block_on(async {
        match &args.command {
            Command::Up(which) => up(which, &inventory(which)?).await,
            Command::Down(which) => down(which, &inventory(which)?).await,
            Command::Status(which) => status(which, &inventory(which)?).await,
            Command::Pack(pack) => self::pack(pack, &wiring::inventory(&pack.inventory)?).await,
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

async fn up(which: &Which, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let authority = which.state.authority(continuum)?;
    let nodes = LocalNodes::connect().await?;
    let stop = stop_on_signal()?;
    let bar = spinner()?;
    let mut tell = |step: Step| match step {
        Step::Note(_) | Step::Privilege(..) => say(&bar, &step),
        _ if bar.is_hidden() => say(&bar, &step),
        _ => bar.set_message(step.to_string()),
    };
    let result = nodes.up(continuum, &authority, &Settings::from_environment()?, &stop, &mut tell).await;
    bar.finish_and_clear();
    print(which.output, &result?)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "what was removed is the command's result")]
async fn down(which: &Which, continuum: &Continuum) -> anyhow::Result<ExitCode> {
    let removed = LocalNodes::connect().await?.down(&continuum.name).await?;
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
    let nodes = LocalNodes::connect().await?.status(continuum, &credentials, Some(&image)).await?;
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
            println!("the inventory has no local nodes: each has an agent of its own")
        }
        Output::Table => println!("{}", table(nodes)),
    }
    Ok(())
}

fn table(nodes: &[NodeStatus]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["node", "site", "state", "agent", "engine", "privilege", "notes"]);
    for node in nodes {
        let agent = match (&node.address, node.agent) {
            (None, _) => "-".to_owned(),
            (Some(address), true) => address.clone(),
            (Some(address), false) => format!("{address} (silent)"),
        };
        table.add_row([
            node.node.to_string(),
            node.site.to_string(),
            node.state.to_string(),
            agent,
            node.engine.clone().unwrap_or_else(|| "-".to_owned()),
            node.privilege.map_or_else(|| "-".to_owned(), |privilege| privilege.to_string()),
            node.notes.join("; "),
        ]);
    }
    table.to_string()
}
