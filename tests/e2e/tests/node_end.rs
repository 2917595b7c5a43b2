//! What becomes of a service that stands frozen on its way when its node is asked to end.

use std::time::Duration;

use anyhow::ensure;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker::{self, docker};
use sterna_e2e::inventory::{NODES, Service, three_sites};
use sterna_e2e::sterna::Sterna;
use tokio::time::{Instant, sleep};

/// Holds so much that it stands frozen for half a minute, and writes down that it is asked to end.
const SCRIPT: &str = r#"open(my $random, "<:raw", "/dev/urandom") or die;
read($random, my $memory, 96 << 20) == 96 << 20 or die;
$SIG{TERM} = sub { open(my $end, ">>", "/data/end") or die; print $end "asked\n"; close($end); exit 0 };
open(my $ready, ">", "/data/ready") or die;
close($ready);
sleep 1 while 1;"#;

async fn within(most: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so().await {
        ensure!(start.elapsed() < most, "not within {most:?}: {what}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_stands_frozen_goes_on_before_its_node_ends_and_is_asked_to_end_like_any()
-> anyhow::Result<()> {
    let sterna = Sterna::built()?;
    let image = docker::service_image().await?;
    let service = Service::new("keeper", &image, &["perl", "-e", SCRIPT]).volume("keeper-data:/data");
    let (to, from) = (NODES[0], NODES[1]);
    let continuum = Continuum::up(&sterna, &three_sites("e2e-node-end", &service.table(to)?)).await?;
    continuum.services_up().await?;
    // It comes from where it goes to, which has its image then.
    continuum.migrate("keeper", from).await?;
    let file = async |name: &str| continuum.exec(from, "keeper", &["cat", &format!("/data/{name}")]).await;
    within(Duration::from_secs(30), "the service is ready", async || file("ready").await.is_ok()).await?;

    let (inventory, state) =
        (continuum.file().display().to_string(), continuum.state().display().to_string());
    let mut migrating = sterna.command();
    migrating.args(["migrate", "keeper", "--to", to, "--memory", "while-frozen", "--bandwidth", "3MiB/s"]);
    migrating.args(["--freeze-lease", "90s", "--inventory", &inventory, "--state", &state]);
    let migrating = migrating.kill_on_drop(true).spawn()?;
    let node = continuum.container(from);
    let frozen = ["exec", &node, "docker", "inspect", "--format", "{{.State.Paused}}", "keeper"];
    within(Duration::from_secs(30), "the service is frozen", async || {
        docker(&frozen).await.is_ok_and(|paused| paused == "true")
    })
    .await?;
    // As the host's engine does it, and a cluster with a pod that is deleted.
    docker(&["stop", "--time", "40", &node]).await?;
    drop(migrating);
    continuum.up_again().await?;

    within(
        Duration::from_secs(30),
        "the service runs again",
        async || matches!(continuum.runs_on("keeper").await, Ok(Some(node)) if node == from),
    )
    .await?;
    ensure!(file("end").await? == "asked", "it was killed where it stood");
    continuum.down().await
}
