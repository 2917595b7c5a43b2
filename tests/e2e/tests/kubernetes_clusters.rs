//! Services move between pods of two clusters that know nothing of each other, named by contexts of one kubeconfig; their clients, on this
//! machine and in a pod, see no failed request. Needs root and minutes:
//!
//!     cargo test --workspace --test kubernetes_clusters -- --ignored --nocapture

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sterna_e2e::charts::Charts;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{Digest, PORT, Reference};
use sterna_e2e::docker::{docker, service_image};
use sterna_e2e::inventory::Service;
use sterna_e2e::process::{Daemon, Finished};
use sterna_e2e::resp::Connection;
use sterna_e2e::scheduler::{Scheduler, Work};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::two_nodes::TwoNodes;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

mod kubernetes_clusters {
    pub mod inside;
}
#[path = "kubernetes_service/clients.rs"]
#[expect(dead_code, reason = "other tests have more kinds of clients")]
mod clients;

use clients::Clients;
use kubernetes_clusters::inside;

const KEYS: usize = 20_000;
const CLIENTS: usize = 8;
const NAME: &str = "e2e-clusters";
/// The same in both clusters: where the nodes are, and where the accounts are that it is run with.
const NAMESPACE: &str = "edge";
const HOME: &str = "default";
/// The clusters, by their contexts, and the node in each.
const CONTEXTS: [&str; 2] = ["north", "south"];
const NODES: [&str; 2] = ["n1", "n2"];
const SOON: Duration = Duration::from_secs(120);

/// Two nodes, at places as the inventory says them, the second one cheaper.
fn inventory(places: &[String; 2], services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    for ((site, price), (node, place)) in [("a", "0.9"), ("b", "0.1")].iter().zip(NODES.iter().zip(places)) {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"{price}USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"2GiB\"\n{place}\n"
        ));
    }
    text + "[[link]]\nbetween = [\"a\", \"b\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n" + services
}

/// A policy that wants the cheapest place at once.
fn policy(mode: &str) -> String {
    format!(
        "schema_version = 1\nname = \"cheapest\"\nmode = \"{mode}\"\n\
         [objective]\nmethod = \"lexicographic\"\n[[objective.term]]\nmetric = \"cost_rate\"\n\
         [trigger]\ninterval = \"1s\"\nsettle = \"0s\"\n\
         [hysteresis]\nmin_gain = \"1%\"\nmin_residency = \"0s\"\ncooldown = \"0s\"\nno_return_within = \"0s\"\n"
    )
}

/// Two clusters with a node of the continuum as a pod in each.
struct Ground {
    clusters: [TwoNodes; 2],
    sterna: Sterna,
    /// Of both clusters.
    kubeconfig: String,
    services: String,
    folder: TempDir,
}

impl Ground {
    async fn up(services: &str) -> anyhow::Result<Self> {
        let sterna = Sterna::built()?;
        let began = Instant::now();
        let clusters = [TwoNodes::up().await?, TwoNodes::up_with_one().await?];
        println!("two clusters up in {:?}", began.elapsed());
        let folder = tempfile::tempdir()?;
        let places = CONTEXTS.map(|context| {
            format!("kubernetes = {{ context = \"{context}\", namespace = \"{NAMESPACE}\" }}")
        });
        std::fs::write(folder.path().join("inventory.toml"), inventory(&places, services))?;
        Ok(Self { clusters, sterna, kubeconfig: String::new(), services: services.to_owned(), folder })
    }

    /// From now on with no more rights than `sterna rbac` prints, which each cluster grants to an account of its own. None of the
    /// contexts is the current one.
    async fn with_rights(&mut self, mode: &str) -> anyhow::Result<()> {
        let rbac = ["rbac", "--namespace", HOME, "--account", mode, "--nodes", NAMESPACE, "--mode", mode];
        let file = self.folder.path().join(format!("{mode}.yaml"));
        std::fs::write(&file, self.sterna.must(&rbac).await?)?;
        let config = self.folder.path().join(format!("{mode}.kubeconfig")).display().to_string();
        for (cluster, context) in self.clusters.iter().zip(CONTEXTS) {
            cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?;
            let token = cluster.kubectl(&["-n", HOME, "create", "token", mode]).await?;
            let of = async |key: &str| {
                let path = format!("jsonpath={{.clusters[0].cluster.{key}}}");
                cluster.kubectl(&["config", "view", "-o", &path]).await
            };
            let own = ["config", "--kubeconfig", &config];
            let alone = async |rest: &[&str]| cluster.kubectl_alone(&[&own[..], rest].concat()).await;
            let (server, authority) = (of("server").await?, of("certificate-authority").await?);
            alone(&["set-cluster", context, "--server", &server, "--certificate-authority", &authority])
                .await?;
            alone(&["set-credentials", context, "--token", &token]).await?;
            alone(&["set-context", context, "--cluster", context, "--user", context]).await?;
        }
        self.kubeconfig = config;
        Ok(())
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let environment = [("KUBECONFIG", self.kubeconfig.as_str())];
        self.sterna.run_in(self.folder.path(), &environment, arguments).await
    }

    async fn must(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let finished = self.run(arguments).await?;
        ensure!(finished.status.success(), "sterna {arguments:?}: {}\n{}", finished.stdout, finished.stderr);
        Ok(finished.stdout)
    }

    /// Loads the node image in both clusters, and that of services in the first one, where a pod of its own is made of it.
    async fn load(&self, services: &str) -> anyhow::Result<String> {
        let [node, client] = ["node.tar", "client.tar"].map(|name| self.folder.path().join(name));
        let image = self.must(&["sites", "image", "--out", "node.tar"]).await?;
        docker(&["save", "--output", &client.display().to_string(), services]).await?;
        self.clusters[0].load(&client).await?;
        for cluster in &self.clusters {
            cluster.load(&node).await?;
        }
        for file in [node, client] {
            std::fs::remove_file(file)?;
        }
        Ok(image.trim().to_owned())
    }

    /// The pods of nodes that a cluster has.
    async fn pods(&self, cluster: usize) -> anyhow::Result<String> {
        self.clusters[cluster].kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await
    }

    /// Where the agents listen.
    async fn agents(&self) -> anyhow::Result<[SocketAddr; 2]> {
        let shown =
            self.must(&["sites", "status", "inventory.toml", "--state", "state", "--output", "json"]).await?;
        let nodes: Vec<Value> = serde_json::from_str(&shown)?;
        ensure!(nodes.iter().all(|node| node["state"] == "ready"), "{shown}");
        let of = |name: &str| {
            let node = nodes.iter().find(|node| node["node"] == name).context("a node is missing")?;
            anyhow::Ok(node["address"].as_str().context("it has no address")?.parse()?)
        };
        Ok([of(NODES[0])?, of(NODES[1])?])
    }

    /// Which node runs Redis, as all agents say.
    async fn runs_on(&self) -> anyhow::Result<String> {
        let shown = self
            .run(&["services", "status", "inventory.toml", "--state", "state", "--output", "json"])
            .await?;
        let rows: Vec<Value> = serde_json::from_str(&shown.stdout)?;
        let running: Vec<_> = rows.iter().filter(|row| row["running"] == true).collect();
        let [row] = running[..] else { bail!("Redis runs {} times: {}", running.len(), shown.stdout) };
        Ok(row["node"].as_str().context("no node")?.to_owned())
    }

    async fn migrate(&self, to: &str) -> anyhow::Result<()> {
        let order = ["migrate", "redis", "--to", to, "--inventory", "inventory.toml", "--state", "state"];
        let began = Instant::now();
        let report: Value =
            serde_json::from_str(&self.must(&[&order[..], &["--output", "json"]].concat()).await?)?;
        ensure!(report["outcome"]["outcome"] == "moved", "{report}");
        println!("redis to {to}: downtime {}, in all {:?}", report["downtime"], began.elapsed());
        ensure!(self.runs_on().await? == to);
        // Clients go on there before it leaves again.
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// A front on this machine. Gives where it listens, too.
    async fn front(&self) -> anyhow::Result<(Daemon, SocketAddr)> {
        let listen = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let text = format!(
            "schema_version = 1\ninventory = \"inventory.toml\"\n[[service]]\nname = \"redis\"\nlisten = \"{listen}\"\n\
             port = {PORT}\nprotocol = \"redis\"\nconnections = 100\n"
        );
        std::fs::write(self.folder.path().join("front.toml"), text)?;
        let mut command = self.sterna.command();
        command.args(["front", "--config", "front.toml", "--state", "state"]);
        command.current_dir(self.folder.path()).env("KUBECONFIG", &self.kubeconfig);
        let mut daemon = Daemon::start("sterna front", command, self.folder.path().join("front.log"))?;
        daemon.until(SOON, || async { TcpStream::connect(listen).await.is_ok() }).await?;
        Ok((daemon, listen))
    }

    /// The inventory for fronts in the first cluster, which know its own nodes alone.
    async fn inventory_inside(&self) -> anyhow::Result<String> {
        let [_, far] = self.agents().await?;
        let places =
            [format!("kubernetes = {{ namespace = \"{NAMESPACE}\" }}"), format!("agent = \"{far}\"")];
        Ok(inventory(&places, &self.services))
    }

    /// A scheduler that wants Redis in the second cluster, and only says so.
    async fn scheduler(&self) -> anyhow::Result<Scheduler> {
        let work = Work {
            inventory: self.folder.path().join("inventory.toml"),
            state: self.folder.path().join("state"),
            prometheus: None,
            policy: policy("recommend"),
        };
        let sterna = self.sterna.clone().with("KUBECONFIG", &self.kubeconfig);
        let mut scheduler = Scheduler::start(&sterna, &work, self.folder.path(), |_| {})?;
        scheduler.until(SOON, |printed| printed.contains("nothing is moved")).await?;
        Ok(scheduler)
    }
}

async fn run_id(address: SocketAddr) -> anyhow::Result<String> {
    let mut redis = Connection::open(address).await?;
    let info = redis.command(&["INFO", "server"]).await?.text().context("no INFO")?;
    let line = info.lines().find_map(|line| line.trim().strip_prefix("run_id:"));
    Ok(line.context("Redis tells no run_id")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two whole clusters take minutes; see the head of this file"]
async fn redis_moves_between_clusters_and_no_request_of_its_clients_fails() -> anyhow::Result<()> {
    let charts = Charts::obtain().await?;
    let image = service_image().await?;
    let command = ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
    let redis = Service::new("redis", &image, &command).port(PORT).table(NODES[0])?;
    let mut ground = Ground::up(&redis).await?;
    let node_image = ground.load(&image).await?;
    ground.with_rights("act").await?;
    let began = Instant::now();
    ground.must(&["sites", "up", "inventory.toml", "--state", "state"]).await?;
    println!("nodes up in {:?}", began.elapsed());
    for (cluster, node) in NODES.iter().enumerate() {
        ensure!(ground.pods(cluster).await? == format!("pod/sterna-{NAME}-{node}"));
    }

    // All that moves services needs less.
    ground.with_rights("observe").await?;
    let agents = ground.agents().await?;
    ground.must(&["services", "up", "inventory.toml", "--state", "state"]).await?;
    let issue = ["front", "--issue", "front", "--inventory", "inventory.toml", "--state", "state"];
    ground.must(&issue).await?;
    let cluster = &ground.clusters[0];
    let seen_inside = ground.inventory_inside().await?;
    let within = inside::fronts(&ground, &charts, &node_image, &seen_inside).await?;
    let (front, beside) = ground.front().await?;

    let mut dataset = Dataset::new(KEYS);
    let began = Instant::now();
    while let Err(error) = dataset.load(within).await {
        ensure!(began.elapsed() < SOON, "Redis does not answer: {error:#}");
        sleep(Duration::from_millis(200)).await;
    }
    let run = run_id(within).await?;
    let goes_on = async |node: usize| -> anyhow::Result<()> {
        let now = run_id(SocketAddr::new(agents[node].ip(), PORT)).await?;
        ensure!(now == run, "it was started anew on {}", NODES[node]);
        Ok(())
    };
    inside::start_counting(cluster, &image).await?;
    // Half of them by the fronts in the first cluster, half by the one on this machine.
    let writing = Clients::start(CLIENTS, |number, stop| {
        clients::writes([within, beside][number % 2], KEYS, number, CLIENTS, stop)
    });
    for (to, index) in [("n2", 1), ("n1", 0)] {
        ground.migrate(to).await?;
        goes_on(index).await?;
    }

    // The API server of the second cluster is away: who knows its nodes already moves services there.
    let mut scheduler = ground.scheduler().await?;
    ground.clusters[1].suspend_api_server()?;
    scheduler.change_policy(&policy("auto"))?;
    let began = Instant::now();
    scheduler.until(SOON, |printed| printed.contains("cleaned")).await?;
    goes_on(1).await?;
    println!("redis to n2 while its API server is away: in {:?}", began.elapsed());
    drop(scheduler);
    // Who does not, finds none.
    let began = Instant::now();
    let order = ["migrate", "redis", "--to", "n1", "--inventory", "inventory.toml", "--state", "state"];
    let refused = ground.run(&order).await?;
    println!("a command meanwhile is refused in {:?}", began.elapsed());
    ensure!(
        !refused.status.success() && refused.stderr.contains("context south"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    goes_on(1).await?;
    ground.clusters[1].resume_api_server()?;
    ground.migrate("n1").await?;
    goes_on(0).await?;

    let (seen, known) = writing.stop().await?;
    println!("{} requests, {} failed, longest wait {:?}", seen.requests, seen.failed, seen.longest);
    ensure!(seen.failed == 0 && seen.closed == (0, 0), "{seen:?}");
    let counted = inside::stop_counting(cluster).await?;
    println!("{counted} requests of a pod, none failed");
    let mut redis = Connection::open(within).await?;
    let held = redis.command(&["GET", inside::KEY]).await?.text().context("it is not counted")?;
    ensure!(held == counted.to_string(), "Redis counted to {held}, the pod was told of {counted}");
    redis.command(&["DEL", inside::KEY]).await?;
    for (index, write) in known.into_iter().flatten() {
        dataset.acknowledged(index, write);
    }
    let expected = Reference::start("sterna-e2e-clusters-reference").await?.digest_of(&dataset).await?;
    let held = redis.command(&["DEBUG", "DIGEST"]).await?.text().context("no digest")?;
    ensure!(Digest::read(&held)? == expected, "Redis holds {held}, clients were told of {expected}");
    drop(front);

    ground.with_rights("act").await?;
    let began = Instant::now();
    ground.must(&["sites", "down", "inventory.toml", "--state", "state"]).await?;
    println!("nodes down in {:?}", began.elapsed());
    for cluster in &ground.clusters {
        let left = cluster.kubectl(&["-n", NAMESPACE, "get", "pods,secrets", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
    }
    Ok(())
}
