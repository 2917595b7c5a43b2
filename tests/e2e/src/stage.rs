//! The stage of the demo: three sites as local nodes, a Redis, a client that writes all the time, real monitoring, and ways
//! between users and sites whose length can be changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::continuum::Continuum;
use crate::dataset::Dataset;
use crate::delay::{Door, Way};
use crate::digest::{Digest, PORT, Reference};
use crate::monitoring::{Exporter, Monitoring, Probe};
use crate::scheduler::{Scheduler, Work};
use crate::sterna::Sterna;
use crate::writer::{Seen, Writer};

/// The user group of the demo's inventory.
pub const USERS: &str = "shoppers";
/// The service of the demo's inventory.
pub const SERVICE: &str = "redis";

/// Round-trip time from the users to each site.
pub type Distances = [(&'static str, Duration)];

/// Where the users are in the morning: near the north.
pub const MORNING: &Distances = &[("edge-north", ms(2)), ("edge-south", ms(45)), ("cloud", ms(60))];
/// Where the users are in the evening: near the south.
pub const EVENING: &Distances = &[("edge-north", ms(45)), ("edge-south", ms(2)), ("cloud", ms(60))];

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// Everything that runs, in the order in which it ends: who uses something ends before it.
#[derive(Debug)]
pub struct Stage {
    writer: Option<Writer>,
    monitoring: Monitoring,
    ways: BTreeMap<String, Way>,
    _doors: Vec<Door>,
    addresses: Vec<SocketAddr>,
    continuum: Continuum,
}

/// Raises the stage: nodes, service with `keys` keys, exporters, ways, monitoring, client. `name` is that of the continuum;
/// `say` is told what is being done.
///
/// # Errors
/// When any of it does not come up; what did is removed.
pub async fn raise(
    sterna: &Sterna,
    name: &str,
    keys: usize,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Stage> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/demo/inventory.toml");
    let inventory = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let named = inventory.replacen("\nname = \"demo\"\n", &format!("\nname = \"{name}\"\n"), 1);
    ensure!(name == "demo" || named != inventory, "{} does not name its continuum `demo`", path.display());

    say("three sites, each a Docker-in-Docker node with its own engine and a Sterna agent");
    let continuum = Continuum::up(sterna, &named).await?;
    say("Redis, on the node in the north");
    continuum.services_up().await?;
    let addresses = continuum.addresses(PORT).await?;
    let home = continuum.runs_on(SERVICE).await?.context("Redis does not run after `sterna services up`")?;
    let start = addresses_of(&continuum, &addresses, home)?;
    answers(start).await?;
    say(&format!("{keys} keys into it"));
    let dataset = Dataset::new(keys);
    dataset.load(start).await?;

    say(
        "the ways between users and sites, a node exporter at each site, a prober where the users are, and Prometheus",
    );
    let folder = continuum.folder().to_owned();
    let (mut ways, mut doors, mut exporters, mut probes, mut service) =
        (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((_, site), &address) in continuum.nodes().zip(&addresses) {
        let way = Way::default();
        let exporter = Exporter::start(site, &folder).await?;
        let to_exporter = way.open(exporter.address()).await?;
        let to_service = way.open(address).await?;
        probes.push(Probe { users: USERS.to_owned(), site: site.to_owned(), door: to_exporter.address() });
        service.push(to_service.address());
        doors.extend([to_exporter, to_service]);
        exporters.push(exporter);
        ways.insert(site.to_owned(), way);
    }
    set(&ways, MORNING)?;
    let monitoring = Monitoring::start(exporters, &probes, &folder).await?;
    say("the users' client, which writes all the time, over the same ways");
    let writer = Some(Writer::start(&service, dataset));
    Ok(Stage { writer, monitoring, ways, _doors: doors, addresses, continuum })
}

fn addresses_of(continuum: &Continuum, addresses: &[SocketAddr], node: &str) -> anyhow::Result<SocketAddr> {
    let found = continuum.nodes().zip(addresses).find(|((name, _), _)| *name == node);
    found.map(|(_, &address)| address).with_context(|| format!("the inventory has no node {node}"))
}

fn set(ways: &BTreeMap<String, Way>, distances: &Distances) -> anyhow::Result<()> {
    for (site, round_trip) in distances {
        ways.get(*site).with_context(|| format!("there is no way to {site}"))?.set_round_trip(*round_trip);
    }
    Ok(())
}

async fn answers(address: SocketAddr) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        match crate::resp::Connection::open(address).await {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > Duration::from_secs(20) => {
                return Err(error).with_context(|| format!("Redis at {address} does not answer"));
            }
            Err(_) => sleep(ms(100)).await,
        }
    }
}

impl Stage {
    /// The nodes.
    pub fn continuum(&self) -> &Continuum {
        &self.continuum
    }

    /// The monitoring.
    pub fn monitoring(&self) -> &Monitoring {
        &self.monitoring
    }

    /// The monitoring, to have it fail.
    pub fn monitoring_mut(&mut self) -> &mut Monitoring {
        &mut self.monitoring
    }

    /// Has the users be somewhere else from now on.
    ///
    /// # Errors
    /// When a site is unknown.
    pub fn users_go(&self, distances: &Distances) -> anyhow::Result<()> {
        set(&self.ways, distances)
    }

    /// The latency in ms that Prometheus has measured from the users to each site, over the last seconds.
    ///
    /// # Errors
    /// When Prometheus can't be asked.
    pub async fn latencies(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let query = format!(
            "avg by (site) (avg_over_time((probe_duration_seconds{{users=\"{USERS}\"}} and on (instance) \
             probe_success == 1)[4s:1s])) * 1000"
        );
        let mut all = BTreeMap::new();
        for series in self.monitoring.query(&query).await? {
            if let (Some(site), Ok(value)) = (series.metric.get("site"), series.value.1.parse()) {
                all.insert(site.clone(), value);
            }
        }
        Ok(all)
    }

    /// Waits until what Prometheus measures agrees with where the users are: nothing below the distance, and not far above.
    ///
    /// # Errors
    /// When it does not within half a minute.
    pub async fn measured(&self, distances: &Distances) -> anyhow::Result<BTreeMap<String, f64>> {
        let start = Instant::now();
        loop {
            let latencies = self.latencies().await?;
            let agree = distances.iter().all(|(site, set)| {
                let set = set.as_secs_f64() * 1000.0;
                latencies.get(*site).is_some_and(|&measured| measured >= set && measured < set + 15.0)
            });
            if agree {
                return Ok(latencies);
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("Prometheus measures {latencies:?}, while the ways are {distances:?}");
            }
            sleep(ms(500)).await;
        }
    }

    /// Starts the scheduler over all this.
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub fn scheduler(
        &self,
        sterna: &Sterna,
        policy: String,
        show: impl Fn(&str) + Send + Sync + Clone + 'static,
    ) -> anyhow::Result<Scheduler> {
        Scheduler::start(sterna, &self.work(policy), self.continuum.folder(), show)
    }

    /// What a scheduler over all this works with.
    pub fn work(&self, policy: String) -> Work {
        Work {
            inventory: self.continuum.file().to_owned(),
            state: self.continuum.state(),
            prometheus: Some(self.monitoring.url()),
            policy,
        }
    }

    /// The node that runs Redis.
    ///
    /// # Errors
    /// When none does, or several do.
    pub async fn home(&self) -> anyhow::Result<&str> {
        self.continuum.runs_on(SERVICE).await?.context("no node runs Redis")
    }

    /// The site of the node whose Redis answered the client last.
    pub fn serving_site(&self) -> Option<&str> {
        let place = self.seen().served_by?;
        self.continuum.nodes().nth(place).map(|(_, site)| site)
    }

    /// What the client has seen; nothing after it was stopped.
    pub fn seen(&self) -> Seen {
        self.writer.as_ref().map(Writer::seen).unwrap_or_default()
    }

    /// Waits until the client has had this many more writes acknowledged.
    ///
    /// # Errors
    /// When that takes longer than half a minute.
    pub async fn more_writes(&mut self, count: u64) -> anyhow::Result<Seen> {
        let writer = self.writer.as_mut().context("the client was stopped")?;
        let enough = writer.seen().writes + count;
        writer.wait_until(Duration::from_secs(30), |seen| seen.writes >= enough).await
    }

    /// The id that Redis gives itself when it starts: another one would mean another process, started cold.
    ///
    /// # Errors
    /// When Redis does not run or does not tell.
    pub async fn run_id(&self) -> anyhow::Result<String> {
        let info = self.continuum.exec(self.home().await?, SERVICE, &["redis-cli", "INFO", "server"]).await?;
        let line = info.lines().find_map(|line| line.trim().strip_prefix("run_id:"));
        Ok(line.context("Redis tells no run_id")?.to_owned())
    }

    /// Stops the client, and compares what it was told is safe with what Redis holds, by digest.
    ///
    /// # Errors
    /// When they differ; then with the keys that do.
    pub async fn compare(&mut self) -> anyhow::Result<(Digest, Dataset, Seen)> {
        let writer = self.writer.take().context("the client was stopped already")?;
        let (dataset, seen) = writer.stop().await?;
        let reference = Reference::start(&format!("sterna-{}-reference", self.continuum.name())).await?;
        let expected = reference.digest_of(&dataset).await?;
        let home = self.home().await?;
        let printed = self.continuum.exec(home, SERVICE, &["redis-cli", "DEBUG", "DIGEST"]).await?;
        let held = Digest::read(&printed)?;
        if held != expected {
            let address = addresses_of(&self.continuum, &self.addresses, home)?;
            let differences = dataset.differences(address, 5).await?;
            bail!(
                "Redis on {home} holds {held}, the client was told of {expected}:\n{}",
                differences.join("\n")
            );
        }
        Ok((held, dataset, seen))
    }

    /// Ends everything, and makes sure that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub async fn strike(self) -> anyhow::Result<()> {
        let Self { writer, monitoring, ways: _, _doors, addresses: _, continuum } = self;
        drop((writer, _doors, monitoring));
        continuum.down().await
    }
}
