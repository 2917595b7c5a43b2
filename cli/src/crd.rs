//! `sterna crd`: the definitions that a Kubernetes cluster needs before it shows migrations, or takes services.

use std::process::ExitCode;

use sterna_executor::platform::kubernetes::{migratable_service, migration_object};

/// Arguments of `sterna crd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Apply what is printed with `kubectl apply -f -`. `migrations` in the table `[kubernetes]` of the settings then names the \
namespace in which `sterna run` shows migrations, and `services` that in which services are declared. `sterna rbac --migrations` and \
`--services` print the rights for it.")]
pub struct Args {
    /// Only the definition of this kind of object.
    #[arg(value_enum)]
    kind: Option<Kind>,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Migrations as they are shown.
    Migrations,
    /// Services that are declared.
    Services,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let definitions = [
        (Kind::Migrations, migration_object::resource::definition()),
        (Kind::Services, migratable_service::resource::definition()),
    ];
    let asked = definitions.iter().filter(|(kind, _)| args.kind.is_none_or(|asked| asked == *kind));
    let documents =
        asked.map(|(_, definition)| serde_saphyr::to_string(definition)).collect::<Result<Vec<_>, _>>()?;
    let documents: Vec<&str> = documents.iter().map(|document| document.trim()).collect();
    print(&documents.join("\n---\n"));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(manifest: &str) {
    println!("{manifest}");
}
