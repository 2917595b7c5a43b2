//! Plans that are put up for approval, and what became of them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::Serialize;
use std::path::Path;

use super::decision::{instant, odd};
use super::{HistoryError, HistoryStore, explain};

/// What became of a plan that was put up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A person approved it; the next look carries it out if the state still holds.
    Approved,
    /// Its orders are given.
    Begun,
    /// It was approved, and the state was not the same any more, or nothing of it could be ordered.
    Refused,
    /// A newer decision has another plan, or none.
    Superseded,
    /// Nobody approved it in time.
    Expired,
}

impl Step {
    const ALL: [Self; 5] = [Self::Approved, Self::Begun, Self::Refused, Self::Superseded, Self::Expired];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Begun => "begun",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }
}

/// A step, when it was made, by whom, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Stepped {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What.
    pub step: Step,
    /// Who, where it was a person.
    pub by: Option<String>,
    /// Why, where there is more to say.
    pub note: Option<String>,
}

/// A plan that was put up for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Proposal {
    /// The number of its decision, which is its id.
    pub id: i64,
    /// The policy whose plan it is.
    pub policy: String,
    /// When it was put up.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when it may be approved.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// What became of it so far, in order; nothing while it waits.
    pub steps: Vec<Stepped>,
}

impl Proposal {
    /// The last step; `None` while it waits for a person.
    pub fn last(&self) -> Option<Step> {
        self.steps.last().map(|one| one.step)
    }

    /// Whether it waits for a person, or for the next look after one approved it.
    pub fn is_open(&self) -> bool {
        matches!(self.last(), None | Some(Step::Approved))
    }
}

/// What came of approving a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is approved now.
    Approved,
    /// No plan of that number was put up.
    Unknown,
    /// It does not wait for approval any more.
    Over(Step),
}

impl HistoryStore {
    /// Records that the plan of a decision is put up for approval.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn put_up(&self, id: i64, at: Timestamp, expires: Timestamp) -> Result<(), HistoryError> {
        self.work(move |connection, path| {
            connection
                .execute(
                    "INSERT INTO approval (decision, at, expires) VALUES (?1, ?2, ?3)",
                    params![id, instant(at), instant(expires)],
                )
                .map_err(|error| explain(path, error))?;
            Ok(())
        })
        .await
    }

    /// Records what became of a plan that was put up.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn step(&self, id: i64, stepped: Stepped) -> Result<(), HistoryError> {
        self.work(move |connection, path| insert(connection, id, &stepped, path)).await
    }

    /// Approves a plan that was put up, waits, and has not expired.
    ///
    /// # Errors
    /// When it can't be written; then it is not approved.
    pub async fn approve(&self, id: i64, by: String, now: Timestamp) -> Result<Answer, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            // Reads before it writes, so it has to wait for its turn at once.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let Some(proposal) = read(&transaction, id, path)? else { return Ok(Answer::Unknown) };
            if let Some(step) = proposal.last() {
                return Ok(Answer::Over(step));
            }
            if now >= proposal.expires {
                return Ok(Answer::Over(Step::Expired));
            }
            let stepped = Stepped { at: now, step: Step::Approved, by: Some(by), note: None };
            insert(&transaction, id, &stepped, path)?;
            transaction.commit().map_err(failed)?;
            Ok(Answer::Approved)
        })
        .await
    }

    /// The plans that wait, for a person or for the next look, oldest first; of each policy only the newest can.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn open_proposals(&self) -> Result<Vec<Proposal>, HistoryError> {
        if !self.knows_people() {
            return Ok(Vec::new());
        }
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT decision FROM approval WHERE NOT EXISTS (
                         SELECT 1 FROM approval_step WHERE decision = approval.decision AND step <> 'approved')
                     ORDER BY decision",
                )
                .map_err(failed)?;
            let ids = statement.query_map([], |row| row.get::<_, i64>(0)).map_err(failed)?;
            let ids = ids.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            ids.into_iter().filter_map(|id| read(connection, id, path).transpose()).collect()
        })
        .await
    }

    /// The newest plans that were put up, newest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn proposals(&self, limit: u32) -> Result<Vec<Proposal>, HistoryError> {
        if !self.knows_people() {
            return Ok(Vec::new());
        }
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached("SELECT decision FROM approval ORDER BY decision DESC LIMIT ?1")
                .map_err(failed)?;
            let ids = statement.query_map([limit], |row| row.get::<_, i64>(0)).map_err(failed)?;
            let ids = ids.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            let found = ids.into_iter().filter_map(|id| read(connection, id, path).transpose());
            found.collect()
        })
        .await
    }

    /// A plan that was put up; `None` where there is none of that number.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn proposal(&self, id: i64) -> Result<Option<Proposal>, HistoryError> {
        if !self.knows_people() {
            return Ok(None);
        }
        self.work(move |connection, path| read(connection, id, path)).await
    }
}

fn insert(connection: &Connection, id: i64, stepped: &Stepped, path: &Path) -> Result<(), HistoryError> {
    let Stepped { at, step, by, note } = stepped;
    connection
        .execute(
            "INSERT INTO approval_step (decision, at, step, by, note) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, instant(*at), step.name(), by, note],
        )
        .map_err(|error| explain(path, error))?;
    Ok(())
}

fn read(connection: &Connection, id: i64, path: &Path) -> Result<Option<Proposal>, HistoryError> {
    let failed = |error| explain(path, error);
    let name = format!("approval {id}");
    let time = |text: String| text.parse::<Timestamp>().map_err(|error| odd(path, &name, &error));
    let put_up = connection
        .query_row(
            "SELECT approval.at, expires, body ->> '$.name' FROM approval
             JOIN decision ON id = approval.decision
             JOIN document ON hash = policy
             WHERE approval.decision = ?1",
            [id],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)),
        )
        .optional()
        .map_err(failed)?;
    let Some((at, expires, policy)) = put_up else { return Ok(None) };
    let mut statement = connection
        .prepare_cached("SELECT at, step, by, note FROM approval_step WHERE decision = ?1 ORDER BY id")
        .map_err(failed)?;
    let mut rows = statement.query([id]).map_err(failed)?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let word: String = row.get(1).map_err(failed)?;
        let step = Step::ALL.into_iter().find(|one| one.name() == word);
        steps.push(Stepped {
            at: time(row.get(0).map_err(failed)?)?,
            step: step.ok_or_else(|| odd(path, &name, &"unknown step"))?,
            by: row.get(2).map_err(failed)?,
            note: row.get(3).map_err(failed)?,
        });
    }
    Ok(Some(Proposal { id, policy, at: time(at)?, expires: time(expires)?, steps }))
}
