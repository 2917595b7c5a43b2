//! Services move between pods of two clusters that know nothing of each other, named by contexts of one kubeconfig; their clients, on this
//! machine and in a pod, see no failed request. Needs root and minutes:
//!
//!     cargo test --workspace --test kubernetes_clusters -- --ignored --nocapture

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sterna_e2e::charts::Charts;
use sterna_e2e::clients::{self, Clients};
use sterna_e2e::dataset::Dataset;
use sterna_e2e::desk::Desk;
use sterna_e2e::digest::{self, PORT, Reference, run_id};
use sterna_e2e::docker::{docker, service_image};
use sterna_e2e::inventory::Service;
use sterna_e2e::patience::succeeds;
use sterna_e2e::process::Daemon;
use sterna_e2e::resp::Connection;
use sterna_e2e::scheduler::{Scheduler, Work};
use sterna_e2e::two_nodes::TwoNodes;
use tokio::net::TcpStream;
use tokio::time::Instant;

mod kubernetes_clusters {
    pub mod inside;
}
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
    /// Its kubeconfig is of both clusters.
    desk: Desk,
    services: String,
}

impl Ground {
    async fn up(services: &str) -> anyhow::Result<Self> {
        let began = Instant::now();
        let clusters = [TwoNodes::up().await?, TwoNodes::up_with_one().await?];
        println!("two clusters up in {:?}", began.elapsed());
        let places = CONTEXTS.map(|context| {
            format!("kubernetes = {{ context = \"{context}\", namespace = \"{NAMESPACE}\" }}")
        });
        let desk = Desk::with(&inventory(&places, services), "")?;
        Ok(Self { clusters, desk, services: services.to_owned() })
    }

    /// From now on with no more rights than `sterna rbac` prints, which each cluster grants to an account of its own. None of the
    /// contexts is the current one.
    async fn with_rights(&mut self, mode: &str) -> anyhow::Result<()> {
        let rbac = ["rbac", "--namespace", HOME, "--account", mode, "--nodes", NAMESPACE, "--mode", mode];
        let rights = self.desk.sterna.must(&rbac).await?;
        let config = self.desk.file(&format!("{mode}.kubeconfig")).display().to_string();
        for (cluster, context) in self.clusters.iter().zip(CONTEXTS) {
            cluster.apply(&rights).await?;
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
        self.desk.kubeconfig = config;
        Ok(())
    }

    /// Loads the node image in both clusters, and that of services in the first one, where a pod of its own is made of it.
    async fn load(&self, services: &str) -> anyhow::Result<String> {
        let client = self.desk.file("client.tar");
        docker(&["save", "--output", &client.display().to_string(), services]).await?;
        self.clusters[0].load(&client).await?;
        std::fs::remove_file(client)?;
        self.desk.load_node_image(&self.clusters).await
    }

    /// The pods of nodes that a cluster has.
    async fn pods(&self, cluster: usize) -> anyhow::Result<String> {
        self.clusters[cluster].kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"]).await
    }

    /// Where the agents listen.
    async fn agents(&self) -> anyhow::Result<[SocketAddr; 2]> {
        let nodes = self.desk.good_status("sites").await?;
        ensure!(nodes.iter().all(|node| node["state"] == "ready"), "{nodes:?}");
        let of = |name: &str| {
            let node = nodes.iter().find(|node| node["node"] == name).context("a node is missing")?;
            anyhow::Ok(node["address"].as_str().context("it has no address")?.parse()?)
        };
        Ok([of(NODES[0])?, of(NODES[1])?])
    }

    async fn migrate(&self, to: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let report = self.desk.migrate("redis", to).await?;
        println!("redis to {to}: downtime {}, in all {:?}", report["downtime"], began.elapsed());
        ensure!(self.desk.runs_on("redis").await? == to);
        Ok(())
    }

    /// A front on this machine. Gives where it listens, too.
    async fn front(&self) -> anyhow::Result<(Daemon, SocketAddr)> {
        let listen = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let text = format!(
            "schema_version = 1\ninventory = \"inventory.toml\"\n[[service]]\nname = \"redis\"\nlisten = \"{listen}\"\n\
             port = {PORT}\nprotocol = \"redis\"\nconnections = 100\n"
        );
        std::fs::write(self.desk.file("front.toml"), text)?;
        let mut command = self.desk.command();
        command.args(["front", "--config", "front.toml", "--state", "state"]);
        let mut daemon = Daemon::start("sterna front", command, self.desk.file("front.log"))?;
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
            inventory: self.desk.inventory(),
            state: self.desk.state(),
            prometheus: None,
            policy: policy("recommend"),
        };
        let sterna = self.desk.sterna.clone().with("KUBECONFIG", &self.desk.kubeconfig);
        let mut scheduler = Scheduler::start(&sterna, &work, self.desk.folder(), |_| {})?;
        scheduler.until(SOON, |printed| printed.contains("nothing is moved")).await?;
        Ok(scheduler)
    }
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
    ground.desk.must_all(["sites", "up"]).await?;
    println!("nodes up in {:?}", began.elapsed());
    for (cluster, node) in NODES.iter().enumerate() {
        ensure!(ground.pods(cluster).await? == format!("pod/sterna-{NAME}-{node}"));
    }

    // All that moves services needs less.
    ground.with_rights("observe").await?;
    let agents = ground.agents().await?;
    ground.desk.must_all(["services", "up"]).await?;
    let identity = ground.desk.issue_front().await?;
    let cluster = &ground.clusters[0];
    let seen_inside = ground.inventory_inside().await?;
    let within = inside::fronts(&ground, &charts, &node_image, &identity, &seen_inside).await?;
    let (front, beside) = ground.front().await?;

    let mut dataset = Dataset::new(KEYS);
    succeeds(SOON, "Redis answers", async || dataset.load(within).await).await?;
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
    let refused = ground.desk.run(&Desk::migration("redis", "n1")).await?;
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
    let held = digest::held(within).await?;
    ensure!(held == expected, "Redis holds {held}, clients were told of {expected}");
    drop(front);

    ground.with_rights("act").await?;
    let began = Instant::now();
    ground.desk.must_all(["sites", "down"]).await?;
    println!("nodes down in {:?}", began.elapsed());
    for cluster in &ground.clusters {
        let left = cluster.kubectl(&["-n", NAMESPACE, "get", "pods,secrets", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
    }
    Ok(())
}
