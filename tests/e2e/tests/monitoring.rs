//! Prometheus and its exporters for real: what is measured is the delay that is set.

use std::time::Duration;

use sterna_e2e::delay::Way;
use sterna_e2e::monitoring::{Exporter, Monitoring, Probe};

const LATENCY: &str =
    r#"probe_http_duration_seconds{phase="processing",users="shoppers",site="edge"} * 1000"#;

async fn latency(monitoring: &Monitoring, enough: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
    let mut last = f64::NAN;
    for _ in 0..60 {
        if let Some(value) = monitoring.value(LATENCY).await? {
            last = value;
            if enough(value) {
                return Ok(value);
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    anyhow::bail!("the latency that is measured stays at {last} ms");
}

#[tokio::test]
async fn measures_the_delay_between_users_and_site_and_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let exporter = Exporter::start("edge", folder.path()).await.unwrap();
    let way = Way::with_round_trip(Duration::from_millis(2));
    let door = way.open(exporter.address()).await.unwrap();
    let probe = Probe { users: "shoppers".into(), site: "edge".into(), door: door.address() };
    let monitoring = Monitoring::start(vec![exporter], &[probe], folder.path()).await.unwrap();
    let near = latency(&monitoring, |value| value < 20.0).await.unwrap();
    assert!(near >= 2.0, "{near}");
    way.set_round_trip(Duration::from_millis(60));
    let far = latency(&monitoring, |value| value > 55.0).await.unwrap();
    assert!(far < 120.0, "{far}");
    let cpu = monitoring.value(r#"count(node_cpu_seconds_total{site="edge",mode="idle"})"#).await.unwrap();
    assert!(cpu.is_some_and(|count| count >= 1.0), "{cpu:?}");
    let url = monitoring.url();
    drop(monitoring);
    assert!(tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.is_err(), "still there");
}
