//! What people have said: pause, cordon, drain, opt-out. Given and taken back, each with who, when and why.

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};
use sterna_core::directive::{Ask, Directive, Directives};

use super::decision::{instant, json, odd, parse};
use super::{HistoryError, HistoryStore, explain};

impl HistoryStore {
    /// Records that a directive is given, or taken back. Gives whether that is news.
    ///
    /// # Errors
    /// When it can't be written; then it is not in force.
    pub async fn direct(&self, directive: Directive, given: bool) -> Result<bool, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let Directive { ask, by, at, reason } = directive;
            let ask = json(&ask, path)?;
            // Reads before it writes, so it has to wait for its turn at once.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let now: Option<bool> = transaction
                .query_row(
                    "SELECT given FROM directive WHERE ask = ?1 ORDER BY id DESC LIMIT 1",
                    [&ask],
                    |row| row.get(0),
                )
                .optional()
                .map_err(failed)?;
            if now.unwrap_or(false) == given {
                return Ok(false);
            }
            transaction
                .execute(
                    "INSERT INTO directive (at, ask, given, by, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![instant(at), ask, given, by, reason],
                )
                .map_err(failed)?;
            transaction.commit().map_err(failed)?;
            Ok(true)
        })
        .await
    }

    /// The directives in force, oldest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn directives(&self) -> Result<Directives, HistoryError> {
        if !self.knows_people() {
            return Ok(Directives::default());
        }
        self.work(|connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT at, ask, by, reason FROM directive
                     WHERE id IN (SELECT max(id) FROM directive GROUP BY ask) AND given ORDER BY id",
                )
                .map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let text = |index: usize| row.get::<_, String>(index).map_err(failed);
                let at = text(0)?;
                let ask: Ask = parse(&text(1)?, "directive", path)?;
                let at = at.parse().map_err(|error| odd(path, "directive", &error))?;
                found.push(Directive { ask, by: text(2)?, at, reason: row.get(3).map_err(failed)? });
            }
            Ok(Directives(found))
        })
        .await
    }
}
