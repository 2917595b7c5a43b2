//! What the doctor finds on a real server, and what it says to do.

use jiff::Timestamp;
use sterna_core::observation::Source;
use sterna_daemon::doctor::{Checkup, examine};
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{Metric, OnMissing, SourceUnit};

use crate::stage::{Series, Setup, counter, policy, prometheus_is_there, source, steady, written};

fn advice(checkup: &Checkup) -> String {
    let sources = checkup.metrics.iter().flat_map(|metric| &metric.sources);
    let all = sources.flat_map(|source| &source.advice);
    all.map(|advice| format!("{}\n{}\n\n", advice.finding, advice.remedy)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_found_with_its_remedy() {
    if !prometheus_is_there() {
        return;
    }
    let mut series = Series::default();
    // One site as it should be, one whose label has another spelling, one that has no label; and nothing of `c`.
    series.once("scaph_host_power_microwatts", "job=\"scaph\",instance=\"1\",site=\"a\"", steady(30e6));
    series.once("scaph_host_power_microwatts", "job=\"scaph\",instance=\"2\",site=\"B\"", steady(30e6));
    series.once("scaph_host_power_microwatts", "job=\"scaph\",instance=\"3\"", steady(30e6));
    for site in ["a", "b", "c"] {
        series.once("joules_total", &format!("site=\"{site}\""), counter(25.0));
    }
    let server = Setup::with(&series).start();
    let bench = server.ready().await;
    let see = async |metric: Metric, source| {
        let policy = policy([(metric, source)].into());
        examine(&bench.store, Ok(FleetView::default()), &bench.continuum, &policy, Timestamp::now()).await
    };

    let found = see(Metric::Power, written("power", "builtin = \"scaphandre\"")).await;
    assert!(!found.metrics_suffice());
    insta::assert_snapshot!(advice(&found));
    let values: Vec<_> = found.metrics[0].values.iter().map(|one| (one.value, one.source)).collect();
    assert_eq!(values, [(Some(30.0), Some(Source::Measured)), (None, None), (None, None)]);

    // With a fallback that has the rest all is well; what is wrong with the first is told all the same.
    let table = "builtin = \"scaphandre\"\n[[metrics.power.fallback]]\nquery = \"rate(joules_total[5m])\"\nunit = \"W\"";
    let found = see(Metric::Power, written("power", table)).await;
    assert!(found.metrics_suffice());
    assert_eq!(found.metrics[0].values[2].source, Some(Source::Fallback(1)));
    assert!(advice(&found).contains("have no label `site`"));

    // Nothing exports it at all.
    let found = see(Metric::CpuUse, written("cpu_use", "builtin = \"node-exporter-cpu\"")).await;
    let said = advice(&found);
    assert!(said.contains("there is no series `node_cpu_seconds_total{"), "{said}");
    assert!(said.contains("labels: { site: a }"), "{said}");

    // Own probes of two sites: of the third it is told where to look.
    let mut series = Series::default();
    for site in ["a", "b"] {
        series.once(
            "sterna_probe_user_round_trip_seconds",
            &format!("site=\"{site}\",users=\"north\""),
            steady(0.01),
        );
    }
    let probing = Setup::with(&series).start();
    let mut probed = probing.ready().await;
    probed.continuum.users.get_mut(&"north".into()).unwrap().probe = vec!["gate:443".to_owned()];
    let asks = policy([(Metric::UserLatency, written("user_latency", "builtin = \"probes\""))].into());
    let found =
        examine(&probed.store, Ok(FleetView::default()), &probed.continuum, &asks, Timestamp::now()).await;
    let said = advice(&found);
    assert!(
        said.contains("sterna_probe_failures_total{site=\"c\"}") && !said.contains("site=\"a\""),
        "{said}"
    );

    // A query that the server refuses is named, and nobody looks for series then.
    let found =
        see(Metric::Power, source("watts * on (site", SourceUnit::Watts, "1m", OnMissing::Hold)).await;
    assert!(found.metrics[0].sources[0].problem.as_ref().unwrap().contains("not valid PromQL"));
    // No agent was asked.
    assert!(!found.agents_answer());
}
