//! Clients of a cluster reach services under the addresses of ordinary Kubernetes services, and see no failed request while Sterna
//! moves what stands behind them: between pods, to a node outside of the cluster, and from there into it. Needs root and minutes:
//!
//!     cargo test --workspace --test kubernetes_service -- --ignored --test-threads=1 --nocapture

#![expect(clippy::print_stdout, reason = "what was measured is shown")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use sterna_e2e::charts::{self, Charts};
use sterna_e2e::clients::{self, Clients};
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{self, PORT, Reference};
use sterna_e2e::docker;
use sterna_e2e::inventory::Service;
use sterna_e2e::patience::succeeds;
use sterna_e2e::pods::Pods;
use sterna_e2e::two_nodes::NODES;
use sterna_e2e::zoo::Workload as _;
use sterna_e2e::zoo::load::{http, page};
use sterna_e2e::zoo::nginx::Nginx;
use tokio::time::Instant;

const KEYS: usize = 20_000;
const CLIENTS: usize = 8;
const NAME: &str = "e2e-service";
/// Where the nodes are, and where their clients and the fronts are.
const NAMESPACE: &str = "edge";
const APPS: &str = "apps";
/// Ports of the services, in their containers and for clients.
const WEB: u16 = 8104;
const BOOKS: u16 = 5432;
const SOON: Duration = Duration::from_secs(60);

/// PostgreSQL that whoever reaches it may use.
const POSTGRES: &str = r#"mkdir -p /pg && chown postgres /pg && cd /pg || exit 1
bin=$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
as "$bin/initdb" -D /pg/data --auth trust >/pg/initdb.log || exit 1
echo 'host all all all trust' >>/pg/data/pg_hba.conf
exec setpriv --reuid postgres --regid postgres --init-groups "$bin/postgres" -D /pg/data -k /tmp -c listen_addresses='*'"#;

/// Two nodes as pods, one outside of the cluster, and what runs on them.
fn inventory(services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{NAME}\"\n");
    let pod = |node| format!("kubernetes = {{ namespace = \"{NAMESPACE}\", node = \"{node}\" }}\n");
    for (site, node, place) in
        [("a", "n1", pod(NODES[0])), ("b", "n2", pod(NODES[1])), ("c", "home", String::new())]
    {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"1\"\nmemory = \"2GiB\"\n{place}"
        ));
    }
    for [a, b] in [["a", "b"], ["b", "c"], ["a", "c"]] {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n"
        ));
    }
    text + services
}

/// A cluster, a continuum partly in it with its services, and fronts before these.
struct Ground {
    pods: Pods,
}

impl Ground {
    async fn up(charts: &Charts, services: &str) -> anyhow::Result<Self> {
        let ground = Self { pods: Pods::up(&inventory(services)).await? };
        let image = ground.pods.load_node_image().await?;
        let began = Instant::now();
        for what in ["sites", "services"] {
            ground.pods.desk.must_all([what, "up"]).await?;
        }
        println!("nodes and services up in {:?}", began.elapsed());
        ground.fronts(charts, &image).await?;
        Ok(ground)
    }

    /// As `docs/kubernetes.md` says it.
    async fn fronts(&self, charts: &Charts, image: &str) -> anyhow::Result<()> {
        let (repository, tag) = image.rsplit_once(':').context("the image has no tag")?;
        let (cluster, desk) = (&self.pods.cluster, &self.pods.desk);
        cluster.make_restricted(APPS).await?;
        let identity = desk.issue_front().await?;
        let secret = ["-n", APPS, "create", "secret", "generic", "sterna-front", "--from-file", &identity];
        self.kubectl(&secret).await?;
        let rights = desk.must(&["rbac", "--front", "--namespace", APPS, "--nodes", NAMESPACE]).await?;
        cluster.apply(&rights).await?;
        // In the cluster nobody can ask the engine that the node outside is a container of.
        let text = std::fs::read_to_string(desk.inventory())?;
        let address = self.address("home").await?;
        let home = "name = \"home\"\n";
        let values = json!({
            "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
            "log": { "json": false },
            "front": {
                "enabled": true,
                "existingSecret": "sterna-front",
                "inventory": text.replacen(home, &format!("{home}agent = \"{address}\"\n"), 1),
                "services": [
                    { "name": "redis", "ports": [{ "port": PORT, "protocol": "redis" }] },
                    {
                        "name": "nginx",
                        "serviceName": "shop",
                        "ports": [{ "port": 80, "targetPort": WEB, "protocol": "http" }],
                    },
                    { "name": "books", "ports": [{ "port": BOOKS, "protocol": "tcp" }] },
                ],
            },
        });
        let rendered = charts.render_of(APPS, &values.to_string(), &[charts::FRONT]).await?;
        let began = Instant::now();
        cluster.apply(&rendered).await?;
        self.rolled_out().await?;
        println!("two fronts ready in {:?}", began.elapsed());
        Ok(())
    }

    async fn rolled_out(&self) -> anyhow::Result<()> {
        let waits = ["-n", APPS, "rollout", "status", "deployment", "sterna-front", "--timeout", "240s"];
        if let Err(error) = self.kubectl(&waits).await {
            let pods = self.kubectl(&["-n", APPS, "describe", "pods"]).await.unwrap_or_default();
            let said = ["-n", APPS, "logs", "deployment/sterna-front", "--all-containers", "--tail", "40"];
            let said = self.kubectl(&said).await.unwrap_or_else(|error| error.to_string());
            bail!("{error:#}\n{pods}\n{said}");
        }
        Ok(())
    }

    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.pods.cluster.kubectl(arguments).await
    }

    /// Where the agent of a node listens.
    async fn address(&self, node: &str) -> anyhow::Result<String> {
        let nodes = self.pods.desk.good_status("sites").await?;
        let found = nodes.iter().find(|one| one["node"] == node).context("there is no such node")?;
        Ok(found["address"].as_str().context("it has no address")?.to_owned())
    }

    /// What clients in the cluster find under the name of a Kubernetes service.
    async fn service(&self, name: &str, port: u16) -> anyhow::Result<SocketAddr> {
        let path = "jsonpath={.spec.clusterIP}";
        let address = self.kubectl(&["-n", APPS, "get", "service", name, "-o", path]).await?;
        Ok(SocketAddr::new(address.parse()?, port))
    }

    /// Moves a service.
    async fn migrate(&self, service: &str, to: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let report = self.pods.desk.migrate(service, to).await?;
        println!("{service} to {to}: downtime {}, in all {:?}", report["downtime"], began.elapsed());
        Ok(())
    }

    /// A number that the fronts count of a service, all of them together.
    async fn counted(&self, service: &str, name: &str) -> anyhow::Result<u64> {
        let path = "jsonpath={.items[*].status.podIP}";
        let fronts = ["-n", APPS, "get", "pods", "-l", "app.kubernetes.io/name=sterna-front", "-o", path];
        let mut sum = 0;
        for front in self.kubectl(&fronts).await?.split_whitespace() {
            let text = page(&http()?, SocketAddr::new(front.parse()?, 9464), "/metrics").await?;
            let key = format!("sterna_front_{name}{{service=\"{service}\",");
            let line = text.lines().find_map(|line| line.strip_prefix(&key)?.split_once("} "));
            sum += line.context("it is not counted")?.1.trim().parse::<u64>()?;
        }
        Ok(sum)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a whole cluster takes minutes; see the head of this file"]
async fn no_request_through_a_kubernetes_service_fails_while_what_stands_behind_it_moves()
-> anyhow::Result<()> {
    let charts = Charts::obtain().await?;
    let image = docker::service_image().await?;
    let command = ["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "yes"];
    let services = [
        Service::new("redis", &image, &command).port(PORT),
        Nginx::default().service().image(&image),
        Service::new("books", &image, &["bash", "-c", POSTGRES]).port(BOOKS).volume("pg:/pg"),
    ];
    let tables: Result<String, _> = services.iter().map(|service| service.table("n1")).collect();
    let ground = Ground::up(&charts, &tables?).await?;

    let redis = ground.service("redis", PORT).await?;
    let mut dataset = Dataset::new(KEYS);
    succeeds(SOON, "Redis answers", async || dataset.load(redis).await).await?;
    let writing = Clients::start(CLIENTS, |number, stop| clients::writes(redis, KEYS, number, CLIENTS, stop));
    for to in ["n2", "n1", "home", "n1"] {
        ground.migrate("redis", to).await?;
    }
    let (seen, known) = writing.stop().await?;
    println!("{}", seen.told("redis")?);
    for (index, write) in known.into_iter().flatten() {
        dataset.acknowledged(index, write);
    }
    let expected = Reference::start("sterna-e2e-service-reference").await?.digest_of(&dataset).await?;
    let held = digest::held(redis).await?;
    ensure!(held == expected, "Redis holds {held}, clients were told of {expected}");

    let shop = ground.service("shop", 80).await?;
    let [kept, new] =
        [true, false].map(|kept| Clients::start(CLIENTS, move |_, stop| clients::browses(shop, kept, stop)));
    for to in ["n2", "n1", "home", "n2"] {
        ground.migrate("nginx", to).await?;
    }
    let (seen, _) = kept.stop().await?;
    println!("{}", seen.told("http, connections kept")?);
    for service in ["redis", "nginx"] {
        for name in ["closed_at_boundary_total", "closed_in_request_total", "refused_total"] {
            ensure!(ground.counted(service, name).await? == 0, "{service}: {name}");
        }
    }
    // Fronts are replaced one after another: whoever comes anew sees nothing of it.
    ground.kubectl(&["-n", APPS, "rollout", "restart", "deployment", "sterna-front"]).await?;
    ground.rolled_out().await?;
    let (seen, _) = new.stop().await?;
    println!("{}", seen.told("http, a connection for each, over an update of the fronts too")?);

    let books = ground.service("books", BOOKS).await?;
    succeeds(SOON, "PostgreSQL answers", async || clients::open_books(books).await).await?;
    let writing = Clients::start(CLIENTS, |number, stop| clients::books(books, number, stop));
    for to in ["n2", "n1"] {
        ground.migrate("books", to).await?;
    }
    let (seen, mut known) = writing.stop().await?;
    println!(
        "{}",
        seen.told("PostgreSQL, transactions of clients that make another connection when theirs is closed")?
    );
    known.sort_unstable();
    let noted = clients::noted(books).await?;
    let noted: Vec<(usize, i32)> = noted
        .into_iter()
        .map(|(client, count, highest)| {
            ensure!(count == i64::from(highest), "client {client}: {count} numbers up to {highest}");
            Ok((usize::try_from(client)?, highest))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(noted == known, "PostgreSQL has {noted:?}, clients were told of {known:?}");
    Ok(())
}
