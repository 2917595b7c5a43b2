//! The demo, called by `./demo`, which sees to what it needs: an engine, Debian's packages, root.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use sterna_e2e::stage::Stage;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::{docker, story};
use tokio::signal::unix::{SignalKind, signal};

/// Shows a Redis that moves live from one site to another because its users did.
#[derive(Debug, Parser)]
struct Arguments {
    /// The sterna binary.
    #[arg(long)]
    binary: PathBuf,
    /// Leave everything running at the end, until interrupted.
    #[arg(long)]
    keep: bool,
}

#[expect(clippy::print_stdout, reason = "the demo tells its story there")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "where errors belong")]
fn complain(line: &str) {
    eprintln!("{line}");
}

/// The signals that end the demo, and how a shell counts them.
async fn interrupted() -> std::io::Result<u8> {
    let (mut interrupt, mut terminate, mut hang_up) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    })
}

/// One demo at a time: two would fight over the same nodes.
struct Alone {
    path: PathBuf,
    /// The kernel lets go of it when we end, however that is.
    _locked: File,
}

impl Alone {
    fn take() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join("sterna-demo.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _locked: file }),
            Err(TryLockError::WouldBlock) => anyhow::bail!("a demo is running already"),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let sterna = Sterna::at(&arguments.binary);
    let _alone = match Alone::take() {
        Ok(lock) => lock,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut story = Box::pin(story::tell(&sterna, say));
    let told = tokio::select! {
        signal = interrupted() => Err(signal.unwrap_or(1)),
        told = &mut story => Ok(told),
    };
    let (scheduler, stage) = match told {
        Ok(Ok(standing)) => standing,
        Ok(Err(error)) => {
            complain(&format!("\nerror: {error:#}"));
            return given_up(story, 1).await;
        }
        Err(signal) => {
            complain("\ninterrupted");
            return given_up(story, signal).await;
        }
    };
    if arguments.keep {
        look_around(&sterna, &stage);
        let _signal = interrupted().await;
    }
    say("\n== Cleaning up\n");
    // The scheduler first: nothing moves any more while nodes go.
    drop(scheduler);
    match stage.strike().await {
        Ok(()) => {
            say("  nothing is left: no container, network, volume, process or file");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Strikes a stage that was not, or not wholly, raised: dropped, everything on it ends and is removed.
async fn given_up<T>(story: T, code: u8) -> ExitCode {
    complain("removing what was started ...");
    drop(story);
    match docker::left_over("sterna-demo").await {
        Ok(left) if left.is_empty() => complain("nothing is left"),
        Ok(left) => complain(&format!("left behind, please report it: {}", left.join(", "))),
        Err(error) => complain(&format!("whether anything is left can't be told: {error:#}")),
    }
    ExitCode::from(code)
}

fn look_around(sterna: &Sterna, stage: &Stage) {
    let continuum = stage.continuum();
    say("\n== 5. Everything keeps running, as you asked; press Ctrl-C to remove it\n");
    say(&format!("  Prometheus        {}", stage.monitoring().url()));
    say(&format!(
        "  nodes             {} sites status {}",
        sterna.path().display(),
        continuum.file().display()
    ));
    say(&format!("                      --state {}", continuum.state().display()));
    for (node, site) in continuum.nodes() {
        say(&format!("  {site:<16}  docker exec {} docker ps", continuum.container(node)));
    }
    say(&format!("  files             {}", continuum.folder().display()));
}
