//! `sterna policy`: check, test and compare policy files, print the schema, list and print presets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use sterna_policies::builtin::{self, Builtin};
use sterna_policies::load::Invalid;
use sterna_policies::policy::{Metric, Objective, Policy};
use sterna_policies::presets::{ALL, Preset};
use sterna_policies::{diagnose, load, schema};

use crate::exit;
use crate::wiring::Output;

pub mod diff;
mod test;

/// Arguments of `sterna policy`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check policy files: all errors and warnings, with their places. Exit code 3 where a file is refused.
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Refuse files with warnings too.
        #[arg(long)]
        strict: bool,
    },
    /// Try what a policy must decide in described situations. Exit code 1 where a case does not hold.
    Test(test::Args),
    /// Show what another policy would decide differently. Exit code 2 where it would.
    Diff(diff::Args),
    /// Print the JSON Schema of policy files, for editors. With the line `#:schema policy.schema.json` on top of a policy,
    /// editors that know Taplo complete and check it while you type.
    Schema,
    /// List the queries that come with Sterna, for `builtin = "…"` in a policy's metrics, or print one.
    Builtins {
        /// The one to print, as it is asked.
        name: Option<String>,
        /// How to print the list.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// List the policies that come with Sterna, or print one: a start for your own.
    Presets {
        /// The one to print.
        name: Option<String>,
    },
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check { files, strict } => Ok(check(&files, strict)),
        Command::Test(args) => test::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Schema => print(&schema::text()),
        Command::Builtins { name, output } => builtins(name.as_deref(), output),
        Command::Presets { name: None } => {
            let width = ALL.iter().map(|preset| preset.name.len()).max().unwrap_or_default();
            let lines = ALL.iter().map(|preset| format!("{:width$}  {}\n", preset.name, preset.about()));
            print(&lines.collect::<String>())
        }
        Command::Presets { name: Some(name) } => match Preset::find(&name) {
            Some(preset) => print(preset.text),
            None => {
                let names = ALL.map(|preset| preset.name);
                match diagnose::closest(&name, names) {
                    Some(near) => anyhow::bail!("there is no preset `{name}`; did you mean `{near}`?"),
                    None => anyhow::bail!("there is no preset `{name}`; there are {}", names.join(", ")),
                }
            }
        },
    }
}

fn builtins(name: Option<&str>, output: Output) -> anyhow::Result<ExitCode> {
    let query = |builtin: &Builtin| builtin.query("site", "users", None);
    let chosen: Vec<Builtin> = match name {
        None => builtin::ALL.to_vec(),
        Some(name) => match Builtin::find(name) {
            Some(builtin) => vec![builtin],
            None => {
                let names = builtin::ALL.map(|builtin| builtin.name);
                let near = diagnose::closest(name, names);
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                anyhow::bail!("there is no built-in query `{name}`{near}")
            }
        },
    };
    match (output, name) {
        (Output::Json, _) => {
            let all: Vec<_> = chosen
                .iter()
                .map(|one| {
                    serde_json::json!({
                        "name": one.name,
                        "metric": one.metric,
                        "unit": one.unit,
                        "exporter": one.exporter,
                        "max_age": one.max_age,
                        "window": one.window.map(|window| window.usual),
                        "least_window": one.window.map(|window| window.least),
                        "query": query(one),
                    })
                })
                .collect();
            print(&(serde_json::to_string_pretty(&all)? + "\n"))
        }
        (Output::Table, Some(_)) => print(&chosen.iter().map(|one| query(one) + "\n").collect::<String>()),
        (Output::Table, None) => {
            let mut table = Table::new();
            table.load_style(UTF8_HORIZONTAL_ONLY);
            table.set_header(["name", "metric", "unit", "exporter", "query"]);
            for one in &chosen {
                table.add_row([
                    one.name,
                    one.metric.name(),
                    one.unit.name(),
                    one.exporter,
                    query(one).as_str(),
                ]);
            }
            print(&format!("{table}\n"))
        }
    }
}

/// Writes to standard output; that the reader went away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("can't print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Reads a policy file, and prints the warnings about it.
#[expect(clippy::print_stderr, reason = "warnings about a file are for whoever wrote it")]
fn read(file: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let loaded =
        load::policy(&file.display().to_string(), &text).map_err(|invalid| exit::Invalid(invalid.into()))?;
    if !loaded.warnings.is_empty() {
        eprintln!("{:?}", miette::Report::new(loaded.warnings));
    }
    Ok(loaded.value)
}

/// How a file came out of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Good,
    Unreadable,
    Refused,
}

/// Checks every file, also after one was refused; the worst outcome decides the exit code.
fn check(files: &[PathBuf], strict: bool) -> ExitCode {
    let worst = files.iter().map(|file| check_one(file, strict)).max();
    match worst.unwrap_or(Outcome::Good) {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::Unreadable => ExitCode::FAILURE,
        Outcome::Refused => ExitCode::from(exit::INVALID),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the cli is where findings reach people")]
fn check_one(file: &Path, strict: bool) -> Outcome {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: can't read {}: {error}", file.display());
            return Outcome::Unreadable;
        }
    };
    match load::policy(&file.display().to_string(), &text) {
        Ok(loaded) => {
            let warnings = loaded.warnings.diagnostics().len();
            if !loaded.warnings.is_empty() {
                eprintln!("{:?}", miette::Report::new(loaded.warnings));
            }
            let verdict = match warnings {
                0 => "ok".to_owned(),
                1 => "1 warning".to_owned(),
                n => format!("{n} warnings"),
            };
            println!("{}: {verdict} ({})", file.display(), summary(&loaded.value));
            if strict && warnings > 0 { Outcome::Refused } else { Outcome::Good }
        }
        Err(invalid) => {
            refused(file, invalid);
            Outcome::Refused
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the cli is where findings reach people")]
fn refused(file: &Path, invalid: Invalid) {
    eprintln!("{:?}", miette::Report::from(invalid));
    println!("{}: refused", file.display());
}

/// Name, mode and objective in a few words.
fn summary(policy: &Policy) -> String {
    let mode = policy.mode.name();
    let join = |metrics: Vec<Metric>, between: &str| {
        metrics.into_iter().map(Metric::name).collect::<Vec<_>>().join(between)
    };
    let objective = match &policy.objective {
        Objective::Lexicographic { terms } => join(terms.iter().map(|term| term.metric).collect(), ", then "),
        Objective::Priced { terms } => {
            format!("price of {}", join(terms.iter().map(|term| term.metric).collect(), " + "))
        }
    };
    format!("{}; mode {mode}; least {objective}", policy.name)
}
