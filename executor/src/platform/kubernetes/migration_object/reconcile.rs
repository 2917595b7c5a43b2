//! What is to be done so that objects say what is known.
//!
//! At most one writing of each object in a look: the next look sees what came of it, and does the next. So a writing that is lost, done
//! twice or overtaken needs no care of its own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sterna_core::continuum::NodeName;

use super::account::{Account, Known};
use super::occurrence::{self, Occurrence};
use super::resource::{CONTINUUM, FINALIZER, Migration, MigrationStatus};
use super::status;
use crate::migration::order::MigrationId;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make an object.
    Create(Box<Migration>),
    /// Write what it should say, if it is still of the version that was looked at.
    Tell {
        /// The object as it was seen.
        object: Box<Migration>,
        /// What it should say.
        status: Box<MigrationStatus>,
        /// What is worth an event once that is written.
        happened: Vec<Occurrence>,
    },
    /// Put these finalizers in place of those that it has, if it is still of that version.
    Hold {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// The finalizers.
        finalizers: Vec<String>,
    },
    /// Have the migration undone.
    Cancel {
        /// Which.
        id: MigrationId,
        /// The node that it leaves.
        from: NodeName,
    },
    /// Remove an old object.
    Remove {
        /// Its name.
        name: String,
        /// Another one of the same name is not meant.
        uid: String,
    },
}

impl Step {
    /// Whether an object is written.
    pub const fn writes(&self) -> bool {
        !matches!(self, Self::Cancel { .. })
    }
}

/// What is to be done about the objects that were seen.
pub fn reconcile(known: &Known, seen: &[Migration], now: Timestamp) -> Vec<Step> {
    let accounts: BTreeMap<MigrationId, &Account> = known.accounts.iter().map(|one| (one.id, one)).collect();
    let ours = seen.iter().filter(|object| is_of(object, &known.continuum));
    let objects: BTreeMap<MigrationId, &Migration> =
        ours.filter_map(|object| Some((object.id()?, object))).collect();
    let absent =
        |account: &&&Account| !objects.contains_key(&account.id) && (!account.has_ended() || !account.shown);
    let mut steps: Vec<Step> = accounts
        .values()
        .filter(absent)
        .map(|account| Step::Create(Box::new(Migration::of(account, &known.continuum))))
        .collect();
    let mut at_rest = BTreeSet::new();
    for (id, object) in &objects {
        let account = accounts.get(id).copied();
        // What nobody has been asked about may be known to somebody.
        if account.is_none() && !known.asked {
            continue;
        }
        if object.is_to_go()
            && let Some(account) = account.filter(|account| account.can_be_undone())
        {
            steps.push(Step::Cancel { id: *id, from: account.from.clone() });
        }
        let ended = account.is_none_or(Account::has_ended);
        if let Some(status) = status::due(object, account, now) {
            let happened = occurrence::between(object, &status);
            steps.push(Step::Tell {
                object: Box::new((*object).clone()),
                status: Box::new(status),
                happened,
            });
        } else if ended && object.is_held() {
            steps.push(hold(object, false));
        } else if !ended && !object.is_held() && !object.is_to_go() {
            steps.push(hold(object, true));
        } else if ended && !object.is_to_go() {
            at_rest.insert(*id);
        }
    }
    // Ids sort by time.
    let old = at_rest.len().saturating_sub(known.keep);
    let removed = at_rest.iter().take(old).filter_map(|id| objects.get(id)).map(|object| Step::Remove {
        name: object.name().to_owned(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
    });
    steps.extend(removed);
    steps
}

/// Whether an object is of that continuum: by its label, and by what it was made with where somebody has taken that away.
fn is_of(object: &Migration, continuum: &str) -> bool {
    let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(CONTINUUM));
    label.unwrap_or(&object.spec.continuum) == continuum
}

fn hold(object: &Migration, held: bool) -> Step {
    let others = object.metadata.finalizers.iter().flatten().filter(|one| *one != FINALIZER).cloned();
    Step::Hold {
        name: object.name().to_owned(),
        version: object.metadata.resource_version.clone().unwrap_or_default(),
        finalizers: others.chain(held.then(|| FINALIZER.to_owned())).collect(),
    }
}
