//! `sterna rbac`: what a scheduler must be allowed to do in a Kubernetes cluster.

use std::process::ExitCode;

use anyhow::ensure;
use sterna_executor::platform::kubernetes::lease::Place;
use sterna_executor::platform::kubernetes::rights::rights;
use sterna_policies::load::is_name;

/// Arguments of `sterna rbac`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Apply what is printed with `kubectl apply -f -`, and name the account as `serviceAccountName` of the schedulers' pods. \
Lease and namespace are those of `[leader]` in their settings.")]
pub struct Args {
    /// Namespace of the schedulers and their lease.
    #[arg(long, short, default_value = "sterna", value_name = "NAME")]
    namespace: String,
    /// Name of the lease.
    #[arg(long, default_value = "sterna", value_name = "NAME")]
    lease: String,
    /// Name of the service account.
    #[arg(long, default_value = "sterna", value_name = "NAME")]
    account: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    for name in [&args.namespace, &args.lease, &args.account] {
        ensure!(is_name(name), "Kubernetes has no such name as `{name}`: lower-case letters, digits and `-`");
    }
    let rights = rights(&Place { namespace: args.namespace, name: args.lease }, &args.account);
    let documents = [
        serde_saphyr::to_string(&rights.account)?,
        serde_saphyr::to_string(&rights.role)?,
        serde_saphyr::to_string(&rights.binding)?,
    ];
    print(&documents.map(|document| document.trim().to_owned()).join("\n---\n"));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(manifests: &str) {
    println!("{manifests}");
}
