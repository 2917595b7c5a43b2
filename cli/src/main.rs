//! The `sterna` binary: wires the parts of the house together, decides nothing.
//!
//! One file per command. Exit codes: 0 nothing to do or done, 1 error, 2 there are changes, 3 a policy, inventory or
//! scenario is invalid, 4 metrics do not suffice.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::invocation::Invocation;
use crate::logging::Beside;

mod agent;
mod apply;
mod approve;
mod calibrate;
mod cancel;
mod completions;
mod crd;
mod declared_services;
mod doctor;
mod drain;
mod exit;
mod explain;
mod fence;
mod front;
mod history;
mod init;
mod invocation;
mod leader;
mod logging;
mod migrate;
mod migration_objects;
mod optout;
mod pause;
mod plan;
mod policy;
mod rbac;
mod report;
mod run;
mod service;
mod service_endpoints;
mod services;
mod shim;
mod simulate;
mod sites;
mod status;
mod supervisor;
mod tell;
mod wiring;

/// Decisions make and drop many small things; a simulation makes millions of decisions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Moves running services to where your policy says they are better off.
#[derive(Debug, Parser)]
#[command(name = "sterna", version, propagate_version = true)]
struct Cli {
    /// Log lines as JSON.
    #[arg(long, global = true, env = "STERNA_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look around, and write an inventory, settings and a policy that only observes to begin with.
    Init(init::Args),
    /// Watch, decide and, where the policy allows it, move.
    Run(run::Args),
    /// Decide once and print what would be done, and why.
    Plan(plan::Args),
    /// Show how things stand.
    Status(status::Args),
    /// Show decisions and migrations of the past.
    History(history::Args),
    /// Show what moving brought, predicted against measured, or what it would have brought.
    Report(report::Args),
    /// Show the plan that waits for approval, or approve it.
    Approve(approve::Args),
    /// Have nothing moved until `resume`.
    Pause(pause::Args),
    /// Have moves made again.
    Resume(pause::Args),
    /// Have services leave a node or site, and nothing moved to it.
    Drain(drain::Args),
    /// Have a node or site used again.
    Undrain(drain::Args),
    /// Have nothing moved to a node or site; what is there may stay.
    Cordon(drain::Args),
    /// Have a node or site moved to again.
    Uncordon(drain::Args),
    /// Have a service stay where it is.
    Optout(optout::Args),
    /// Have a service moved again.
    Optin(optout::Args),
    /// Carry out a plan that `sterna plan --out` wrote.
    Apply(apply::Args),
    /// Tell of one service what every node would mean for it, and what keeps it from there.
    Explain(explain::Args),
    /// Look whether the policy's metrics are there and the agents answer, and say how to mend what is not.
    Doctor(doctor::Args),
    /// Move one service now.
    Migrate(migrate::Args),
    /// Have a migration undone that is under way.
    Cancel(cancel::Args),
    /// Tell the other nodes that a node is gone for good, so that they run what they hold of its services.
    Fence(fence::Args),
    /// Keep one address for services that move: clients see a pause, not an error.
    Front(front::Args),
    /// Try a policy on a described continuum, offline.
    Simulate(simulate::Args),
    /// Learn what moves cost on these nodes, from those that were measured.
    Calibrate(calibrate::Args),
    /// Check, test and compare policy files, list presets, print the schema.
    Policy(policy::Args),
    /// Make, show and remove nodes: containers of this host, pods of a cluster.
    Sites(sites::Args),
    /// Start and show services.
    Services(services::Args),
    /// Print what schedulers and fronts in Kubernetes must be allowed to do, as manifests.
    Rbac(rbac::Args),
    /// Print the definition of the objects that migrations are shown as in Kubernetes, as a manifest.
    Crd(crd::Args),
    /// Print what completes commands in a shell.
    Completions(completions::Args),
    /// Write manual pages to a folder.
    Man(completions::Pages),
    /// Serve one node (runs on the node).
    Agent(agent::Args),
    /// Act as the OCI runtime of a node's engine (called by the engine).
    #[command(disable_help_flag = true)]
    Shim(shim::Args),
}

fn main() -> ExitCode {
    let called = Invocation::of(&std::env::args_os().next().unwrap_or_default());
    if called == Invocation::Shim {
        return shim::run_from_engine(&std::env::args_os().skip(1).collect::<Vec<_>>());
    }
    let mut command = Cli::command();
    if let Some(written) = called.written() {
        command.set_bin_name(written);
    }
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    // One TLS provider for the whole process, before any client is made.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let traces = match &cli.command {
        Command::Run(args) => args.traces(),
        _ => None,
    };
    // What is left is sent at the end.
    let beside = match &cli.command {
        Command::Front(args) if args.stands_in() => Beside::Service,
        _ => Beside::Nothing,
    };
    let _sending = match logging::start(cli.log_json, traces.as_ref(), beside) {
        Ok(sending) => sending,
        Err(error) => return exit::code(Err(error)),
    };
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Init(args) => init::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Status(args) => status::run(args),
        Command::History(args) => history::run(args),
        Command::Report(args) => report::run(args),
        Command::Approve(args) => approve::run(args),
        Command::Pause(args) => pause::pause(args),
        Command::Resume(args) => pause::resume(args),
        Command::Drain(args) => drain::drain(args),
        Command::Undrain(args) => drain::undrain(args),
        Command::Cordon(args) => drain::cordon(args),
        Command::Uncordon(args) => drain::uncordon(args),
        Command::Optout(args) => optout::optout(args),
        Command::Optin(args) => optout::optin(args),
        Command::Apply(args) => apply::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Fence(args) => fence::run(args),
        Command::Front(args) => front::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Policy(args) => policy::run(args),
        Command::Sites(args) => sites::run(args),
        Command::Services(args) => services::run(args),
        Command::Rbac(args) => rbac::run(args),
        Command::Crd(args) => crd::run(args),
        Command::Completions(args) => completions::run(args, Cli::command(), called.program()),
        Command::Man(args) => completions::pages(args, Cli::command()),
        Command::Agent(args) => agent::run(args),
        Command::Shim(args) => return shim::run_from_engine(&args.rest),
    };
    exit::code(result)
}
