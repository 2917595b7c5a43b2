//! `sterna run` as the one who gives the order: its policy wants the cheapest place for one service, and by the inventory's
//! prices that is the destination.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sterna_e2e::scheduler::{Scheduler, Work};
use tokio::time::sleep;

use crate::history::{self, History, Ordered};
use crate::injection::{self, Injection, Service};
use crate::order::{DEADLINE, lease};
use crate::strike::Ends;
use crate::trial::TO_SETTLE;
use crate::world::{World, millis};

/// Time for the next life to look at the nodes while an agent stands still: below the freeze lease.
const TO_LOOK: Duration = Duration::from_secs(3);
/// The history, in the folder of the continuum's state.
const HISTORY: &str = "history.sqlite";
const PAUSE: Duration = Duration::from_millis(20);

/// `sterna run`, and what remains of its earlier lives. Dropped, it is asked to end.
#[derive(Debug)]
pub struct Daemon {
    life: Option<Scheduler>,
    work: Work,
    folder: PathBuf,
    file: PathBuf,
    /// Orders of earlier runs.
    known: BTreeSet<String>,
    /// Decisions before the life that runs.
    decisions: i64,
    printed: String,
}

impl Daemon {
    /// Starts it with a policy and prices that have it move this service to this destination.
    ///
    /// # Errors
    /// When the files can't be written or it can't be started.
    pub fn start(world: &World, injection: Injection, ends: &Ends) -> anyhow::Result<Self> {
        let folder = world.continuum.folder().join("daemon");
        std::fs::create_dir_all(&folder)?;
        let inventory = folder.join("inventory.toml");
        std::fs::write(&inventory, world.inventory_with_cheapest(&ends.to))?;
        let policy = policy(injection.service, lease(injection));
        let work = Work { inventory, state: world.continuum.state(), prometheus: None, policy };
        let file = world.continuum.state().join(world.continuum.name()).join(HISTORY);
        let known = history::orders(&file)?.into_iter().map(|one| one.id).collect();
        let mut daemon = Self { life: None, work, folder, file, known, decisions: 0, printed: String::new() };
        daemon.start_again(world)?;
        Ok(daemon)
    }

    /// Starts it once more, on the same files and state.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_again(&mut self, world: &World) -> anyhow::Result<()> {
        self.decisions = history::decisions(&self.file)?;
        self.life = Some(Scheduler::start(&world.sterna, &self.work, &self.folder, |_line| {})?);
        Ok(())
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.life.as_mut().is_some_and(Scheduler::runs)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let life = self.life.take().context("`sterna run` does not run")?;
        self.printed.push_str(&life.kill().await?);
        self.printed.push_str("-- killed --\n");
        Ok(())
    }

    /// Waits until this life has decided once, or that takes too long.
    pub async fn look_once(&self) {
        let start = Instant::now();
        let looked = || history::decisions(&self.file).is_ok_and(|decisions| decisions > self.decisions);
        while !looked() && start.elapsed() < TO_LOOK {
            sleep(PAUSE).await;
        }
    }

    /// The orders of this run.
    fn orders(&self) -> anyhow::Result<Vec<Ordered>> {
        let mut orders = history::orders(&self.file)?;
        orders.retain(|one| !self.known.contains(&one.id));
        Ok(orders)
    }

    /// Waits until it has seen every order of its to its end and, unless that was made impossible, the service moved; then has it
    /// stop in order. Gives what it has written down.
    ///
    /// # Errors
    /// When the history can't be read.
    pub async fn finish(mut self, injection: Injection) -> anyhow::Result<History> {
        let mut wrong = Vec::new();
        let start = Instant::now();
        loop {
            // It may be making the tables just now.
            let orders = self.orders().unwrap_or_default();
            if is_over(&orders, injection::needs_failure(injection.point)) {
                break;
            }
            if !self.runs() {
                wrong.push("`sterna run` has ended by itself".to_owned());
                break;
            }
            if start.elapsed() > TO_SETTLE {
                wrong.push(format!("`sterna run` does not bring the move to its end within {TO_SETTLE:?}"));
                break;
            }
            sleep(PAUSE).await;
        }
        if let Some(mut life) = self.life.take() {
            life.ask_to_stop();
            match life.ended(TO_SETTLE).await {
                Ok((code, printed)) => {
                    self.printed.push_str(&printed);
                    if code != Some(0) {
                        wrong.push(format!("`sterna run` ended with {code:?}"));
                    }
                }
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        let orders = self.orders()?;
        Ok(History { orders, wrong, printed: self.printed })
    }
}

/// Whether the end of every order is known, and nothing more is to be expected: what was rolled back is decided anew, for as
/// long as it can be moved at all.
fn is_over(orders: &[Ordered], can_not_be_moved: bool) -> bool {
    let known = orders.iter().all(|one| !one.outcomes.is_empty());
    let moved = orders.last().is_some_and(|one| one.outcomes.iter().any(|end| end.outcome == "moved"));
    known && (moved || (can_not_be_moved && !orders.is_empty()))
}

/// Here migrations fail as often as they like, and the service is to arrive all the same.
fn policy(service: Service, lease: Duration) -> String {
    format!(
        "schema_version = 1\nname = \"the-cheapest\"\nmode = \"auto\"\n[select]\nservices = [\"{}\"]\n\
         [objective]\nmethod = \"lexicographic\"\n[[objective.term]]\nmetric = \"cost_rate\"\n\
         [trigger]\ninterval = \"200ms\"\nsettle = \"0s\"\n\
         [hysteresis]\nmin_gain = \"1%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n\
         [breaker]\nfailures = 0\n\
         [migration]\ndeadline = \"{}\"\nfreeze_lease = \"{}\"\n",
        service.name(),
        millis(DEADLINE),
        millis(lease)
    )
}

#[cfg(test)]
mod tests {
    use crate::history::tests::ordered;

    use super::*;

    #[test]
    fn it_is_over_when_every_end_is_known_and_the_service_moved_if_it_can_be() {
        assert!(!is_over(&[], false) && !is_over(&[], true));
        let open = ordered("1", 0, &[]);
        let back = ordered("1", 0, &["rolled-back"]);
        let moved = ordered("2", 9, &["moved"]);
        assert!(!is_over(std::slice::from_ref(&open), true) && !is_over(&[open, moved.clone()], false));
        assert!(!is_over(std::slice::from_ref(&back), false) && is_over(std::slice::from_ref(&back), true));
        assert!(is_over(&[back, moved], false));
    }
}
