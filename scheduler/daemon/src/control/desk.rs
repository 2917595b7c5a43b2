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

/// A policy in force, and what was seen last for it.
#[derive(Debug, Clone)]
pub struct Governs {
    /// Its name.
    pub policy: String,
    /// Its mode.
    pub mode: Mode,
    /// `None` before its first look.
    pub seen: Option<Arc<Seen>>,
}

/// What is in force, and what was seen last.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The continuum as the inventory has it.
    pub continuum: Arc<Continuum>,
    /// The policies, the highest priority first.
    pub policies: Vec<Governs>,
    /// Files whose content can't be used, and when that was found; what they said before is in force.
    pub refused: BTreeMap<ConfigFile, (Timestamp, Arc<Refused>)>,
}

impl Standing {
    /// What was seen last, for whichever policy.
    pub fn newest(&self) -> Option<&Seen> {
        let seen = self.policies.iter().filter_map(|one| one.seen.as_deref());
        seen.max_by_key(|seen| (seen.at, seen.number))
    }
}

/// Where the loop lays down what it saw, and hears that it should look at once.
#[derive(Debug)]
pub struct Desk {
    bell: Notify,
    standing: Mutex<Standing>,
}

impl Desk {
    /// Before the first look.
    pub fn new(continuum: &Continuum, policies: &[Policy]) -> Self {
        let standing = Standing {
            continuum: Arc::new(continuum.clone()),
            policies: Vec::new(),
            refused: BTreeMap::new(),
        };
        let desk = Self { bell: Notify::new(), standing: Mutex::new(standing) };
        desk.in_force(policies);
        desk
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

    /// These policies are in force from now on; what was seen for them before stays.
    pub(super) fn in_force(&self, policies: &[Policy]) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut standing.policies);
        let seen = |name: &str| before.iter().find(|one| one.policy == name)?.seen.clone();
        let governs = |policy: &Policy| Governs {
            policy: policy.name.clone(),
            mode: policy.mode,
            seen: seen(&policy.name),
        };
        standing.policies = policies.iter().map(governs).collect();
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
        if standing.continuum != seen.observation.continuum {
            standing.continuum = Arc::clone(&seen.observation.continuum);
        }
        if let Some(governs) = standing.policies.iter_mut().find(|one| one.policy == policy.name) {
            governs.seen = Some(Arc::new(seen));
        }
    }
}
