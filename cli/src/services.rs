//! `sterna services`: start, show and remove services, and what they write.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use futures_util::future::join_all;
use serde::Serialize;
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use sterna_executor::engine::docker::{Engine, LONGEST_LOAD};
use sterna_executor::fleet::Fleet;
use sterna_executor::node::api::{ServiceFacts, StartService};
use sterna_executor::node::client::AgentClient;
use sterna_policies::load::is_name;

use crate::wiring::{self, Output, StateArgs, Which};

mod output;

/// Arguments of `sterna services`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the services that the inventory says how to start and that run nowhere yet.
    Up(Which),
    /// Stop services and remove them, with the volumes that only they used.
    Down(Down),
    /// Show the services of every node; exit code 2 if one of the inventory runs nowhere.
    Status(Which),
    /// Print what a service has written, wherever it is.
    Logs(Logs),
    /// Bring an image from this host's engine to nodes that lack it.
    Load(Load),
}

#[derive(Debug, clap::Args)]
struct Load {
    /// The inventory file.
    inventory: PathBuf,
    /// The image.
    image: String,
    /// To this node alone; may be given several times. Left out: to all.
    #[arg(long, value_name = "NODE")]
    to: Vec<String>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, clap::Args)]
struct Down {
    /// The inventory file.
    inventory: PathBuf,
    /// The services.
    #[arg(value_name = "SERVICE", required_unless_present = "all", conflicts_with = "all")]
    services: Vec<String>,
    /// Every service of the inventory.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, clap::Args)]
struct Logs {
    /// The inventory file.
    inventory: PathBuf,
    /// The service.
    service: String,
    /// Go on with what it writes from now on, also after it has moved, until it has ended.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// A service and the node that owns it.
#[derive(Debug, Serialize)]
struct Row {
    node: NodeName,
    #[serde(flatten)]
    facts: ServiceFacts,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let which = match &args.command {
        Command::Up(which) | Command::Status(which) => which,
        Command::Down(asked) => return down(asked),
        Command::Load(asked) => return load(asked),
        Command::Logs(Logs { inventory, service, follow, state }) => {
            let continuum = wiring::inventory(inventory)?;
            let service = ServiceName::from(service.as_str());
            let runtime = wiring::runtime()?;
            let end = runtime.block_on(output::logs(continuum, state, &service, *follow));
            // A write to a terminal that nobody reads would be waited for.
            runtime.shutdown_background();
            return end;
        }
    };
    let continuum = wiring::inventory(&which.inventory)?;
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &which.state.authority(&continuum)?).await?;
        if matches!(args.command, Command::Up(_)) {
            up(&continuum, &fleet).await?;
        }
        status(which, &continuum, &fleet).await
    })
}

/// Removes services from all nodes. Where one does not answer it may have them: that is said in the end.
fn down(asked: &Down) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&asked.inventory)?;
    let services: Vec<ServiceName> = if asked.all {
        continuum.services.keys().cloned().collect()
    } else {
        asked.services.iter().map(|name| ServiceName::from(name.as_str())).collect()
    };
    if let Some(bad) = services.iter().find(|service| !is_name(service.as_str())) {
        bail!("`{}` is not the name of a service", bad.as_str().escape_debug());
    }
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &asked.state.authority(&continuum)?).await?;
        let removed = join_all(services.iter().map(|service| removed(&fleet, service))).await;
        let wrong: Vec<String> = removed.into_iter().flatten().collect();
        if wrong.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("not all nodes have done it; asked again, they will: {}", wrong.join("; "))
    })
}

/// Has all nodes remove a service; what went wrong.
#[expect(clippy::print_stderr, reason = "progress is for whoever watches")]
async fn removed(fleet: &Fleet, service: &ServiceName) -> Vec<String> {
    let asked = fleet.agents().map(|(node, agent)| async move {
        match agent {
            Ok(agent) => agent.remove_service(service).await.map_err(|error| error.to_string()),
            Err(why) => Err(format!("node `{node}`: {why}")),
        }
        .map(|gone| (node, gone))
    });
    let (mut wrong, mut found) = (Vec::new(), false);
    for answer in join_all(asked).await {
        match answer {
            Ok((node, true)) => {
                found = true;
                eprintln!("removed `{service}` from `{node}`");
            }
            Ok((_, false)) => {}
            Err(why) => wrong.push(why),
        }
    }
    if !found && wrong.is_empty() {
        eprintln!("`{service}` is on no node");
    }
    wrong
}

#[expect(clippy::print_stderr, reason = "progress is for whoever watches")]
async fn up(continuum: &Continuum, fleet: &Fleet) -> anyhow::Result<()> {
    let view = fleet.view().await;
    if let Some((node, reason)) = view.unreachable.first_key_value() {
        bail!("node `{node}` can't be asked what it runs, so nothing is started: {reason}");
    }
    let told = fleet.told(&BTreeSet::new()).await;
    let mut held = Vec::new();
    for (service, described) in &continuum.services {
        let Some(run) = &described.run else { continue };
        if view.placement.contains_key(service) {
            continue;
        }
        // Started anew it would be empty, and what is held would be good for nothing.
        if let Some((node, from)) = told.holder(service) {
            held.push(format!("`{service}` is held at `{node}`, on its way from `{from}`"));
            continue;
        }
        let agent = fleet.agent(&run.on)?;
        give_image(agent, &run.image).await?;
        eprintln!("starting `{service}` on `{}`", run.on);
        agent
            .start_service(&StartService { service: service.clone(), run: run.clone(), incarnation: None })
            .await
            .with_context(|| format!("`{service}` can't be started"))?;
    }
    if !held.is_empty() {
        bail!(
            "{}: not started anew, which would lose it. The nodes settle that by themselves once they reach each other; of one that \
             is gone for good `sterna fence` has it run where it is held",
            held.join("; ")
        );
    }
    Ok(())
}

/// Brings an image to nodes, one after the other: the same link leads to all of them.
fn load(asked: &Load) -> anyhow::Result<ExitCode> {
    let continuum = wiring::inventory(&asked.inventory)?;
    let named: Vec<NodeName> = asked.to.iter().map(|name| NodeName::from(name.as_str())).collect();
    let all = || continuum.nodes.keys().cloned().collect();
    let nodes: Vec<NodeName> = if named.is_empty() { all() } else { named };
    wiring::runtime()?.block_on(async {
        let fleet = Fleet::connect(&continuum, &asked.state.authority(&continuum)?).await?;
        for node in &nodes {
            give_image(fleet.agent(node)?, &asked.image).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Gives a node's engine an image that it lacks, from the engine of this host.
#[expect(clippy::print_stderr, reason = "progress is for whoever watches")]
async fn give_image(agent: &AgentClient, image: &str) -> anyhow::Result<()> {
    if agent.image_digest(image).await?.is_some() {
        return Ok(());
    }
    let host = Engine::connect().await?;
    if host.image_digest(image).await?.is_none() {
        bail!(
            "neither node `{}` nor this host's engine has the image `{image}`: load or build it here first",
            agent.node()
        );
    }
    eprintln!("sending image `{image}` to `{}`", agent.node());
    let sent = agent.load_image(host.save_image(image), LONGEST_LOAD).await;
    sent.with_context(|| format!("image `{image}` can't be sent"))
}

#[expect(clippy::print_stdout, reason = "the services are the command's result")]
#[expect(clippy::print_stderr, reason = "so is what could not be asked")]
async fn status(which: &Which, continuum: &Continuum, fleet: &Fleet) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for node in continuum.nodes.keys() {
        match fleet.agent(node) {
            Ok(agent) => match agent.services().await {
                Ok(services) => {
                    rows.extend(services.into_iter().map(|facts| Row { node: node.clone(), facts }))
                }
                Err(error) => eprintln!("warning: {error}"),
            },
            Err(error) => eprintln!("warning: {error}"),
        }
    }
    rows.sort_by(|a, b| a.facts.service.cmp(&b.facts.service));
    if which.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else if rows.is_empty() {
        println!("no services");
    } else {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["service", "node", "state", "memory", "epoch"]);
        for row in &rows {
            let facts = &row.facts;
            let state = match (&facts.leaving_for, facts.running, facts.frozen) {
                (Some(to), _, _) => format!("moving to {to}"),
                (None, false, _) => match facts.ended {
                    Some(code) => format!("ended with {code}"),
                    None => "ended".to_owned(),
                },
                (None, true, true) => "frozen".to_owned(),
                (None, true, false) => "running".to_owned(),
            };
            table.add_row([
                facts.service.to_string(),
                row.node.to_string(),
                state,
                facts.memory.to_string(),
                facts.epoch.to_string(),
            ]);
        }
        println!("{table}");
    }
    let running =
        |service: &ServiceName| rows.iter().any(|row| row.facts.service == *service && row.facts.running);
    let all = continuum.services.keys().all(running);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(crate::exit::CHANGES) })
}
