//! A node that never comes back, on somebody's word: of what the others hold of a service that was on its way from there the latest runs,
//! once, with everything that its clients were told is safe, and nothing that was given up before.

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{self, PORT, Reference};
use sterna_e2e::docker::{self, docker};
use sterna_e2e::inventory::{NODES, Service, three_sites};
use sterna_e2e::node_process::{self, Agent};
use sterna_e2e::patience::eventually;
use sterna_e2e::process::Running;
use sterna_e2e::sterna::Sterna;
use sterna_e2e::writer::{Seen, Writer};
use sterna_executor::identity::{Authority, Role};
use sterna_executor::migration::holding::Holding;
use sterna_executor::node::api::Arriving;
use sterna_executor::node::client::AgentClient;
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::time::timeout;

const NAME: &str = "e2e-word";
const SERVICE: &str = "redis";
const KEYS: usize = 50_000;
/// How long anything may take that takes a moment on an idle machine.
const SOON: Duration = Duration::from_secs(60);

struct Ground {
    sterna: Sterna,
    continuum: Continuum,
    agents: Vec<AgentClient>,
    addresses: Vec<SocketAddr>,
}

impl Ground {
    async fn up() -> anyhow::Result<Self> {
        let sterna = Sterna::built()?;
        let image = docker::service_image().await?;
        let command =
            ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
        let redis = Service::new(SERVICE, &image, &command).port(PORT).table(NODES[0])?;
        let continuum = Continuum::up(&sterna, &three_sites(NAME, &redis)).await?;
        continuum.services_up().await?;
        let authority = Authority::open(&continuum.state().join(NAME).join("authority"))?;
        let credentials = authority.issue(&Role::Scheduler)?;
        let mut agents = Vec::new();
        for node in NODES {
            let address = SocketAddr::new(continuum.address(node).await?, AGENT_PORT).to_string();
            agents.push(AgentClient::new(&credentials, &node.into(), &address).await?);
        }
        let addresses = continuum.addresses(PORT).await?;
        Ok(Self { sterna, continuum, agents, addresses })
    }

    fn container(&self, place: usize) -> String {
        self.continuum.container(NODES[place])
    }

    fn of(&self) -> [String; 4] {
        let [inventory, state] =
            [self.continuum.file(), &self.continuum.state()].map(|path| path.display().to_string());
        ["--inventory".to_owned(), inventory, "--state".to_owned(), state]
    }

    /// What the agent of a node says of Redis on its way there.
    async fn arriving(&self, place: usize) -> anyhow::Result<Option<Arriving>> {
        let all = self.agents[place].coming_in().await?;
        Ok(all.into_iter().find(|one| one.order.service.as_str() == SERVICE))
    }

    /// Has Redis move from the first node to another, and stops the first one's agent while it is restored there. The command goes
    /// on beside us.
    async fn held(&self, place: usize) -> anyhow::Result<(Running, Agent)> {
        let source = Agent::of(&self.container(0)).await?;
        let mut command = self.sterna.command();
        command.args(["migrate", SERVICE, "--to", NODES[place], "--freeze-lease", "3s"]).args(self.of());
        let moving = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        // The trial before goes by another name.
        eventually(SOON, "something is reserved", async || Ok(self.arriving(place).await?.is_some())).await?;
        node_process::runs("criu", &self.container(place), SOON).await?;
        source.suspend()?;
        let standing = async || Ok(self.arriving(place).await?.is_some_and(|one| one.standing));
        eventually(SOON, "it stands held", standing).await?;
        let held = self.arriving(place).await?.context("it is gone again")?;
        ensure!(held.holding == Holding::Held, "too late: {held:?}");
        Ok((moving, source))
    }

    /// Cuts a node off, or lets it back.
    async fn link(&self, place: usize, state: &str) -> anyhow::Result<()> {
        docker(&["exec", &self.container(place), "ip", "link", "set", "eth0", state]).await?;
        Ok(())
    }

    /// Ends a node with all that it holds, as it ends whose machine burns.
    async fn burn(&self, place: usize) -> anyhow::Result<()> {
        let container = self.container(place);
        docker(&["exec", &container, "/usr/lib/sterna/boot", "thaw"]).await?;
        let volumes = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
        let volumes = docker(&["inspect", "--format", volumes, &container]).await?;
        docker(&["rm", "--force", &container]).await?;
        let remove: Vec<_> = ["volume", "rm"].into_iter().chain(volumes.split_whitespace()).collect();
        docker(&remove).await?;
        Ok(())
    }

    /// That Redis has all that its clients were told is safe.
    async fn nothing_is_lost(&self, writer: Writer, place: usize) -> anyhow::Result<()> {
        let (dataset, seen) = writer.stop().await?;
        println!("{} writes acknowledged, longest gap {:?}", seen.writes, seen.longest_gap);
        let expected = Reference::start("sterna-e2e-word-reference").await?.digest_of(&dataset).await?;
        let found = digest::held(self.addresses[place]).await?;
        if found != expected {
            let differences = dataset.differences(self.addresses[place], 5).await?;
            bail!("Redis holds {found}, the client was told of {expected}:\n{}", differences.join("\n"));
        }
        Ok(())
    }

    /// `sterna fence` of the first node; whether it succeeds, its lines, and what it says besides.
    async fn fence(&self, more: &[&str]) -> anyhow::Result<(bool, Value, String)> {
        let of = self.of();
        let mut arguments = vec!["fence", NODES[0], "--output", "json"];
        arguments.extend(of.iter().map(String::as_str));
        arguments.extend(more);
        let finished = self.sterna.run_in(self.continuum.folder(), &[], &arguments).await?;
        let lines = match finished.stdout.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).with_context(|| text.to_owned())?,
        };
        Ok((finished.status.success(), lines, finished.stderr))
    }
}

/// What a line says of a node.
fn result<'v>(lines: &'v Value, node: &str) -> Option<&'v str> {
    lines.as_array()?.iter().find(|line| line["node"] == node)?["result"].as_str()
}

const WORD: [&str; 4] = ["--by", "ann", "--reason", "it burnt"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_word_the_latest_of_two_held_copies_runs_and_it_alone() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let dataset = Dataset::new(KEYS);
    let start = ground.addresses[0];
    eventually(SOON, "Redis answers", async || Ok(dataset.load(start).await.is_ok())).await?;
    let mut writer = Writer::start(&ground.addresses, dataset);
    let [a, b, c] = NODES;

    let (alive, _, said) = ground.fence(&WORD).await?;
    ensure!(!alive && said.contains("it is not gone"), "{said}");

    // Restored at b, which is cut off; undone at a, which goes on, and tries c.
    let (mut moving, source) = ground.held(1).await?;
    ground.link(1, "down").await?;
    source.resume()?;
    timeout(SOON * 3, moving.child().wait()).await.context("the move to b does not end")??;
    let before = writer.seen().writes;
    let goes_on = |seen: &Seen| seen.served_by == Some(0) && seen.writes > before + 200;
    writer.wait_until(SOON, goes_on).await?;
    let (moving, _) = ground.held(2).await?;
    ground.burn(0).await?;
    drop(moving);

    // Not while b is silent, which may have it.
    let before = writer.seen().writes;
    let (well, lines, said) = ground.fence(&WORD).await?;
    ensure!(!well && result(&lines, c) == Some("not-sure"), "{lines} {said}");
    ensure!(said.contains(&format!("`{b}` did not answer")), "{said}");
    let held = ground.arriving(2).await?.context("it is gone")?;
    ensure!(held.holding == Holding::Held && held.standing, "{held:?}");
    ensure!(writer.seen().writes == before, "it runs: {:?}", writer.seen());

    ground.link(1, "up").await?;
    eventually(SOON, "b answers again", async || Ok(ground.arriving(1).await.is_ok())).await?;
    let held = ground.arriving(1).await?.context("b holds it no more, so that nothing is shown")?;
    ensure!(held.holding == Holding::Held && held.standing, "{held:?}");

    let (well, lines, said) = ground.fence(&WORD).await?;
    ensure!(!well && said.is_empty(), "{said}");
    ensure!([result(&lines, b), result(&lines, c)] == [Some("not-sure"), Some("runs")], "{lines}");
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(2) && seen.writes > before + 200).await?;
    let held = ground.arriving(1).await?.context("it is gone")?;
    ensure!(held.holding == Holding::Held && held.standing, "{held:?}");

    // Said again, also by one who would take anything, nothing more comes of it.
    let again = [&WORD[..], &["--outdated"]].concat();
    let (well, lines, said) = ground.fence(&again).await?;
    ensure!(well && result(&lines, b) == Some("elsewhere"), "{lines} {said}");
    ensure!(lines.as_array().is_some_and(|all| all.len() == 1), "{lines}");

    ground.nothing_is_lost(writer, 2).await?;
    println!("after {a} was gone");
    ground.continuum.down().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_without_what_it_knew_is_as_good_as_gone() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let dataset = Dataset::new(KEYS);
    let start = ground.addresses[0];
    eventually(SOON, "Redis answers", async || Ok(dataset.load(start).await.is_ok())).await?;
    let mut writer = Writer::start(&ground.addresses, dataset);
    let [_, b, _] = NODES;
    let (moving, source) = ground.held(1).await?;

    // Stopped for a moment it is not gone: it decides by itself.
    let held = ground.arriving(1).await?.context("it is gone")?.order.id;
    source.resume()?;
    let (well, lines, said) = ground.fence(&WORD).await?;
    let decided = result(&lines, b) == Some("not-sure") || said.contains("it is not gone");
    ensure!(!well && decided, "{lines} {said}");
    drop(moving);
    let settled = async || Ok(ground.arriving(1).await?.is_none());
    eventually(SOON, &format!("migration {held} ends"), settled).await?;
    // What is given up stands still until its container is removed, and engines call that running.
    let on_one = async || Ok(ground.continuum.runs_on(SERVICE).await.is_ok_and(|node| node.is_some()));
    eventually(SOON, "it is on one node", on_one).await?;
    if ground.continuum.runs_on(SERVICE).await? == Some(b) {
        ground.continuum.migrate(SERVICE, NODES[0]).await?;
    }
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(0) && seen.writes > before + 200).await?;

    let (moving, _) = ground.held(1).await?;
    ground.burn(0).await?;
    drop(moving);
    ground.continuum.up_again().await?;
    let [_, inventory, state, folder] = &ground.of();
    let up = ["services", "up", inventory.as_str(), state.as_str(), folder.as_str()];
    let finished = ground.sterna.run_in(ground.continuum.folder(), &[], &up).await?;
    let named =
        [format!("`{SERVICE}` is held at `{b}`, on its way from `{}`", NODES[0]), "sterna fence".to_owned()];
    ensure!(
        !finished.status.success() && named.iter().all(|words| finished.stderr.contains(words)),
        "{}",
        finished.stderr
    );
    let (well, lines, said) = ground.fence(&WORD).await?;
    ensure!(well && result(&lines, b) == Some("runs"), "{lines} {said}");
    let before = writer.seen().writes;
    writer.wait_until(SOON, |seen| seen.served_by == Some(1) && seen.writes > before + 200).await?;
    ground.nothing_is_lost(writer, 1).await?;
    ground.continuum.down().await
}
