//! The guided binary, built beside this program: our own crates with coverage, and their dependencies as ever.
//!
//! Cargo calls this program in place of the compiler for the crates of the workspace alone (`RUSTC_WORKSPACE_WRAPPER`), so that
//! nothing else has to be built anew. Generic code of dependencies, such as what reads JSON, comes out with coverage too.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Its name in the folder of the profile.
const NAME: &str = "sterna-fuzz-guided";
/// Set where cargo calls this program for the compiler.
const MARK: &str = "STERNA_FUZZ_INSTRUMENT";
/// What libFuzzer needs: counters and comparisons, all in one piece so that the linker keeps them.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Where cargo calls this program for the compiler, becomes the compiler; else returns.
///
/// # Errors
/// When the compiler can't be run.
pub fn become_compiler() -> anyhow::Result<()> {
    if std::env::var_os(MARK).is_none() {
        return Ok(());
    }
    let mut arguments = std::env::args_os().skip(1);
    let compiler: OsString = arguments.next().context("no compiler is named")?;
    let error = Command::new(&compiler).args(arguments).args(COVERAGE).exec();
    Err(error).with_context(|| format!("can't run {}", compiler.display()))
}

/// Builds the guided binary. In the profile for development, which checks sums and assertions.
///
/// # Errors
/// When it can't be built.
pub fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program stands in no folder")?;
    let target = folder.parent().with_context(|| format!("{} is no profile's folder", folder.display()))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "sterna-fuzz", "--features", "guided", "--bin", NAME]);
    command.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("RUSTC_WORKSPACE_WRAPPER", &own).env(MARK, "1");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.context("can't start cargo to build the guided binary")?;
    if !status.success() {
        bail!("cargo can't build the guided binary ({status}); what it said stands above");
    }
    Ok(target.join("debug").join(NAME))
}
