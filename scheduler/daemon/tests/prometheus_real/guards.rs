//! What goes wrong between exporters and a decision, each provoked on a real server: the outcome is a number less and a reason,
//! never a wrong number.

use jiff::Timestamp;
use sterna_core::observation::Source;
use sterna_daemon::observe::observe;
use sterna_daemon::observe::prometheus::Prometheus;
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{Metric, OnMissing, SourceUnit};

use crate::stage::{Series, Setup, counter, policy, prometheus_is_there, source, steady, unknown, written};

const HOLD: OnMissing = OnMissing::Hold;

#[tokio::test(flavor = "multi_thread")]
async fn rates_arithmetic_units_and_fallbacks() {
    if !prometheus_is_there() {
        return;
    }
    let mut series = Series::default();
    for site in ["a", "b", "c"] {
        series.once("used", &format!("site=\"{site}\""), steady(3.0));
        series.once("watts", &format!("site=\"{site}\",socket=\"0\""), steady(20.0));
        series.once("old_joules_total", &format!("site=\"{site}\""), counter(20.0));
    }
    series.once("watts", "site=\"a\",socket=\"1\"", steady(22.0));
    // `b` has none: a bare difference forgets it.
    series.once("asked", "site=\"a\"", steady(1.0)).once("asked", "site=\"c\"", steady(1.0));
    // A series that has just begun: two samples, which make a rate of anything.
    series.at("joules_total", "site=\"a\"", [20.0, 5.0].into_iter(), counter(900.0));
    series.at("joules_total", "site=\"b\"", [35.0, 20.0, 5.0].into_iter(), counter(30.0));
    series.once("rtt_ms", "site=\"a\",users=\"north\"", steady(12.5));
    series.once("load", "site=\"a\"", steady(0.5));
    let server = Setup::with(&series).start();
    let bench = server.ready().await;
    let watts = |query: &str| source(query, SourceUnit::Watts, "2m", HOLD);

    // Missing in one side of an operator: the vector is silently shorter, the site is not forgotten.
    let seen = bench.see(Metric::Power, watts("used - on (site) asked")).await;
    assert_eq!(seen.observation.power.len(), 2);
    unknown(&seen, "b", "no value for it");

    // Warming up, while Prometheus itself gives a rate.
    let seen = bench.see(Metric::Power, watts("sum by (site) (rate(joules_total[5m]))")).await;
    unknown(&seen, "a", "warming up: its rate rests on 2 samples");
    let b = seen.observation.power[&"b".into()].value.as_f64();
    assert!(b > 0.0, "{b}");
    let at = seen.observation.at;
    let still = "sum by (site) (rate(joules_total[5m]))";
    let rows =
        sterna_daemon::observe::store::MetricStore::instant(&bench.store, still, at, "2m".parse().unwrap());
    assert_eq!(rows.await.unwrap().rows.len(), 2);

    // Milliseconds read as seconds: out of the range that the policy calls plausible.
    let table = "query = \"rtt_ms\"\nunit = \"s\"\nusers_label = \"users\"\nplausible = [0, 10]";
    let seen = bench.see(Metric::UserLatency, written("user_latency", table)).await;
    unknown(&seen, "a", "12.5 is outside of what is plausible, 0 to 10; in `ms` it would be: check `unit`");

    // Fallbacks: the first has one site, the second nothing at all, the third all of them.
    let table = "query = \"load\"\nunit = \"W\"\n\
                 [[metrics.power.fallback]]\nbuiltin = \"scaphandre\"\n\
                 [[metrics.power.fallback]]\nquery = \"rate(old_joules_total[5m])\"\nunit = \"W\"";
    let seen = bench.see(Metric::Power, written("power", table)).await;
    let of = |site: &str| {
        let sample = seen.observation.power[&site.into()];
        (sample.value.as_f64(), sample.source)
    };
    assert_eq!(of("a"), (0.5, Source::Measured));
    assert_eq!(of("b").1, Source::Fallback(2));
    assert!((of("b").0 - 20.0).abs() < 0.1);
    let note = seen.notes.iter().find(|note| note.starts_with("power of `b` is from fallback 2")).unwrap();
    assert!(note.contains("fallback 1 (scaphandre): the query gives no series at all"), "{note}");

    // This machine's clock is an hour ahead, or behind: ages and freshness are told by the server's.
    let asks = policy([(Metric::Power, watts("max by (site) (watts)"))].into());
    for hours in [-1, 1] {
        let now = Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let seen = observe(&bench.store, &bench.continuum, FleetView::default(), &asks, now).await;
        let sample = seen.observation.power[&"a".into()];
        assert!(sample.age <= "16s".parse().unwrap(), "{}", sample.age);
        assert!(seen.observation.unknown.is_empty());
    }

    // One label in common is not enough to join on.
    let seen = bench.see(Metric::Power, watts("watts * on (site) watts")).await;
    unknown(&seen, "a", "many-to-many");
    unknown(&bench.see(Metric::Power, watts("watts")).await, "a", "2 values");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_limited_or_partial() {
    if !prometheus_is_there() {
        return;
    }
    let mut series = Series::default();
    series.once("watts", "site=\"a\"", steady(20.0));
    let watts = |query: &str| source(query, SourceUnit::Watts, "2m", HOLD);

    // It does not answer for a while, then it does again.
    let server = Setup::with(&series).flag("--query.max-samples=100").start();
    let mut bench = server.ready().await;
    bench.store = Prometheus::new(&server.url, "500ms".parse().unwrap()).unwrap();
    server.signal("STOP");
    let seen = bench.see(Metric::Power, watts("watts")).await;
    server.signal("CONT");
    assert_eq!(seen.store_up, Some(false));
    assert!(seen.observation.power.is_empty());
    unknown(&seen, "a", "did not answer within 500ms");
    let bench = server.ready().await;
    let seen =
        bench.see_until(Metric::Power, &watts("watts"), |seen| !seen.observation.power.is_empty()).await;
    assert_eq!(seen.store_up, Some(true));

    // It refuses queries that are too large.
    let seen = bench.see(Metric::Power, watts("max_over_time(watts[20m:1s])")).await;
    unknown(&seen, "a", "Prometheus refused the query (execution)");

    // Behind it a store that it reads from is gone: what it gives may be partial.
    let remote = "remote_read:\n- url: http://127.0.0.1:1/read\n  read_recent: true\n";
    let server = Setup::with(&series).configured(remote).start();
    let bench = server.ready().await;
    let seen = bench.see(Metric::Power, watts("watts")).await;
    assert!(seen.observation.power.is_empty(), "{:?}", seen.observation.power);
    unknown(&seen, "a", "answered with warnings");
}
