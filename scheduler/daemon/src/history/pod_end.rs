//! Pods of nodes that were seen to end.

use jiff::Timestamp;
use rusqlite::params;
use sterna_core::history::Outcome;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::pod_end::PodEnd;

use super::decision::{instant, json, odd, parse};
use super::migration::outcome_name;
use super::{HistoryError, HistoryStore, explain};

impl HistoryStore {
    /// Records the end of a pod; gives whether it is news.
    ///
    /// # Errors
    /// When it can't be written; then nothing may be made of it.
    pub async fn record_pod_end(&self, end: PodEnd) -> Result<bool, HistoryError> {
        self.work(move |connection, path| {
            let body = json(&end, path)?;
            let written = connection
                .execute(
                    "INSERT INTO pod_end (uid, node, seen, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                    params![end.uid, end.node.as_str(), instant(end.seen), body],
                )
                .map_err(|error| explain(path, error))?;
            Ok(written > 0)
        })
        .await
    }

    /// The ends of pods that were seen since a time, oldest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn pod_ends(&self, since: Timestamp) -> Result<Vec<PodEnd>, HistoryError> {
        if !self.knows_pods() {
            return Ok(Vec::new());
        }
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached("SELECT uid, body FROM pod_end WHERE seen >= ?1 ORDER BY seen, uid")
                .map_err(failed)?;
            let mut rows = statement.query([instant(since)]).map_err(failed)?;
            let mut ends = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let uid: String = row.get(0).map_err(failed)?;
                let body: String = row.get(1).map_err(failed)?;
                ends.push(parse(&body, &format!("pod_end {uid}"), path)?);
            }
            Ok(ends)
        })
        .await
    }

    /// Migrations that ended otherwise than with the service moved, from one time on, as they were begun.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn undone_since(&self, since: Timestamp) -> Result<Vec<MigrationId>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT id FROM migration JOIN intent USING (id) WHERE written >= ?1 AND outcome <> ?2",
                )
                .map_err(failed)?;
            let mut rows =
                statement.query(params![instant(since), outcome_name(Outcome::Moved)]).map_err(failed)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let id: String = row.get(0).map_err(failed)?;
                found.push(id.parse().map_err(|error| odd(path, &format!("migration {id}"), &error))?);
            }
            Ok(found)
        })
        .await
    }
}
