//! A front that stands in for a service: its output goes on across moves without a gap and without anything twice, it is ready while
//! the service is, also during a move, hears of nodes that its file comes to name, and ends as the service does.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker::docker;
use sterna_e2e::inventory::{NODES, Service, three_sites};
use sterna_e2e::process::Running;
use sterna_e2e::sterna::Sterna;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const IMAGE: &str = "sterna-services:latest";
const AGENT: u16 = 7420;
const PORT: u16 = 7007;
/// Time for what is to happen soon.
const SOON: Duration = Duration::from_secs(20);
/// Writes numbers, every tenth to its standard error too, takes connections, and ends with 3 when it is told to.
const COUNTER: &str = r#"
use IO::Socket::INET;
my $door = IO::Socket::INET->new(LocalPort => 7007, Listen => 64, ReuseAddr => 1, Blocking => 0) or die;
$| = 1;
for (my $at = 0; ; $at++) {
    syswrite(STDOUT, "$at\n");
    syswrite(STDERR, "e$at\n") if $at % 10 == 0;
    while (my $client = $door->accept) { syswrite($client, "hello\n"); close $client; }
    exit 3 if -e "/end";
    select(undef, undef, undef, 0.004);
}
"#;
/// Has no port, and ends soon.
const JOB: &str = "echo begun; echo noted >&2; sleep 1; printf done; exit 7";

/// A stand-in, and the files that it prints into.
struct StandIn {
    running: Running,
    out: PathBuf,
    err: PathBuf,
    metrics: SocketAddr,
    door: SocketAddr,
}

async fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// As a file that is mounted is swapped.
fn write(file: &Path, agents: &[(&str, SocketAddr)]) -> anyhow::Result<()> {
    let lines: Vec<String> =
        agents.iter().map(|(node, address)| format!("{node} = \"{address}\"\n")).collect();
    let new = file.with_extension("new");
    std::fs::write(&new, format!("schema_version = 1\n[agents]\n{}", lines.concat()))?;
    Ok(std::fs::rename(new, file)?)
}

impl StandIn {
    /// Starts one for a service; `port` is the one that it serves and that must take connections.
    async fn start(
        sterna: &Sterna,
        folder: &Path,
        name: &str,
        service: &str,
        port: Option<u16>,
    ) -> anyhow::Result<Self> {
        let (metrics, door) = (free().await?, free().await?);
        let mut text = format!(
            "schema_version = 1\nagents = \"agents.toml\"\nidentity = \"identity\"\nmetrics = \"{metrics}\"\nleave = \"1s\"\n"
        );
        if let Some(port) = port {
            text.push_str(&format!(
                "[[service]]\nname = \"{service}\"\nlisten = \"{door}\"\nport = {port}\nprotocol = \"tcp\"\n\
                 connections = 100\nhold = \"10s\"\n"
            ));
        }
        text.push_str(&format!("[stand_in]\nservice = \"{service}\"\n"));
        if let Some(port) = port {
            text.push_str(&format!("ready_tcp = {port}\n"));
        }
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        let (out, err) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let mut command = sterna.command();
        command.arg("front").arg("--config").arg(&file);
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        Ok(Self { running: Running::start(&mut command)?, out, err, metrics, door })
    }

    async fn ready(&self) -> anyhow::Result<(u16, String)> {
        readyz(self.metrics).await
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            match self.ready().await {
                Ok((200, _)) => return Ok(()),
                other if began.elapsed() > SOON => bail!("not ready: {other:?}"),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The numbers that it has printed, which follow one another; the first and the last of them.
    fn printed(&self) -> anyhow::Result<(u64, u64)> {
        let text = std::fs::read_to_string(&self.out)?;
        let numbers = |text: &str, mark: &str| -> anyhow::Result<Vec<u64>> {
            let number = |line: &str| Ok(line.strip_prefix(mark).context(line.to_owned())?.parse()?);
            text.lines().map(number).collect()
        };
        // The last may be half written.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let all = numbers(whole, "")?;
        for pair in all.windows(2) {
            ensure!(pair[1] == pair[0] + 1, "{} comes after {}", pair[1], pair[0]);
        }
        let text = std::fs::read_to_string(&self.err)?;
        let marked = numbers(&text[..text.rfind('\n').map_or(0, |end| end + 1)], "e")?;
        for pair in marked.windows(2) {
            ensure!(pair[1] == pair[0] + 10, "e{} comes after e{}", pair[1], pair[0]);
        }
        Ok((*all.first().context("nothing is printed")?, *all.last().context("nothing is printed")?))
    }

    async fn until_printed(&self, number: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.printed().map_or(0, |(_, last)| last) < number {
            ensure!(began.elapsed() < SOON, "{:?} after {SOON:?}, not {number}", self.printed());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn ends(mut self) -> anyhow::Result<i32> {
        let status = timeout(SOON, self.running.child().wait()).await.context("it does not end")??;
        status.code().context("it was killed")
    }
}

async fn readyz(metrics: SocketAddr) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(metrics).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: front\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    // Nobody waits for it longer.
    timeout(Duration::from_secs(1), stream.read_to_string(&mut answer)).await.context("no answer")??;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer.rsplit("\r\n").next().unwrap_or_default().to_owned()))
}

/// Asks again and again whether it is ready, until it is told to stop: how often it was, and each time that it was not.
async fn watched(metrics: SocketAddr, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut ready, mut not) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match readyz(metrics).await {
            Ok((200, _)) => ready += 1,
            other => not.push(format!("{other:?}")),
        }
        sleep(Duration::from_millis(10)).await;
    }
    (ready, not)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stand_in_prints_all_that_its_service_writes_is_ready_as_it_is_and_ends_as_it_does()
-> anyhow::Result<()> {
    let never = "restart = \"never\"\n";
    let counter =
        Service::new("counter", IMAGE, &["perl", "-e", COUNTER]).port(PORT).table(NODES[0])? + never;
    let job = Service::new("job", IMAGE, &["sh", "-c", JOB]).table(NODES[2])? + never;
    let sterna = Sterna::built()?;
    let continuum = Continuum::up(&sterna, &three_sites("e2e-stand-in", &(counter + &job))).await?;
    let folder = continuum.folder();
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let identity = folder.join("identity").display().to_string();
    sterna.must(&["front", "--issue", &identity, "--inventory", &file, "--state", &state]).await?;

    // Where the second node is to be is not known yet.
    let addresses = continuum.addresses(AGENT).await?;
    let agents = folder.join("agents.toml");
    let at = |node: usize, address| (NODES[node], address);
    write(&agents, &[at(0, addresses[0]), at(1, free().await?), at(2, addresses[2])])?;
    let first = StandIn::start(&sterna, folder, "first", "counter", Some(PORT)).await?;
    let began = Instant::now();
    loop {
        match first.ready().await {
            Ok((503, why)) if why.contains("runs nowhere yet") => break,
            other => ensure!(began.elapsed() < SOON, "{other:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    continuum.services_up().await?;
    first.until_ready().await?;
    write(&agents, &[at(0, addresses[0]), at(1, addresses[1]), at(2, addresses[2])])?;
    first.until_printed(100).await?;
    ensure!(first.printed()?.0 == 0);
    // The file is looked at every two seconds.
    sleep(Duration::from_millis(2500)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watched(first.metrics, Arc::clone(&stop)));
    for to in [NODES[1], NODES[0], NODES[1]] {
        println!("{}", continuum.migrate("counter", to).await?.trim());
        let (_, last) = first.printed()?;
        first.until_printed(last + 200).await?;
        let mut client = TcpStream::connect(first.door).await?;
        let mut hello = String::new();
        timeout(SOON, client.read_to_string(&mut hello)).await.context("no answer")??;
        ensure!(hello == "hello\n", "{hello:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let (ready, not) = watching.await?;
    ensure!(not.is_empty() && ready > 100, "ready {ready} times, and not: {not:?}");
    let (from, last) = first.printed()?;
    println!("{from} to {last} printed by the first, ready each of {ready} times");

    // Another one prints what is written where it runs now.
    first.running.ask_to_end();
    ensure!(first.ends().await? == 0, "it was asked to end");
    let second = StandIn::start(&sterna, folder, "second", "counter", Some(PORT)).await?;
    second.until_ready().await?;
    second.until_printed(last + 200).await?;
    let (begin, _) = second.printed()?;
    ensure!(begin > 0 && begin <= last, "it begins with {begin}");
    continuum.exec(NODES[1], "counter", &["touch", "/end"]).await?;
    let (out, err) = (second.out.clone(), second.err.clone());
    ensure!(second.ends().await? == 3);
    let node = continuum.container(NODES[1]);
    let wrote = docker(&["exec", &node, "sh", "-c", "docker logs counter 2>/dev/null"]).await?;
    ensure!(
        std::fs::read_to_string(&out)?.trim() == wrote.trim(),
        "{} differs from what it wrote",
        out.display()
    );
    let wrote = docker(&["exec", &node, "sh", "-c", "docker logs counter 2>&1 >/dev/null"]).await?;
    ensure!(
        std::fs::read_to_string(&err)?.trim() == wrote.trim(),
        "{} differs from what it wrote",
        err.display()
    );

    // What has ended before, and has no port.
    let job = StandIn::start(&sterna, folder, "job", "job", None).await?;
    let (out, err) = (job.out.clone(), job.err.clone());
    ensure!(job.ends().await? == 7);
    ensure!(std::fs::read_to_string(out)? == "begun\ndone" && std::fs::read_to_string(err)? == "noted\n");
    continuum.down().await
}
