//! The register of one departure, as the machine writes it.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Millis;

use crate::migration::machine::{Register, StepError};
use crate::migration::order::MigrationId;
use crate::migration::phase::Phase;
use crate::migration::register::Decision;
use crate::migration::report::Report;

use super::{Store, failed, json};

/// The register of one departure, as the machine writes it.
#[derive(Debug)]
pub struct DepartureRegister {
    pub(super) store: Store,
    pub(super) id: MigrationId,
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
        // The rule of `Decision::settle`, as compare-and-set.
        self.write(
            "UPDATE departures SET decision = ?2 WHERE id = ?1 AND decision = 'undecided'",
            decision.name(),
        )?;
        let stands = self.store.departure(self.id).map_err(|error| StepError::from_error(&error))?;
        let stands =
            stands.ok_or_else(|| StepError::Failed("the departure is not in the register".to_owned()))?;
        Ok(stands.decision)
    }

    fn freezing(&mut self) -> Result<(), StepError> {
        self.write("UPDATE departures SET froze = ?2 WHERE id = ?1", &json(&Uptime::now()?)).map(drop)
    }

    fn frozen_for(&self) -> Option<Millis> {
        let froze = self.store.lock().query_row(
            "SELECT froze FROM departures WHERE id = ?1",
            [self.id.to_string()],
            |row| row.get::<_, Option<String>>(0),
        );
        let froze: Uptime = serde_json::from_str(&froze.ok()??).ok()?;
        Uptime::now().ok()?.since(&froze)
    }

    fn ended(&mut self, report: &Report) -> Result<(), StepError> {
        let sql = format!(
            "UPDATE departures SET report = ?2, ended = '{}' WHERE id = ?1 AND report IS NULL",
            Timestamp::now()
        );
        self.write(&sql, &json(report)).map(drop)
    }
}

/// A moment that can be compared across a restart of the agent, whatever is done to the clock, but not of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Uptime {
    boot: String,
    micros: i64,
}

impl Uptime {
    fn now() -> Result<Self, StepError> {
        let failed = |error: &dyn std::error::Error| StepError::from_error(error);
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|error| failed(&error))?;
        let boot =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(|error| failed(&error))?;
        Ok(Self { boot: boot.trim().to_owned(), micros: time.num_microseconds() })
    }

    fn since(&self, earlier: &Self) -> Option<Millis> {
        let micros =
            u64::try_from(self.micros - earlier.micros).ok().filter(|_| self.boot == earlier.boot)?;
        Some(Millis::from_duration(Duration::from_micros(micros)))
    }
}
