//! What Sterna asks of Kubernetes, against a real API server.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::Deserialize as _;
use serde_json::json;
use sterna_e2e::cluster::Cluster;
use sterna_e2e::process::Running;
use sterna_e2e::sterna::Sterna;
use sterna_executor::platform::kubernetes::election::Candidate;
use sterna_executor::platform::kubernetes::lease::{Contender, LeaseError, Place, Standing, Steady, steady};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep, timeout};

#[path = "kubernetes/own.rs"]
mod own;

const TERM: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(20);

/// An API server, and a namespace of its own for one test.
struct Ground {
    cluster: Cluster,
    client: Client,
    namespace: String,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let cluster = Cluster::up().await?;
        let (client, namespace) = own::namespace(&cluster).await?;
        Ok(Self { cluster, client, namespace })
    }

    fn place(&self, name: &str) -> Place {
        Place { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn down(self) -> anyhow::Result<()> {
        own::remove(self.client, &self.namespace).await
    }
}

#[tokio::test]
async fn an_api_server_answers_until_it_is_dropped() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let found = Api::<Namespace>::all(ground.client.clone()).list(&ListParams::default()).await?;
    let names: Vec<_> = found.into_iter().filter_map(|namespace| namespace.metadata.name).collect();
    ensure!(
        ["default", &ground.namespace].iter().all(|name| names.iter().any(|one| one == name)),
        "{names:?}"
    );

    let own = ground.cluster.is_own();
    let file = Kubeconfig::read_from(ground.cluster.kubeconfig())?;
    let address = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?.cluster_url;
    ground.down().await?;
    if own {
        let address = address.authority().context("no address")?.as_str().to_owned();
        // It ends in its own time.
        let gone = async || Ok(TcpStream::connect(&address).await.is_err());
        eventually(&gone).await.with_context(|| format!("{address} still answers"))?;
    }
    Ok(())
}

/// One of two schedulers, by a clock that tests set.
struct Rival {
    contender: Contender,
    clock: Steady,
    sleeps: u32,
}

impl Rival {
    /// Its clock shows `offset` more than `now`.
    fn new(ground: &Ground, name: &str, now: &Arc<AtomicU64>, offset: u64) -> Self {
        let now = Arc::clone(now);
        let clock: Steady = Arc::new(move || Duration::from_millis(now.load(Ordering::SeqCst) + offset));
        let candidate = Candidate::new(name.to_owned(), TERM);
        let contender =
            Contender::new(ground.client.clone(), ground.place("contended"), candidate, Arc::clone(&clock));
        Self { contender, clock, sleeps: 0 }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        match self.sleeps.checked_sub(1) {
            Some(left) => self.sleeps = left,
            None => {
                self.contender.round().await?;
            }
        }
        Ok(())
    }

    fn leads(&self) -> bool {
        self.contender.candidate().leads((self.clock)())
    }
}

#[tokio::test]
async fn of_two_schedulers_one_leads_at_a_time_in_a_thousand_rounds() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let mut random = fastrand::Rng::with_seed(8);
    let now = Arc::new(AtomicU64::new(0));
    let mut rivals = [Rival::new(&ground, "a", &now, 0), Rival::new(&ground, "b", &now, 86_400_000)];
    let (mut led, mut changes, mut last) = ([0_u32; 2], 0_i32, None);
    for round in 0..1000 {
        match random.u32(..100) {
            // Longer than the term of the other.
            0..8 => rivals[random.usize(..2)].sleeps = random.u32(1..16),
            8..14 => {
                let rival = &mut rivals[random.usize(..2)];
                rival.contender.give_up().await?;
                // So that the other one may be faster.
                rival.sleeps = random.u32(..2);
            }
            _ => {}
        }
        let [one, other] = &mut rivals;
        // Time goes on while requests are under way.
        let (later, delay) = (random.u64(..4_000), Duration::from_micros(random.u64(..4_000)));
        let time = async {
            sleep(delay).await;
            now.fetch_add(later, Ordering::SeqCst);
        };
        let (first, second, ()) = tokio::join!(one.round(), other.round(), time);
        first.and(second)?;

        let leads = rivals.each_ref().map(Rival::leads);
        ensure!(leads != [true, true], "in round {round} both lead");
        let Some(leader) = leads.iter().position(|leads| *leads) else { continue };
        led[leader] += 1;
        changes += i32::from(last.replace(leader) != Some(leader));
        let spec = ground.leases().get("contended").await?.spec.context("the lease says nothing")?;
        let name = rivals[leader].contender.candidate().identity();
        // One that sleeps may be about to lose it, but while it leads it is its own.
        ensure!(spec.holder_identity.as_deref() == Some(name), "in round {round} {name} leads, and {spec:?}");
        ensure!(spec.lease_duration_seconds == Some(15) && spec.renew_time.is_some(), "{spec:?}");
    }
    // How often hangs on whose request is faster.
    ensure!(led.iter().all(|rounds| *rounds > 50), "they led in {led:?} rounds");
    ensure!(changes > 5, "the leader changed {changes} times");
    println!("led in {led:?} of 1000 rounds, {changes} changes");
    ground.down().await
}

/// All that a scheduler does with its lease: makes it, renews it, gives it up.
async fn all_of_it(client: &Client, place: &Place) -> Result<(), LeaseError> {
    let candidate = Candidate::new("one".to_owned(), TERM);
    let mut contender = Contender::new(client.clone(), place.clone(), candidate, steady());
    for _ in 0..2 {
        assert_eq!(contender.round().await?, Standing::Leads);
    }
    contender.give_up().await
}

/// Waits until it is so.
async fn eventually(what: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !what().await? {
        ensure!(start.elapsed() < SOON, "not within {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let printed = Sterna::built()?
        .must(&["rbac", "--namespace", &ground.namespace, "--lease", "one", "--account", "scheduler"])
        .await?;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&printed)?;
    let [account, role, binding] = &documents[..] else { bail!("three objects were expected:\n{printed}") };
    for (document, kind) in documents.iter().zip(["ServiceAccount", "Role", "RoleBinding"]) {
        ensure!(document["kind"] == kind && document["apiVersion"].is_string(), "{document}");
    }
    let (client, namespace, creates) = (&ground.client, &ground.namespace, PostParams::default());
    Api::namespaced(client.clone(), namespace)
        .create(&creates, &ServiceAccount::deserialize(account)?)
        .await?;
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let role = roles.create(&creates, &Role::deserialize(role)?).await?;
    Api::namespaced(client.clone(), namespace).create(&creates, &RoleBinding::deserialize(binding)?).await?;

    let scheduler = own::of_account(&ground.cluster, &ground.client, &ground.namespace, "scheduler").await?;
    let place = ground.place("one");
    let fresh = async || {
        let deleted = ground.leases().delete(&place.name, &DeleteParams::default()).await;
        match deleted {
            Err(kube::Error::Api(status)) if !status.is_not_found() => Err(kube::Error::Api(status)),
            _ => Ok(()),
        }
    };
    let works = async || {
        fresh().await?;
        match all_of_it(&scheduler, &place).await {
            Err(LeaseError::Forbidden { .. }) => Ok(false),
            other => other.map(|()| true).map_err(anyhow::Error::from),
        }
    };
    eventually(&works).await.context("the rights do not suffice")?;

    let rules = role.rules.context("the role allows nothing")?;
    let with = |rules: &[PolicyRule]| Patch::Merge(json!({ "rules": rules }));
    let mut verbs = 0;
    for (number, rule) in rules.iter().enumerate() {
        for removed in &rule.verbs {
            verbs += 1;
            let mut fewer = rules.clone();
            fewer[number].verbs.retain(|verb| verb != removed);
            // A rule that allows nothing is none.
            fewer.retain(|rule| !rule.verbs.is_empty());
            roles.patch("scheduler", &PatchParams::default(), &with(&fewer)).await?;
            let refused = async || {
                fresh().await?;
                match all_of_it(&scheduler, &place).await {
                    Err(LeaseError::Forbidden { verb, .. }) => {
                        ensure!(verb == removed, "without {removed} it is {verb} that fails");
                        Ok(true)
                    }
                    other => other.map(|()| false).map_err(anyhow::Error::from),
                }
            };
            eventually(&refused).await.with_context(|| format!("{removed} is not needed"))?;
            // So that the next one is not refused for want of this one.
            roles.patch("scheduler", &PatchParams::default(), &with(&rules)).await?;
            eventually(&works).await?;
        }
    }
    ensure!(verbs == 3, "{verbs} verbs");

    // And no more than that one.
    let other = Api::<Lease>::namespaced(scheduler.clone(), namespace).get("another").await;
    ensure!(matches!(&other, Err(kube::Error::Api(status)) if status.is_forbidden()), "{other:?}");
    let listed = Api::<Lease>::namespaced(scheduler, namespace).list(&ListParams::default()).await;
    ensure!(matches!(&listed, Err(kube::Error::Api(status)) if status.is_forbidden()), "{listed:?}");
    ground.down().await
}

/// A `sterna run`, and what it says.
struct Scheduler {
    running: Running,
    said: Lines<BufReader<ChildStdout>>,
}

impl Scheduler {
    fn start(ground: &Ground, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("inventory.toml"), include_str!("../../../deploy/demo/inventory.toml"))?;
        std::fs::write(
            folder.join("policy.toml"),
            include_str!("../../../policies/presets/latency-first.toml"),
        )?;
        let settings = format!(
            "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
             [leader]\nlease = \"schedulers\"\nnamespace = \"{}\"\nkubeconfig = \"{}\"\nterm = \"6s\"\n",
            ground.namespace,
            ground.cluster.kubeconfig().display()
        );
        std::fs::write(folder.join("sterna.toml"), settings)?;
        let mut command = Sterna::built()?.command();
        command.args(["run", "--config"]).arg(folder.join("sterna.toml"));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        let out = running.child().stdout.take().context("it has no output")?;
        Ok(Self { running, said: BufReader::new(out).lines() })
    }

    /// Waits until it says so.
    async fn says(&mut self, words: &str) -> anyhow::Result<()> {
        let found = async {
            while let Some(line) = self.said.next_line().await? {
                if line.contains(words) {
                    return Ok(());
                }
            }
            bail!("it ended and never said `{words}`")
        };
        timeout(SOON, found).await.with_context(|| format!("it does not say `{words}`"))?
    }
}

#[tokio::test]
async fn a_second_scheduler_leads_once_the_first_is_gone() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let folder = tempfile::tempdir()?;
    let mut first = Scheduler::start(&ground, folder.path(), "first")?;
    first.says("leading").await?;
    first.says("continuum").await?;
    let mut second = Scheduler::start(&ground, folder.path(), "second")?;
    second.says("waiting: ").await?;

    // Asked to end, it gives the lease up: nobody waits for the end of its term.
    first.running.ask_to_end();
    let asked = Instant::now();
    second.says("leading").await?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "only after {:?}", asked.elapsed());

    // Killed, it can't.
    let mut third = Scheduler::start(&ground, folder.path(), "third")?;
    third.says("waiting: ").await?;
    second.running.child().kill().await?;
    let killed = Instant::now();
    third.says("leading").await?;
    ensure!(killed.elapsed() > Duration::from_secs(4), "already after {:?}", killed.elapsed());
    third.says("continuum").await?;

    // One that sees another name in the lease ends.
    let usurped = Patch::Merge(json!({ "spec": { "holderIdentity": "somebody" } }));
    ground.leases().patch("schedulers", &PatchParams::default(), &usurped).await?;
    third.says("the lease is lost").await?;
    let status = timeout(SOON, third.running.child().wait()).await.context("it does not end")??;
    ensure!(status.code() == Some(1), "it ended with {status}");
    ground.down().await
}

#[tokio::test]
async fn one_that_waits_to_lead_ends_when_it_is_asked_to() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let folder = tempfile::tempdir()?;
    let mut first = Scheduler::start(&ground, folder.path(), "first")?;
    first.says("leading").await?;
    let mut second = Scheduler::start(&ground, folder.path(), "second")?;
    second.says("waiting: ").await?;
    second.running.ask_to_end();
    let status = timeout(SOON, second.running.child().wait()).await.context("it does not end")??;
    // By itself: of a pod it is the first process, which the kernel does not end for want of a handler.
    ensure!(status.success(), "it ended with {status}");
    ground.down().await
}
