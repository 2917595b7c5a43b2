//! The `sterna` binary, as users run it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::process::{self, Finished, bound};

/// Where the binary is.
#[derive(Debug, Clone)]
pub struct Sterna {
    binary: PathBuf,
    environment: Vec<(String, String)>,
}

impl Sterna {
    /// The binary at this path.
    pub fn at(binary: &Path) -> Self {
        Self { binary: binary.to_owned(), environment: Vec::new() }
    }

    /// The binary that `STERNA_BINARY` names, or the one that was built beside this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn built() -> anyhow::Result<Self> {
        if let Some(path) = std::env::var_os("STERNA_BINARY") {
            return Ok(Self::at(Path::new(&path)));
        }
        let own = std::env::current_exe()?;
        // Programs stand in the folder of the profile, tests one below.
        let found =
            own.ancestors().skip(1).take(2).map(|folder| folder.join("sterna")).find(|path| path.is_file());
        let binary = found.with_context(|| {
            format!(
                "there is no sterna binary beside {}: build it with `cargo build --workspace`",
                own.display()
            )
        })?;
        Ok(Self::at(&binary))
    }

    /// The same, with an environment variable in every command.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Environment variables that every command has.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.binary
    }

    /// A command of it, to be given arguments.
    pub fn command(&self) -> tokio::process::Command {
        let mut command = bound(&self.binary);
        command.envs(self.environment());
        command
    }

    /// Runs a command of it in `folder`, with environment variables, to its end, and gives all that it printed.
    ///
    /// # Errors
    /// When it can't be started. That it failed stands in the answer.
    pub async fn run_in(
        &self,
        folder: &Path,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> anyhow::Result<Finished> {
        let mut command = self.command();
        command.current_dir(folder).args(arguments).envs(environment.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        process::run(&mut command).await.with_context(|| format!("can't start {}", self.binary.display()))
    }

    /// Runs a command of it that must succeed, its messages going through to ours; gives its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn must(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::piped());
        let finished = process::run(&mut command)
            .await
            .with_context(|| format!("can't start {}", self.binary.display()))?;
        if !finished.status.success() {
            bail!(
                "`sterna {}` failed ({}):\n{}",
                arguments.join(" "),
                finished.status,
                finished.stdout.trim()
            );
        }
        Ok(finished.stdout)
    }
}
