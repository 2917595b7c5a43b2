//! The `sterna` binary with fault points: `sterna-faults`, built beside this program and never in the place of the one that is
//! shipped.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};

/// Its name in the folder of the profile.
const NAME: &str = "sterna-faults";
/// In the program with fault points, and in no other.
const MARK: &[u8] = b"/run/sterna/faults";

/// Whether a binary has fault points.
///
/// # Errors
/// When it can't be read.
pub fn has_fault_points(binary: &Path) -> anyhow::Result<bool> {
    let content = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    Ok(content.windows(MARK.len()).any(|window| window == MARK))
}

/// The binary that is given, or else the one that is built now, in this program's own profile.
///
/// # Errors
/// When it can't be built, or has no fault points.
pub async fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let binary = match given {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build().await?,
    };
    ensure!(
        has_fault_points(&binary)?,
        "{} has no fault points: build it with `cargo build -p sterna --features faults --bin {NAME}`",
        binary.display()
    );
    Ok(binary)
}

async fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Programs stand in the folder of the profile, tests one below.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let folder = folder.with_context(|| format!("{} stands in no folder", own.display()))?;
    let target = folder.parent().with_context(|| format!("{} is no profile's folder", folder.display()))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = tokio::process::Command::new(cargo);
    command.args(["build", "--quiet", "-p", "sterna", "--features", "faults", "--bin", NAME]);
    command.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().await;
    let status =
        status.context("can't start cargo to build the binary with fault points; give one by --binary")?;
    if !status.success() {
        bail!("cargo can't build the binary with fault points ({status}); what it said stands above");
    }
    Ok(folder.join(NAME))
}
