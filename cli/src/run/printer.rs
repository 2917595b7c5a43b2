//! What `sterna run` prints while it runs.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sterna_core::difference::Difference;
use sterna_core::explain;
use sterna_daemon::control::notice::{Decided, Notice};
use sterna_daemon::control::world::{Clock as _, SystemClock};
use sterna_daemon::reload::{FileError, Refused};
use sterna_executor::migration::report::Event;
use sterna_policies::policy::Mode;

use super::{say, span, warn};
use crate::migrate;

/// Places at which two contents of a file differ; of very many, so many.
const MOST_PLACES: usize = 50;

fn places(differences: &[Difference]) {
    for difference in differences.iter().take(MOST_PLACES) {
        say(&format!("  {difference}"));
    }
    let more = differences.len().saturating_sub(MOST_PLACES);
    if more > 0 {
        say(&format!("  and {more} more"));
    }
}

/// How often the bytes of a phase under way are printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Prints what the scheduler tells.
pub struct Printer {
    verbose: bool,
    /// Whether it has to be said whose decision one is.
    several: bool,
    failed: Arc<AtomicBool>,
    /// When progress was last printed.
    progress: Mutex<Option<Instant>>,
}

impl Printer {
    /// Notes in `failed` when a cycle could not be completed.
    pub fn new(verbose: bool, several: bool, failed: Arc<AtomicBool>) -> Self {
        Self { verbose, several, failed, progress: Mutex::default() }
    }

    /// Prints one thing.
    pub fn tell(&self, notice: &Notice<'_>) {
        match notice {
            Notice::Reloaded(file, warnings, differences) => {
                warn(warnings);
                let same = if differences.is_empty() { "; it says the same as before" } else { "" };
                say(&format!("{} reloaded{same}", file.name()));
                places(differences);
            }
            Notice::ReloadRefused(file, Refused { error, written }) => {
                let report = match error {
                    FileError::Invalid(invalid) => format!("{:?}", miette::Report::from(invalid.clone())),
                    other => other.to_string(),
                };
                say(&format!("{} not reloaded, the old one stays in force:\n{report}", file.name()));
                if let Some(written) = written.as_ref().filter(|written| !written.is_empty()) {
                    say("written differently from what is in force:");
                    places(written);
                }
            }
            Notice::Compared(number, decisions) => {
                say(&format!("decision {number}, by the policy before and by the one in force:"));
                say(decisions.to_string().trim_end());
            }
            Notice::Decided(decided) => self.decided(decided),
            Notice::Breaker(Some(circuit)) => say(&format!("the circuit breaker opened: {circuit}")),
            Notice::Breaker(None) => say("the circuit breaker closed again"),
            Notice::Moving(id, planned) => {
                say(&format!("moving {} (migration {id})", explain::of_move(planned)));
            }
            Notice::Event(service, event) => self.event(service.as_str(), event),
            Notice::Ended(_, report) => say(migrate::table(report).trim_end()),
            Notice::NotSeen(planned, reason) => say(&format!("{} not moved: {reason}", planned.service)),
            Notice::Settled(line) => say(line),
            Notice::Failed(_, reason) => {
                self.failed.store(true, Ordering::Relaxed);
                say(&format!("cycle not complete: {reason}"));
            }
            Notice::PutUp(id, _, expires) => {
                say(&format!("plan {id} waits for approval until {expires:.0}: `sterna approve {id}`"));
            }
            Notice::Approval(id, step, note) => {
                let note = if note.is_empty() { String::new() } else { format!(": {note}") };
                say(&format!("plan {id} {}{note}", step.name()));
            }
            Notice::LeftToAgents(services) => {
                let names: Vec<_> = services.iter().map(|service| service.as_str()).collect();
                say(&format!(
                    "left to the agents: {}; they finish or undo it by themselves, the next run says which",
                    names.join(", ")
                ));
            }
        }
    }

    fn decided(&self, decided: &Decided<'_>) {
        if !(decided.news || self.verbose) {
            return;
        }
        let whose = if self.several { format!("  {}:", decided.policy) } else { String::new() };
        let at = format!("{}{whose}", SystemClock.now().strftime("%H:%M:%S UTC"));
        // Mode `observe` records and shows nothing to be done.
        if decided.mode == Mode::Observe && !self.verbose {
            let verdict = explain::verdict(&decided.decision.report.verdict);
            say(&format!("{at}  {verdict} (mode observe: recorded only; `sterna plan` shows it)"));
        } else {
            say(&format!("{at}  {}", explain::text(decided.decision).trim_end()));
            if !decided.acted_on && !decided.decision.plan.moves.is_empty() {
                let waits = if decided.mode == Mode::Approve { " before it is approved" } else { "" };
                say(&format!("mode {}: nothing is moved{waits}", decided.mode.name()));
            }
        }
        for note in decided.notes {
            say(&format!("note: {note}"));
        }
    }

    fn event(&self, service: &str, event: &Event) {
        match event {
            Event::Reached(reached) => {
                let bytes = if reached.bytes.0 == 0 { String::new() } else { format!("  {}", reached.bytes) };
                say(&format!("  {service}: {:<11} {:>9}{bytes}", reached.phase, span(reached.took)));
            }
            Event::Progress { bytes, of, per_second } => {
                let mut last = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
                // Only for someone who watches.
                if std::io::stdout().is_terminal() && last.is_none_or(|last| last.elapsed() > PROGRESS_EVERY)
                {
                    *last = Some(Instant::now());
                    let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
                    say(&format!("  {service}: {bytes}{of} sent, {per_second}/s"));
                }
            }
            Event::Ended(_) => {}
        }
    }
}
