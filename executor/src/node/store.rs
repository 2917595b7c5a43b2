//! The agent's durable memory, in SQLite with every write on the disk before it counts.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use sterna_core::continuum::{NodeName, ServiceName};
use thiserror::Error;

use crate::migration::machine::{Decision, Register, StepError};
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::report::Report;

use super::api::{Certificate, Reservation};

/// The store can't be read or written.
#[derive(Debug, Error)]
#[error("the agent's register can't be {what}: {source}")]
pub struct StoreError {
    what: &'static str,
    source: rusqlite::Error,
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError { what, source }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS departures (
        id TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        container TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        migration TEXT NOT NULL,
        phase TEXT,
        decision TEXT NOT NULL DEFAULT 'undecided',
        restart TEXT,
        report TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS arrivals (
        id TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        source TEXT NOT NULL,
        container TEXT NOT NULL,
        reservation TEXT NOT NULL,
        state TEXT NOT NULL,
        certificate TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS epochs (
        service TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL
    ) STRICT;
    PRAGMA user_version = 1;
";

/// How far a service has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalState {
    /// Its container exists and does not run as the service: created, or restored and held.
    Held,
    /// It runs here, with the certificate.
    Released,
    /// The source is gone too.
    Finished,
    /// It was given up before the commit.
    Discarded,
}

impl ArrivalState {
    const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Released => "released",
            Self::Finished => "finished",
            Self::Discarded => "discarded",
        }
    }

    fn from_name(name: &str) -> Self {
        [Self::Released, Self::Finished, Self::Discarded]
            .into_iter()
            .find(|state| state.name() == name)
            .unwrap_or(Self::Held)
    }
}

/// A service on its way in, or that has come in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who sends it.
    pub source: NodeName,
    /// Its container here.
    pub container: String,
    /// What was agreed.
    pub reservation: Reservation,
    /// How far it has come.
    pub state: ArrivalState,
    /// The certificate it was released with.
    pub certificate: Option<Certificate>,
}

/// A migration that this node's agent drives or drove.
#[derive(Debug, Clone)]
pub struct Departure {
    /// What was ordered.
    pub order: Order,
    /// The container that leaves.
    pub container: String,
    /// The service's epoch before the migration.
    pub epoch: u64,
    /// What was reached; `None` for nothing.
    pub phase: Option<Phase>,
    /// What stands in the register.
    pub decision: Decision,
    /// Restart policy of the container before the migration, as JSON.
    pub restart: Option<String>,
    /// How it ended; `None` while it is under way.
    pub report: Option<Report>,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the store in `folder`, and makes it on first use.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = failed("opened");
        std::fs::create_dir_all(folder)
            .map_err(|_| failed(rusqlite::Error::InvalidPath(folder.to_owned())))?;
        let connection = Connection::open(folder.join("agent.db")).map_err(&failed)?;
        connection.execute_batch(SCHEMA).map_err(&failed)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves SQLite consistent: it writes in transactions.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new departure. `false` when it was noted before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn plan(
        &self,
        order: &Order,
        container: &str,
        epoch: u64,
        restart: Option<&str>,
    ) -> Result<bool, StoreError> {
        let rows = self.lock().execute(
            "INSERT OR IGNORE INTO departures (id, service, container, epoch, migration, restart) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![order.id.to_string(), order.service.as_str(), container, epoch as i64, json(order), restart],
        );
        Ok(rows.map_err(failed("written"))? == 1)
    }

    /// A departure by its id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn departure(&self, id: MigrationId) -> Result<Option<Departure>, StoreError> {
        Ok(self.departures("id = ?1", &id.to_string())?.pop())
    }

    /// Departures that have not ended.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn departures_under_way(&self) -> Result<Vec<Departure>, StoreError> {
        self.departures("report IS NULL AND ?1 = ''", "")
    }

    fn departures(&self, filter: &str, value: &str) -> Result<Vec<Departure>, StoreError> {
        let failed = failed("read");
        let connection = self.lock();
        let sql = format!(
            "SELECT migration, container, epoch, phase, decision, restart, report FROM departures WHERE {filter} ORDER BY id"
        );
        let mut statement = connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([value], |row| {
            Ok(Departure {
                order: parse(row.get::<_, String>(0)?.as_str())?,
                container: row.get(1)?,
                epoch: row.get::<_, i64>(2)?.unsigned_abs(),
                phase: row
                    .get::<_, Option<String>>(3)?
                    .and_then(|name| Phase::ALL.into_iter().find(|phase| phase.name() == name)),
                decision: match row.get::<_, String>(4)?.as_str() {
                    "commit" => Decision::Commit,
                    "abort" => Decision::Abort,
                    _ => Decision::Undecided,
                },
                restart: row.get(5)?,
                report: row.get::<_, Option<String>>(6)?.map(|text| parse(&text)).transpose()?,
            })
        });
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    /// Notes that the container of an arrival exists here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reserve(&self, reservation: &Reservation, container: &str) -> Result<(), StoreError> {
        let order = &reservation.order;
        let rows = self.lock().execute(
            "INSERT INTO arrivals (id, service, source, container, reservation, state) VALUES (?1, ?2, ?3, ?4, ?5, 'held')
             ON CONFLICT (id) DO UPDATE SET container = ?4 WHERE state = 'held'",
            params![
                order.id.to_string(),
                order.service.as_str(),
                order.from.as_str(),
                container,
                json(reservation)
            ],
        );
        rows.map(drop).map_err(failed("written"))
    }

    /// An arrival by its migration's id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn arrival(&self, id: MigrationId) -> Result<Option<Arrival>, StoreError> {
        let row = self.lock().query_row(
            "SELECT source, container, reservation, state, certificate FROM arrivals WHERE id = ?1",
            [id.to_string()],
            |row| {
                Ok(Arrival {
                    source: NodeName(row.get(0)?),
                    container: row.get(1)?,
                    reservation: parse(row.get::<_, String>(2)?.as_str())?,
                    state: ArrivalState::from_name(row.get::<_, String>(3)?.as_str()),
                    certificate: row.get::<_, Option<String>>(4)?.map(|text| parse(&text)).transpose()?,
                })
            },
        );
        row.optional().map_err(failed("read"))
    }

    /// Containers of arrivals that do not own their service.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn held_containers(&self) -> Result<Vec<String>, StoreError> {
        let failed = failed("read");
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT container FROM arrivals WHERE state = 'held'").map_err(&failed)?;
        let rows = statement.query_map([], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    /// Takes over a service with its certificate: from here on this node owns it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_over(&self, id: MigrationId, certificate: &Certificate) -> Result<(), StoreError> {
        let failed = failed("written");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(&failed)?;
        transaction
            .execute(
                "UPDATE arrivals SET state = 'released', certificate = ?2 WHERE id = ?1 AND state = 'held'",
                params![id.to_string(), json(certificate)],
            )
            .map_err(&failed)?;
        transaction
            .execute(
                "INSERT INTO epochs (service, epoch) VALUES (?1, ?2)
                 ON CONFLICT (service) DO UPDATE SET epoch = max(epoch, ?2)",
                params![certificate.service.as_str(), certificate.epoch as i64],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    /// Notes how far an arrival has come.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_arrival(&self, id: MigrationId, state: ArrivalState) -> Result<(), StoreError> {
        let rows = self
            .lock()
            .execute("UPDATE arrivals SET state = ?2 WHERE id = ?1", params![id.to_string(), state.name()]);
        rows.map(drop).map_err(failed("written"))
    }

    /// The epoch of a service on this node; 0 for one that never arrived.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn epoch(&self, service: &ServiceName) -> Result<u64, StoreError> {
        let row =
            self.lock().query_row("SELECT epoch FROM epochs WHERE service = ?1", [service.as_str()], |row| {
                row.get::<_, i64>(0)
            });
        Ok(row.optional().map_err(failed("read"))?.unwrap_or(0).unsigned_abs())
    }

    /// The register of one departure.
    pub fn register(&self, id: MigrationId) -> DepartureRegister {
        DepartureRegister { store: self.clone(), id }
    }
}

/// The register of one departure, as the machine writes it.
#[derive(Debug)]
pub struct DepartureRegister {
    store: Store,
    id: MigrationId,
}

impl DepartureRegister {
    fn write(&self, sql: &str, value: &str) -> Result<usize, StepError> {
        let rows = self.store.lock().execute(sql, params![self.id.to_string(), value]);
        rows.map_err(failed("written")).map_err(|error| StepError::from_error(&error))
    }
}

impl Register for DepartureRegister {
    fn reached(&mut self, phase: Phase) -> Result<(), StepError> {
        self.write("UPDATE departures SET phase = ?2 WHERE id = ?1", phase.name()).map(drop)
    }

    fn decide(&mut self, decision: Decision) -> Result<Decision, StepError> {
        let name = match decision {
            Decision::Commit => "commit",
            Decision::Abort => "abort",
            Decision::Undecided => return Err(StepError::Failed("undecided is no decision".to_owned())),
        };
        self.write("UPDATE departures SET decision = ?2 WHERE id = ?1 AND decision = 'undecided'", name)?;
        let stands = self.store.departure(self.id).map_err(|error| StepError::from_error(&error))?;
        let stands =
            stands.ok_or_else(|| StepError::Failed("the departure is not in the register".to_owned()))?;
        Ok(stands.decision)
    }

    fn ended(&mut self, report: &Report) -> Result<(), StepError> {
        self.write("UPDATE departures SET report = ?2 WHERE id = ?1", &json(report)).map(drop)
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // These are plain structs with text keys: writing them as JSON can't fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_register_decides_once_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let order = Order::example();
        {
            let store = Store::open(folder.path()).unwrap();
            assert!(store.plan(&order, "c1", 3, None).unwrap());
            assert!(!store.plan(&order, "c1", 3, None).unwrap(), "an order given twice is one order");
            let mut register = store.register(order.id);
            register.reached(Phase::Verified).unwrap();
            assert_eq!(register.decide(Decision::Commit).unwrap(), Decision::Commit);
            assert_eq!(register.decide(Decision::Abort).unwrap(), Decision::Commit);
        }
        let store = Store::open(folder.path()).unwrap();
        let found = store.departures_under_way().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].phase, found[0].decision, found[0].epoch),
            (Some(Phase::Verified), Decision::Commit, 3)
        );
        assert_eq!(found[0].order, order);
    }

    #[test]
    fn an_arrival_owns_its_service_only_with_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let order = Order::example();
        let reservation = Reservation {
            order: order.clone(),
            epoch: 1,
            body: serde_json::Value::Null,
            image: "sha256:0".into(),
            volumes: vec![],
            memory: sterna_policies::quantity::Bytes::ZERO,
        };
        store.reserve(&reservation, "c2").unwrap();
        assert_eq!(store.held_containers().unwrap(), ["c2"]);
        assert_eq!(store.epoch(&order.service).unwrap(), 0);
        let certificate = Certificate {
            migration: order.id,
            service: order.service.clone(),
            epoch: 2,
            destination: "b".into(),
            image: "sha256:0".into(),
        };
        store.take_over(order.id, &certificate).unwrap();
        assert!(store.held_containers().unwrap().is_empty());
        assert_eq!(store.epoch(&order.service).unwrap(), 2);
        assert_eq!(store.arrival(order.id).unwrap().unwrap().certificate, Some(certificate));
    }
}
