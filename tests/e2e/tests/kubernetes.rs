//! What Sterna asks of Kubernetes, against a real API server.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use sterna_e2e::namespace::Ground;
use sterna_e2e::patience::eventually;
use sterna_e2e::process::Running;
use sterna_e2e::rights::Rights;
use sterna_executor::platform::kubernetes::election::Candidate;
use sterna_executor::platform::kubernetes::lease::{Contender, LeaseError, Place, Standing, Steady, steady};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep, timeout};

const TERM: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(20);

fn place(ground: &Ground, name: &str) -> Place {
    Place { namespace: ground.namespace.clone(), name: name.to_owned() }
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
        eventually(SOON, &format!("{address} answers no more"), gone).await?;
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
            Contender::new(ground.client.clone(), place(ground, "contended"), candidate, Arc::clone(&clock));
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
        let spec = ground.api::<Lease>().get("contended").await?.spec.context("the lease says nothing")?;
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

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let rights = Rights::given(&ground, "scheduler", &["--lease", "one"]).await?;
    let kinds: Vec<_> = rights.printed.iter().map(|one| one["kind"].as_str().unwrap_or_default()).collect();
    ensure!(kinds == ["ServiceAccount", "Role", "RoleBinding"], "{:?}", rights.printed);

    let scheduler = ground.client_of("scheduler").await?;
    let place = place(&ground, "one");
    let all_refused = Mutex::new(Vec::new());
    let refused = async || {
        let deleted = ground.api::<Lease>().delete(&place.name, &DeleteParams::default()).await;
        if let Err(kube::Error::Api(status)) = deleted
            && !status.is_not_found()
        {
            return Err(kube::Error::Api(status).into());
        }
        match all_of_it(&scheduler, &place).await {
            Err(LeaseError::Forbidden { verb, .. }) => {
                let words = format!("{verb} leases");
                all_refused.lock().unwrap_or_else(PoisonError::into_inner).push(words.clone());
                Ok(Some(words))
            }
            other => other.map(|()| None).map_err(anyhow::Error::from),
        }
    };
    let needed = rights.suffice_and_each_is_needed(SOON, &[], refused).await?;
    ensure!(needed.len() == 3, "{needed:?}");
    // Without one it is never another that fails.
    let mut all_refused = all_refused.into_inner().unwrap_or_else(PoisonError::into_inner);
    all_refused.dedup();
    ensure!(all_refused.ends_with(&needed), "{all_refused:?}");

    // And no more than that one.
    let other = Api::<Lease>::namespaced(scheduler.clone(), &ground.namespace).get("another").await;
    ensure!(matches!(&other, Err(kube::Error::Api(status)) if status.is_forbidden()), "{other:?}");
    let listed = Api::<Lease>::namespaced(scheduler, &ground.namespace).list(&ListParams::default()).await;
    ensure!(matches!(&listed, Err(kube::Error::Api(status)) if status.is_forbidden()), "{listed:?}");
    ground.down().await
}

/// A `sterna run`, and what it says.
struct Scheduler {
    running: Running,
    said: Lines<BufReader<ChildStdout>>,
}

impl Scheduler {
    fn start(ground: &Ground, name: &str) -> anyhow::Result<Self> {
        let folder = ground.folder.path().join(name);
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
        let mut command = ground.sterna.command();
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
    let mut first = Scheduler::start(&ground, "first")?;
    first.says("leading").await?;
    first.says("continuum").await?;
    let mut second = Scheduler::start(&ground, "second")?;
    second.says("waiting: ").await?;

    // Asked to end, it gives the lease up: nobody waits for the end of its term.
    first.running.ask_to_end();
    let asked = Instant::now();
    second.says("leading").await?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "only after {:?}", asked.elapsed());

    // Killed, it can't.
    let mut third = Scheduler::start(&ground, "third")?;
    third.says("waiting: ").await?;
    second.running.child().kill().await?;
    let killed = Instant::now();
    third.says("leading").await?;
    ensure!(killed.elapsed() > Duration::from_secs(4), "already after {:?}", killed.elapsed());
    third.says("continuum").await?;

    // One that sees another name in the lease ends.
    let usurped = Patch::Merge(json!({ "spec": { "holderIdentity": "somebody" } }));
    ground.api::<Lease>().patch("schedulers", &PatchParams::default(), &usurped).await?;
    third.says("the lease is lost").await?;
    let status = timeout(SOON, third.running.child().wait()).await.context("it does not end")??;
    ensure!(status.code() == Some(1), "it ended with {status}");
    ground.down().await
}

#[tokio::test]
async fn one_that_waits_to_lead_ends_when_it_is_asked_to() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let mut first = Scheduler::start(&ground, "first")?;
    first.says("leading").await?;
    let mut second = Scheduler::start(&ground, "second")?;
    second.says("waiting: ").await?;
    second.running.ask_to_end();
    let status = timeout(SOON, second.running.child().wait()).await.context("it does not end")??;
    // By itself: of a pod it is the first process, which the kernel does not end for want of a handler.
    ensure!(status.success(), "it ended with {status}");
    drop(first);
    ground.down().await
}
