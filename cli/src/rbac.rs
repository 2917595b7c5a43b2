//! `sterna rbac`: what a scheduler or a front must be allowed to do in a Kubernetes cluster.

use std::process::ExitCode;

use anyhow::ensure;
use sterna_executor::platform::kubernetes::lease::Place;
use sterna_executor::platform::kubernetes::rights::{
    Reach, endpoint_rights, migration_rights, node_rights, rights, service_account, service_rights,
};
use sterna_policies::load::is_name;

/// Arguments of `sterna rbac`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Apply what is printed with `kubectl apply -f -`, and name the account as `serviceAccountName` of the pods. \
Lease and namespace are those of `[leader]` in their settings.")]
pub struct Args {
    /// Namespace of the schedulers and their lease, or of the fronts.
    #[arg(long, short, default_value = "sterna", value_name = "NAME")]
    namespace: String,
    /// Name of the lease.
    #[arg(long, default_value = "sterna", value_name = "NAME")]
    lease: String,
    /// For fronts, which find nodes that are pods and do nothing else there.
    #[arg(long, conflicts_with_all = ["lease", "mode", "migrations", "services", "endpoints"])]
    front: bool,
    /// Name of the service account; left out: `sterna`, or `sterna-front` for fronts.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// A namespace of nodes that are pods, as the inventory names it; may be given several times.
    #[arg(long, value_name = "NAME")]
    nodes: Vec<String>,
    /// What the account is to do with those nodes.
    #[arg(long, value_enum, default_value_t = Mode::Observe, requires = "nodes")]
    mode: Mode,
    /// The namespace in which migrations are shown as objects, as `[kubernetes]` of the settings names it.
    #[arg(long, value_name = "NAME")]
    migrations: Option<String>,
    /// The namespace in which services are declared as objects, as `[kubernetes]` of the settings names it.
    #[arg(long, value_name = "NAME")]
    services: Option<String>,
    /// A namespace in which services of the cluster lead straight to where services run, as `[kubernetes]` of the settings names
    /// it; may be given several times.
    #[arg(long, value_name = "NAME")]
    endpoints: Vec<String>,
}

/// What is done with nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Find them: `sterna run`, `migrate`, `sites status`.
    Observe,
    /// Make and remove them too: `sites up` and `down`.
    Act,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let account =
        args.account.unwrap_or_else(|| if args.front { "sterna-front" } else { "sterna" }.to_owned());
    let names = [&args.namespace, &args.lease, &account];
    let objects = args.migrations.iter().chain(&args.services).chain(&args.endpoints);
    for name in names.into_iter().chain(&args.nodes).chain(objects) {
        ensure!(is_name(name), "Kubernetes has no such name as `{name}`: lower-case letters, digits and `-`");
    }
    let reach = match args.mode {
        _ if args.front => Reach::Find,
        Mode::Observe => Reach::Observe,
        Mode::Act => Reach::Act,
    };
    let home = args.namespace.clone();
    let mut documents = if args.front {
        vec![serde_saphyr::to_string(&service_account(&account, &home))?]
    } else {
        let rights = rights(&Place { namespace: args.namespace, name: args.lease }, &account);
        vec![
            serde_saphyr::to_string(&rights.account)?,
            serde_saphyr::to_string(&rights.role)?,
            serde_saphyr::to_string(&rights.binding)?,
        ]
    };
    let migrations = args.migrations.as_ref().map(|namespace| migration_rights(namespace, &account, &home));
    let services = args.services.as_ref().map(|namespace| service_rights(namespace, &account, &home));
    for rights in migrations.iter().chain(&services) {
        documents.push(serde_saphyr::to_string(&rights.role)?);
        documents.push(serde_saphyr::to_string(&rights.binding)?);
    }
    for namespace in &args.endpoints {
        let rights = endpoint_rights(namespace, &account, &home);
        documents.push(serde_saphyr::to_string(&rights.role)?);
        documents.push(serde_saphyr::to_string(&rights.binding)?);
    }
    for namespace in &args.nodes {
        let tells = args.migrations.is_some();
        let rights = node_rights(namespace, reach, tells, &account, &home);
        documents.extend(rights.namespace.as_ref().map(serde_saphyr::to_string).transpose()?);
        documents.push(serde_saphyr::to_string(&rights.role)?);
        documents.push(serde_saphyr::to_string(&rights.binding)?);
    }
    let documents: Vec<&str> = documents.iter().map(|document| document.trim()).collect();
    print(&documents.join("\n---\n"));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(manifests: &str) {
    println!("{manifests}");
}
