//! The quick run: every target on its genuine messages, on what was found before, and on some changes; without coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::target::{self, Target};
use crate::{found, mutate, room};

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many changed inputs each target reads; those that make files of them a tenth.
    #[arg(long, default_value_t = 2000)]
    pub cases: u32,
    /// Decides the changes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where it may write.
    #[arg(long, value_name = "FOLDER", default_value = "target/fuzz")]
    pub work: PathBuf,
}

/// Reads all inputs, and fails if anything was found.
///
/// # Errors
/// When a file can't be read or written.
#[expect(clippy::print_stdout, reason = "what was found is what is asked for")]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let closed = enter(&args.work);
    let mut clean = true;
    for target in target::ALL {
        if let (true, Err(error)) = (target.files, &closed) {
            println!("SKIPPED {}: hostile files need a room of their own: {error:#}", target.name);
            continue;
        }
        let mut inputs = (target.seeds)();
        inputs.extend(found::regressions(target.name)?.into_iter().map(|(_, input)| input));
        let mut random = fastrand::Rng::with_seed(args.seed);
        let cases = if target.files { args.cases / 10 } else { args.cases };
        let changed: Vec<_> =
            (0..cases).map(|_| mutate::mutate(&mut random, &inputs, target.longest)).collect();
        inputs.extend(changed);
        let bad = inputs.iter().find(|input| !reads(target, input));
        if let Some(input) = bad {
            clean = false;
            println!(
                "FOUND in {}: the panic stands above, this is the input:\n{}",
                target.name,
                found::encode(input)
            );
        } else {
            println!("{}: {} inputs", target.name, inputs.len());
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn enter(work: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(work).with_context(|| work.display().to_string())?;
    Ok(room::enter(work)?)
}

/// Whether a target reads an input without finding anything.
pub fn reads(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.read)(input))).is_ok()
}

/// An input that was found.
#[derive(Debug, Clone, clap::Args)]
pub struct Replay {
    /// Its target.
    pub target: String,
    /// Its file, as text.
    pub file: PathBuf,
    /// Where it may write.
    #[arg(long, value_name = "FOLDER", default_value = "target/fuzz")]
    pub work: PathBuf,
}

/// Reads one input; panics as it did when it was found.
///
/// # Errors
/// When there is no such target or file, or no room of its own.
pub fn replay(args: &Replay) -> anyhow::Result<ExitCode> {
    let target =
        target::named(&args.target).with_context(|| format!("no target is named `{}`", args.target))?;
    let input = found::read(&args.file)?;
    enter(&args.work)?;
    Ok(if reads(target, &input) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
