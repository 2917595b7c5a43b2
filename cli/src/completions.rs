//! `sterna completions` and `sterna man`: what the command line says of itself, for shells and for `man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

/// Arguments of `sterna completions`.
///
/// For example `sterna completions bash > /etc/bash_completion.d/sterna`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `sterna man`.
///
/// For example `sterna man /usr/local/share/man/man1`.
#[derive(Debug, clap::Args)]
pub struct Pages {
    /// The folder; it is made if there is none. Pages that are there already are written anew.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of all commands, for `program`.
pub fn run(args: Args, mut command: Command, program: &str) -> anyhow::Result<ExitCode> {
    // Through memory: a reader that went away is no reason to panic, as the generator would.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, program, &mut text);
    crate::run::say(String::from_utf8_lossy(&text).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Writes one page for each command.
pub fn pages(args: Pages, command: Command) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("can't write to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
