//! Services from their first start to their removal, on real nodes: confined as was said wherever they are, heard to the last byte
//! wherever they go, told how they ended, started once, and gone when they are removed.

mod services {
    pub mod registry;
}

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde::Serialize;
use services::registry;
use sterna_core::continuum::{Run, ServiceName, inventory};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker::{self, docker};
use sterna_e2e::inventory::three_sites;
use sterna_e2e::process;
use sterna_e2e::sterna::Sterna;
use sterna_executor::identity::{Authority, Credentials, Role};
use sterna_executor::node::api::StartService;
use sterna_executor::node::client::{AgentClient, ClientError};
use sterna_executor::platform::agent::AGENT_PORT;
use sterna_executor::traffic::announcement::Ended;
use sterna_executor::traffic::output::{Agents, Place, Printer, follow_output};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Counts on its standard output, each line in two pieces, and every tenth time on the other one, until it is interrupted.
const COUNTER: &str = r#"my ($n, $end) = (0, 0);
$SIG{INT} = sub { $end = 1 };
until ($end) {
    $n++;
    syswrite(STDOUT, $n);
    syswrite(STDOUT, "\n");
    syswrite(STDERR, "of $n\n") if $n % 10 == 0;
    select(undef, undef, undef, 0.002);
}
syswrite(STDOUT, "end\n");
exit 42;"#;

/// Holds so much that it is on its way for some seconds.
const KEEPER: &str = r#"open(my $random, "<:raw", "/dev/urandom") or die;
read($random, my $memory, 48 << 20) == 48 << 20 or die;
syswrite(STDOUT, "ready\n");
sleep 1 while 1;"#;

#[derive(Serialize)]
struct Table<'a> {
    service: [Service<'a>; 1],
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    cpu: &'a str,
    memory: &'a str,
    run: Started<'a>,
}

#[derive(Serialize)]
struct Started<'a> {
    image: &'a str,
    on: &'a str,
    #[serde(flatten)]
    how: toml::Table,
}

/// A service of an inventory on `a1`, with these keys.
fn service(name: &str, command: &[&str], keys: &str) -> anyhow::Result<String> {
    let mut how: toml::Table = keys.parse()?;
    how.insert("command".to_owned(), command.to_vec().into());
    let run = Started { image: "sterna-services:latest", on: "a1", how };
    Ok(toml::to_string(&Table { service: [Service { name, cpu: "0.1", memory: "128MiB", run }] })?)
}

const CONFINED: &str = r#"
entrypoint = ["perl", "-e"]
working_dir = "/tmp"
user = "1234:4321"
memory_limit = "64MiB"
cpu_limit = "0.5"
read_only = true
drop_capabilities = ["ALL"]
no_new_privileges = true
restart = "never"
stop_timeout = "1s"
volumes = ["counter-data:/data"]
"#;

struct Scene {
    sterna: Sterna,
    continuum: Continuum,
    authority: Authority,
}

impl Scene {
    async fn agent(&self, node: &str, credentials: &Credentials) -> anyhow::Result<AgentClient> {
        let address = SocketAddr::new(self.continuum.address(node).await?, AGENT_PORT);
        Ok(AgentClient::new(credentials, &node.into(), &address.to_string()).await?)
    }

    async fn scheduler(&self, node: &str) -> anyhow::Result<AgentClient> {
        self.agent(node, &self.authority.issue(&Role::Scheduler)?).await
    }

    fn command(&self, words: &[&str], rest: &[&str]) -> tokio::process::Command {
        let mut command = self.sterna.command();
        command.args(words).arg(self.continuum.file()).args(rest).arg("--state").arg(self.continuum.state());
        command
    }

    async fn engine(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let container = self.continuum.container(node);
        docker(&[&["exec", &container, "docker"], arguments].concat()).await
    }
}

/// A service is as its inventory says.
async fn confined(scene: &Scene, node: &str) -> anyhow::Result<()> {
    let script = "id -u; id -g; readlink /proc/1/cwd; grep -E '^(CapBnd|NoNewPrivs)' /proc/1/status | tr -d '\\t'; \
                  (echo x > /x) 2>&1 | grep -o Read-only";
    let seen = scene.continuum.exec(node, "counter", &["sh", "-c", script]).await?;
    let lines: Vec<&str> = seen.lines().collect();
    let expected = ["1234", "4321", "/tmp", "CapBnd:0000000000000000", "NoNewPrivs:1", "Read-only"];
    ensure!(lines == expected, "on {node}: {lines:?}");
    // By the kernel's word: under the first version of control groups and under the second.
    let id = scene.engine(node, &["inspect", "--format", "{{.Id}}", "counter"]).await?;
    let groups = format!(
        "cat /sys/fs/cgroup/memory/docker/{id}/memory.limit_in_bytes /sys/fs/cgroup/docker/{id}/memory.max 2>/dev/null; true"
    );
    let limit = docker(&["exec", &scene.continuum.container(node), "sh", "-c", &groups]).await?;
    ensure!(limit == (64 << 20).to_string(), "on {node} the limit of its memory is {limit}");
    let format = "{{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}} {{.Config.StopTimeout}}";
    let seen = scene.engine(node, &["inspect", "--format", format, "counter"]).await?;
    ensure!(seen == "500000000 no 1", "on {node}: {seen}");
    Ok(())
}

/// All numbers from 1 on, each once, and the end.
fn whole(out: &str, err: &str) -> anyhow::Result<usize> {
    let mut lines: Vec<&str> = out.lines().collect();
    ensure!(lines.pop() == Some("end"), "it does not end with its end: {:?}", lines.last());
    for (at, line) in lines.iter().enumerate() {
        ensure!(
            *line == (at + 1).to_string(),
            "line {} is `{line}` after {:?}",
            at + 1,
            &lines[at.saturating_sub(3)..at]
        );
    }
    let expected: String = (1..=lines.len() / 10).map(|tenth| format!("of {}\n", tenth * 10)).collect();
    ensure!(err == expected, "of the other stream {} bytes, not {}", err.len(), expected.len());
    Ok(lines.len())
}

/// While it is on its way a service can't be removed at either end, nor can an end that does not know it be told to start it.
async fn not_on_its_way(scene: &Scene) -> anyhow::Result<()> {
    let keeper = ServiceName::from("keeper");
    let (a, b) = (scene.scheduler("a1").await?, scene.scheduler("b1").await?);
    let mut migrating = scene.sterna.command();
    migrating.args(["migrate", "keeper", "--to", "b1", "--memory", "while-frozen", "--bandwidth", "16MiB/s"]);
    migrating.arg("--inventory").arg(scene.continuum.file()).arg("--state").arg(scene.continuum.state());
    let mut migrating = migrating.stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    let begin = Instant::now();
    while b.coming_in().await?.is_empty() {
        ensure!(begin.elapsed() < Duration::from_secs(20), "nothing comes to b1");
        sleep(Duration::from_millis(50)).await;
    }
    for (agent, word) in [(&a, "is being moved to `b1`"), (&b, "is being moved here from `a1`")] {
        let refused = agent.remove_service(&keeper).await;
        ensure!(
            matches!(&refused, Err(ClientError::Refused { reason, .. }) if reason.contains(word)),
            "while it is on its way: {refused:?}"
        );
    }
    ensure!(migrating.wait().await?.success(), "the move went wrong");
    let policy =
        scene.engine("b1", &["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "keeper"]).await?;
    ensure!(policy == "on-failure", "after the move its restart policy is {policy}");
    Ok(())
}

async fn pulled(scene: &Scene) -> anyhow::Result<()> {
    let agent = scene.scheduler("a1").await?;
    ensure!(agent.image_digest(registry::IMAGE).await?.is_none(), "the image is there before it was pulled");
    // A registry needs a moment to listen.
    let begin = Instant::now();
    while let Err(error) = agent.pull_image(registry::IMAGE, Duration::from_secs(20)).await {
        ensure!(begin.elapsed() < Duration::from_secs(10), "{error}");
        sleep(Duration::from_millis(200)).await;
    }
    ensure!(
        agent.image_digest(registry::IMAGE).await?.is_some(),
        "the image is not there after it was pulled"
    );
    // Once it is there the registry is not asked.
    scene.engine("a1", &["pause", "registry"]).await?;
    agent.pull_image(registry::IMAGE, Duration::from_secs(2)).await?;
    let other = "127.0.0.1:5000/tests/other:1";
    let late = agent.pull_image(other, Duration::from_secs(1)).await;
    ensure!(
        matches!(&late, Err(ClientError::Busy { reason, .. }) if reason.contains("within 1 s")),
        "{late:?}"
    );
    scene.engine("a1", &["unpause", "registry"]).await?;
    for image in [other, "127.0.0.1:1/nobody/nothing:1"] {
        let refused = agent.pull_image(image, Duration::from_secs(20)).await;
        let Err(ClientError::Refused { reason, .. }) = &refused else {
            anyhow::bail!("`{image}` is pulled: {refused:?}");
        };
        ensure!(reason.contains(image) && reason.contains("no credentials"), "{reason}");
    }
    let malformed = agent.pull_image("../events?", Duration::from_secs(20)).await;
    ensure!(matches!(malformed, Err(ClientError::Refused { .. })), "{malformed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_confined_heard_and_removed_wherever_it_is() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sterna = Sterna::built()?;
    docker::service_image().await?;
    let packing = tempfile::tempdir()?;
    let registry = registry::command(packing.path())?;
    let registry: Vec<&str> = registry.iter().map(String::as_str).collect();
    let services = [
        service("counter", &[COUNTER], CONFINED)?,
        service("keeper", &["perl", "-e", KEEPER], "restart = \"on-failure\"\nstop_timeout = \"1s\"")?,
        service(
            "registry",
            &registry,
            &format!("ports = [\"{}/tcp\"]\nstop_timeout = \"1s\"", registry::PORT),
        )?,
    ];
    let continuum = Continuum::up(&sterna, &three_sites("e2e-services", &services.concat())).await?;
    continuum.services_up().await?;
    let authority = Authority::open(&continuum.state().join(continuum.name()).join("authority"))?;
    let scene = Scene { sterna, continuum, authority };
    let counter = ServiceName::from("counter");

    // One reader in here, told of places as a front is, and one that looks for them itself.
    let text = std::fs::read_to_string(scene.continuum.file())?;
    let described =
        inventory::load("inventory.toml", &text).map_err(|error| anyhow::anyhow!("{error:?}"))?.value;
    let run = described.services[&counter].run.clone().context("how it is started")?;
    let front = scene.authority.issue(&Role::Front)?;
    let agents = Agents::new(counter.clone(), Arc::new(described), front.clone());
    let (tell, mut told) = mpsc::unbounded_channel::<Place>();
    let reading = tokio::spawn(async move {
        let places = futures_util::stream::poll_fn(move |context| told.poll_recv(context));
        let mut printer = Printer { out: Vec::new(), err: Vec::new() };
        follow_output(places, &agents, &mut printer).await.map(|()| (printer.out, printer.err))
    });
    let mut following = scene.command(&["services", "logs"], &["counter", "--follow"]);
    following.stdout(Stdio::piped()).stderr(Stdio::piped());
    let following = tokio::spawn(async move { process::run(&mut following).await });

    tell.send(Place { node: "a1".into(), epoch: 0 })?;
    confined(&scene, "a1").await?;
    for (epoch, node) in [(1, "b1"), (2, "a1")] {
        scene.continuum.migrate("counter", node).await?;
        tell.send(Place { node: node.into(), epoch })?;
        confined(&scene, node).await?;
    }

    // It ends, and that is told to whoever asks.
    let front = scene.agent("a1", &front).await?;
    let mut said = std::pin::pin!(front.traffic(std::slice::from_ref(&counter)).await?);
    let first = said.next().await.context("nothing is announced")??;
    ensure!(first.ended.is_empty() && first.services.contains_key(&counter), "{first:?}");
    // With its first process all others of a container end, this one too if it has not yet.
    let _ended_with_it = scene.continuum.exec("a1", "counter", &["sh", "-c", "kill -INT 1"]).await;
    let announced = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let said = said.next().await.context("the announcements end")??;
            if let Some(ended) = said.ended.get(&counter) {
                return anyhow::Ok((*ended, said.services.contains_key(&counter)));
            }
        }
    });
    ensure!(announced.await?? == (Ended { epoch: 2, code: 42 }, false), "another end is announced");
    let a = scene.scheduler("a1").await?;
    let owned = a.services().await?;
    let facts = owned.iter().find(|facts| facts.service == counter).context("it is not told of")?;
    ensure!((facts.running, facts.ended) == (false, Some(42)), "{facts:?}");

    let first = a
        .start_service(&StartService {
            service: counter.clone(),
            run: run.clone(),
            incarnation: Some("one".into()),
        })
        .await?;
    ensure!((first.running, first.ended) == (false, Some(42)), "it is started a second time: {first:?}");

    // Whoever read it has all of it, once.
    drop(tell);
    let (out, err) = reading.await??;
    let (out, err) = (String::from_utf8(out)?, String::from_utf8(err)?);
    let lines = whole(&out, &err)?;
    let followed = tokio::time::timeout(Duration::from_secs(20), following).await???;
    ensure!(
        followed.status.success(),
        "`services logs --follow` ended with {}: {}",
        followed.status,
        followed.stderr
    );
    ensure!(followed.stdout == out && followed.stderr == err, "two readers have read different things");
    println!("{lines} lines across two moves");
    let mut rest = scene.command(&["services", "logs"], &["counter"]);
    let rest = process::run(rest.stdout(Stdio::piped()).stderr(Stdio::piped())).await?;
    ensure!(rest.status.success() && !rest.stdout.is_empty() && out.ends_with(&rest.stdout), "another rest");
    let elsewhere = a.logs_at(&counter, Some(1), false).await.err();
    ensure!(matches!(elsewhere, Some(ClientError::Absent { .. })), "what is gone is read: {elsewhere:?}");

    pulled(&scene).await?;
    not_on_its_way(&scene).await?;

    // Where it has been it is not started a second time, and nothing is made.
    let b = scene.scheduler("b1").await?;
    let again = Run { on: "b1".into(), command: vec!["sleep".into(), "1000".into()], ..run.clone() };
    let brief = ServiceName::from("brief");
    let start = |life: &str| StartService {
        service: brief.clone(),
        run: Run { ports: Vec::new(), volumes: Vec::new(), ..again.clone() },
        incarnation: Some(life.to_owned()),
    };
    for _ in 0..2 {
        ensure!(b.start_service(&start("one")).await?.running, "what stands here is left as it is");
    }
    ensure!(b.remove_service(&brief).await? && !b.remove_service(&brief).await?, "it is removed once");
    let refused = b.start_service(&start("one")).await;
    ensure!(
        matches!(&refused, Err(ClientError::Refused { reason, .. }) if reason.contains("was started on this node before")),
        "{refused:?}"
    );
    ensure!(scene.engine("b1", &["ps", "--all", "--quiet", "--filter", "name=^brief$"]).await?.is_empty());
    // Another life is another service.
    ensure!(b.start_service(&start("two")).await?.running && b.remove_service(&brief).await?);

    // Removed it is gone with what only it had, everywhere.
    let volumes = ["volume", "ls", "--quiet", "--filter", "name=counter-data"];
    ensure!(scene.engine("a1", &volumes).await? == "counter-data");
    let mut down = scene.command(&["services", "down"], &["counter", "keeper"]);
    let down = process::run(down.stdout(Stdio::piped()).stderr(Stdio::piped())).await?;
    ensure!(down.status.success(), "{}", down.stderr);
    ensure!(
        down.stderr.contains("removed `counter` from `a1`")
            && down.stderr.contains("removed `keeper` from `b1`"),
        "{}",
        down.stderr
    );
    ensure!(scene.engine("a1", &volumes).await?.is_empty(), "its volume is left");
    ensure!(scene.continuum.runs_on("keeper").await?.is_none());
    scene.continuum.down().await
}
