//! `sterna crd`: the definition that a Kubernetes cluster needs before it shows migrations.

use std::process::ExitCode;

use sterna_executor::platform::kubernetes::migration_object::resource;

/// Arguments of `sterna crd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Apply what is printed with `kubectl apply -f -`. `migrations` in the table `[kubernetes]` of the settings then names the \
namespace in which `sterna run` shows migrations, and `sterna rbac --migrations` prints the rights for it.")]
pub struct Args {}

/// Runs the command.
pub fn run(Args {}: Args) -> anyhow::Result<ExitCode> {
    print(serde_saphyr::to_string(&resource::definition())?.trim());
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(manifest: &str) {
    println!("{manifest}");
}
