//! The desk between the loop and whoever asks it from outside: what it saw last, and a bell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sterna_core::continuum::Continuum;
use sterna_core::observation::Observation;
use sterna_core::report::Decision;
use sterna_policies::policy::{Mode, Policy};
use tokio::sync::Notify;

use crate::reload::Refused;
use crate::telemetry::ConfigFile;

/// What the loop saw and decided last.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the decision in the history.
    pub number: i64,
    /// When it was made.
    pub at: Timestamp,
    /// What was seen.
    pub observation: Observation,
    /// What was decided.
    pub decision: Decision,
    /// What was left out or replaced while observing.
    pub notes: Vec<String>,
}

/// What is in force, and what was seen last.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The continuum as the inventory has it.
    pub continuum: Arc<Continuum>,
    /// The policy's name.
    pub policy: String,
    /// The policy's mode.
    pub mode: Mode,
    /// `None` before the first look.
    pub seen: Option<Arc<Seen>>,
    /// Files whose content can't be used, and when that was found; what they said before is in force.
    pub refused: BTreeMap<ConfigFile, (Timestamp, Arc<Refused>)>,
}

/// Where the loop lays down what it saw, and hears that it should look at once.
#[derive(Debug)]
pub struct Desk {
    bell: Notify,
    standing: Mutex<Standing>,
}

impl Desk {
    /// Before the first look.
    pub fn new(continuum: &Continuum, policy: &Policy) -> Self {
        let standing = Standing {
            continuum: Arc::new(continuum.clone()),
            policy: policy.name.clone(),
            mode: policy.mode,
            seen: None,
            refused: BTreeMap::new(),
        };
        Self { bell: Notify::new(), standing: Mutex::new(standing) }
    }

    /// Has the loop look at once, or again once the look under way has ended.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until somebody rings.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What is in force, and what was seen last.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A file has another content: one that is in force, or one that is refused.
    pub fn read_again(&self, file: ConfigFile, refused: Option<Refused>, now: Timestamp) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match refused {
            Some(refused) => drop(standing.refused.insert(file, (now, Arc::new(refused)))),
            None => drop(standing.refused.remove(&file)),
        }
    }

    pub(super) fn lay_down(&self, policy: &Policy, seen: Seen) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if *standing.continuum != seen.observation.continuum {
            standing.continuum = Arc::new(seen.observation.continuum.clone());
        }
        standing.policy.clone_from(&policy.name);
        standing.mode = policy.mode;
        standing.seen = Some(Arc::new(seen));
    }
}
