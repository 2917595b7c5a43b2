//! PostgreSQL with pgbench beside it in the same container: their connections, sessions and transactions move with them.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

/// PostgreSQL, its files in a named volume, run by its own user.
#[derive(Debug, Default)]
pub struct Postgres {
    started: String,
    transactions: u64,
}

const SCRIPT: &str = include_str!("programs/postgres.sh");

/// Every transaction of pgbench adds the same amount to an account, a teller and a branch, and notes it. In one statement,
/// so all of it is seen at one instant.
const BALANCES: &str = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
                        (select sum(bbalance) from pgbench_branches), coalesce(sum(delta), 0), count(*) from pgbench_history";

async fn sql<G: Ground>(place: Place<'_, G>, statement: &str) -> anyhow::Result<String> {
    let psql =
        ["setpriv", "--reuid", "postgres", "--clear-groups", "psql", "-h", "/tmp", "-tA", "-c", statement];
    place.exec(&psql).await
}

async fn balanced<G: Ground>(place: Place<'_, G>) -> anyhow::Result<u64> {
    let row = sql(place, BALANCES).await?;
    let columns: Vec<&str> = row.split('|').collect();
    let [accounts, tellers, branches, noted, transactions] = columns[..] else {
        anyhow::bail!("not a row of five: {row}");
    };
    ensure!(
        accounts == tellers && tellers == branches && branches == noted,
        "the books do not balance (accounts, tellers, branches, history, transactions): {row}"
    );
    transactions.parse().with_context(|| row.clone())
}

impl Workload for Postgres {
    fn service(&self) -> Service {
        Service::new("postgres", IMAGE, &["bash", "-c", SCRIPT]).volume("pgdata:/pg")
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let ready = || async { sql(place, "select count(*) from pgbench_history").await };
        eventually(Duration::from_secs(60), ready).await?;
        self.started = sql(place, "select pg_postmaster_start_time()").await?;
        place.exec(&["touch", "/pg/go"]).await?;
        self.goes_on(place).await
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let started = sql(place, "select pg_postmaster_start_time()").await?;
        ensure!(started == self.started, "another process, started {started}, was {}", self.started);
        self.goes_on(place).await?;
        Ok(format!("the books balance after {} transactions", self.transactions))
    }

    async fn rest<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        place.exec(&["touch", "/pg/rest"]).await?;
        let log = || async {
            let log = place.exec(&["cat", "/pg/pgbench.log"]).await?;
            ensure!(log.contains("\nended "), "pgbench has not ended: {log}");
            Ok(log)
        };
        let log = eventually(Duration::from_secs(20), log).await?;
        ensure!(!log.contains("error") && !log.contains("aborted"), "pgbench lost a session: {log}");
        Ok(())
    }
}

impl Postgres {
    /// Waits for new transactions of the very pgbench that was started first: nothing starts it again.
    async fn goes_on<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let before = self.transactions;
        let first = balanced(place).await?;
        ensure!(first >= before, "{first} transactions are noted, {before} were noted before");
        let more = || async {
            let now = balanced(place).await?;
            ensure!(now > first, "pgbench stands still at {now} transactions");
            Ok(now)
        };
        self.transactions = eventually(Duration::from_secs(10), more).await?;
        Ok(())
    }
}
