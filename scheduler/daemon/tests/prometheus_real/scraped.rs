//! What is scraped: values, ages and absence as they are.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sterna_core::continuum::SiteName;
use sterna_core::observation::Source;
use sterna_daemon::observe::Observed;
use sterna_daemon::observe::store::{MetricStore, StoreError};
use sterna_policies::policy::{Metric, OnMissing, SourceUnit};
use sterna_policies::quantity::Millis;

use crate::stage::{Page, Setup, exporter, prometheus_is_there, reason, source, unknown};

#[tokio::test(flavor = "multi_thread")]
async fn values_ages_and_absence_are_seen_as_they_are() {
    if !prometheus_is_there() {
        return;
    }
    // `stamped` carries the exporter's own time: no staleness marker ever ends it, and its age is known exactly.
    let stamp = Timestamp::now().as_millisecond() - 4_000;
    let steady: Page = Arc::new(Mutex::new(Some(format!(
        "rtt_seconds{{site=\"a\",users=\"north\"}} 0.0125\n\
         rtt_seconds{{site=\"b\",users=\"north\"}} NaN\n\
         rtt_seconds{{site=\"c\",users=\"north\"}} +Inf\n\
         rtt_seconds{{site=\"egde\",users=\"north\"}} 0.001\n\
         rtt_seconds{{users=\"north\"}} 0.001\n\
         watts{{site=\"a\",socket=\"0\"}} 31.5e6\n\
         watts{{site=\"b\",socket=\"0\"}} 20e6\n\
         watts{{site=\"b\",socket=\"1\"}} 22e6\n\
         stamped{{site=\"a\"}} 7 {stamp}\n\
         stamped{{site=\"b\"}} 8\n\
         price{{site=\"a\"}} 0.5\n"
    ))));
    let dying: Page = Arc::new(Mutex::new(Some("mortal{site=\"c\"} 3\n".to_owned())));
    let targets = [exporter(steady).await, exporter(Arc::clone(&dying)).await];
    let mut server = Setup::scraping(&targets).start();
    let bench = server.bench();
    let (a, b, c): (SiteName, SiteName, SiteName) = ("a".into(), "b".into(), "c".into());
    let hold = OnMissing::Hold;

    // Latency: converted, with the sample's own age; NaN, infinity, strangers are said.
    let rtt = source("rtt_seconds", SourceUnit::Seconds, "10s", hold);
    let seen = bench.see_until(Metric::UserLatency, &rtt, |seen| !seen.observation.latency.is_empty()).await;
    let north = &seen.observation.latency[&"north".into()];
    assert_eq!(north.keys().collect::<Vec<_>>(), [&a]);
    assert_eq!((north[&a].value, north[&a].source), ("12.5ms".parse().unwrap(), Source::Measured));
    assert!(north[&a].age <= "3s".parse().unwrap(), "{}", north[&a].age);
    unknown(&seen, "b", "NaN");
    unknown(&seen, "c", "inf");
    assert!(seen.notes.iter().any(|note| note.contains("site `egde`")), "{:?}", seen.notes);
    assert!(seen.notes.iter().any(|note| note.contains("without the label `site`")), "{:?}", seen.notes);
    // The store's clock is this machine's.
    assert!((seen.observation.at.as_second() - Timestamp::now().as_second()).abs() <= 2);

    // Power: two values for one site are none; aggregated they are one, and keep their age.
    let watts = |query: &str| source(query, SourceUnit::Microwatts, "10s", hold);
    let seen = bench.see(Metric::Power, watts("watts")).await;
    assert_eq!(seen.observation.power[&a].value, "31.5W".parse().unwrap());
    unknown(&seen, "b", "2 values");
    unknown(&seen, "c", "no value for it");
    let seen = bench.see(Metric::Power, watts("sum by (site) (watts)")).await;
    assert_eq!(seen.observation.power[&b].value, "42W".parse().unwrap());
    assert!(seen.observation.power[&b].age <= "3s".parse().unwrap());

    // An exact age, through operators and aggregation; and too old by its own timestamp.
    let stamped = |query: &str, max_age: &str| source(query, SourceUnit::UsdPerHour, max_age, hold);
    for query in ["stamped", "2 * max by (site) (stamped)", "last_over_time(stamped[2m])"] {
        let seen = bench.see(Metric::CostRate, stamped(query, "60s")).await;
        let exact = Millis::from_micros((seen.observation.at.as_millisecond() - stamp) * 1_000_000);
        assert!(
            seen.observation.unknown.iter().all(|one| one.site.as_ref() == Some(&c)),
            "{query}: {seen:#?}"
        );
        assert_eq!(seen.observation.price[&a].age, exact, "{query}");
        assert!(seen.observation.price[&b].age < exact, "{query}");
    }
    for query in
        ["stamped", "sum by (site) (stamped)", "last_over_time(stamped[2m])", "avg_over_time(stamped[2m:1s])"]
    {
        let seen = bench.see(Metric::CostRate, stamped(query, "3s")).await;
        assert!(!seen.observation.price.contains_key(&a), "{query}: {:?}", seen.observation.price);
        // A server that knows `lookback_delta` leaves old samples out; an older one gives them, and their age tells.
        let reason = reason(&seen, "a");
        assert!(reason.contains("no value for it") || reason.contains("`max_age`"), "{query}: {reason}");
    }

    // Modelled where the policy allows it: the inventory's number, marked, never zero.
    let price = source("price", SourceUnit::UsdPerHour, "10s", OnMissing::Modelled);
    let seen = bench.see(Metric::CostRate, price).await;
    let prices = &seen.observation.price;
    assert_eq!((prices[&a].value, prices[&a].source), ("0.5USD/h".parse().unwrap(), Source::Measured));
    assert_eq!((prices[&b].value, prices[&b].source), ("0.2USD/h".parse().unwrap(), Source::Modelled));
    assert!(seen.observation.unknown.is_empty());
    assert!(seen.notes.iter().any(|note| note.contains("cost_rate of `b` is modelled")), "{:?}", seen.notes);

    // A target that dies: gone at once as an instant value, and a range that still has it does not pass for fresh.
    let mortal = |query: &str, max_age: &str| source(query, SourceUnit::UsdPerHour, max_age, hold);
    let has_c = |seen: &Observed| seen.observation.price.contains_key(&c);
    bench.see_until(Metric::CostRate, &mortal("mortal", "10s"), has_c).await;
    let range = "sum by (site) (max_over_time(mortal[5m]))";
    bench.see_until(Metric::CostRate, &mortal(range, "4s"), has_c).await;
    *dying.lock().unwrap() = None;
    let gone = |seen: &Observed| !seen.observation.price.contains_key(&c);
    bench.see_until(Metric::CostRate, &mortal("mortal", "10s"), gone).await;
    let seen = bench.see_until(Metric::CostRate, &mortal(range, "4s"), gone).await;
    unknown(&seen, "c", "max_age");
    let still = bench.store.instant(range, seen.observation.at, "4s".parse().unwrap()).await.unwrap();
    assert_eq!(still.rows.len(), 1, "Prometheus itself still gives the dead value");

    // Queries that make no sense.
    unknown(&bench.see(Metric::CostRate, mortal("absent_metric", "10s")).await, "a", "no series at all");
    unknown(&bench.see(Metric::CostRate, mortal("sum by (", "10s")).await, "a", "not valid PromQL");
    unknown(
        &bench.see(Metric::CostRate, mortal("watts * on (site) watts", "10s")).await,
        "a",
        "many-to-many",
    );
    unknown(&bench.see(Metric::CostRate, mortal("scalar(price)", "10s")).await, "a", "not an instant vector");

    // The server goes away.
    server.stop();
    let seen = bench.see(Metric::UserLatency, rtt).await;
    assert_eq!(seen.store_up, Some(false));
    assert!(seen.observation.latency.is_empty());
    unknown(&seen, "a", "can't be reached");
    assert!(matches!(bench.store.now().await, Err(StoreError::Unreachable { .. })));
}
