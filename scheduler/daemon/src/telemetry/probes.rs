//! What agents measured last, as metrics. What is not known any more is not there any more: nothing keeps its last value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use sterna_core::continuum::SiteName;
use tokio::time::Instant;

use crate::observe::probes::Round;

/// What agents measured last. Each copy is the same.
#[derive(Debug, Clone, Default)]
pub struct Probes(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    round: Round,
    /// Until when that is known; `None` before the first round.
    until: Option<Instant>,
    failures: BTreeMap<(SiteName, &'static str), u64>,
    successes: BTreeMap<SiteName, Timestamp>,
}

impl Probes {
    /// A round has ended; what it showed lasts for so long at most. Nothing stays of the one before.
    pub fn put(&self, round: Round, now: Timestamp, lasts: Duration) {
        let mut known = self.known();
        let Known { failures, successes, .. } = &mut *known;
        failures.retain(|(site, _), _| round.sites.contains(site));
        successes.retain(|site, _| round.sites.contains(site));
        for (key, times) in &round.failures {
            *failures.entry(key.clone()).or_default() += times;
        }
        let from_sites = round.to_sites.keys().map(|(from, _)| from);
        for site in round.to_users.keys().map(|(from, _)| from).chain(from_sites) {
            successes.insert(site.clone(), now);
        }
        known.round = round;
        known.until = Some(Instant::now() + lasts);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Probes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let known = self.known();
        let Some(until) = known.until else { return Ok(()) };
        let seconds = |millis: f64| ConstGauge::new(millis / 1e3);
        if Instant::now() < until {
            let help = "Round trip between a site and a user group, as its agents measured it.";
            let mut family = gauge(&mut encoder, "probe_user_round_trip", help)?;
            for ((site, users), time) in &known.round.to_users {
                let labels = [("site", site.as_str()), ("users", users.as_str())];
                seconds(time.as_f64()).encode(family.encode_family(&labels)?)?;
            }
            let help = "Round trip between two sites, as the agents of the first measured it.";
            let mut family = gauge(&mut encoder, "probe_round_trip", help)?;
            for ((from, to), time) in &known.round.to_sites {
                let labels = [("from", from.as_str()), ("to", to.as_str())];
                seconds(time.as_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "When agents of a site last measured anything.";
        let mut family = gauge(&mut encoder, "probe_last_success_timestamp", help)?;
        for (site, at) in &known.successes {
            let labels = [("site", site.as_str())];
            ConstGauge::new(at.as_second()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Probes that failed, by the site that they were made from and the reason.";
        let mut family = encoder.encode_descriptor("probe_failures", help, None, MetricType::Counter)?;
        for ((site, reason), times) in &known.failures {
            let labels = [("site", site.as_str()), ("reason", reason)];
            ConstCounter::new(*times).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Begins a family of values in seconds.
pub(super) fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<prometheus_client::encoding::MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)
}

#[cfg(test)]
mod tests {
    use super::super::Telemetry;
    use super::*;

    fn round() -> Round {
        let ms = |text: &str| text.parse().unwrap();
        Round {
            sites: ["a", "b"].map(SiteName::from).into(),
            to_users: BTreeMap::from([
                (("a".into(), "north".into()), ms("12.5ms")),
                (("b".into(), "north".into()), ms("3ms")),
            ]),
            to_sites: BTreeMap::from([(("a".into(), "b".into()), ms("7ms"))]),
            failures: BTreeMap::from([(("b".into(), "timeout"), 2)]),
        }
    }

    fn lines(telemetry: &Telemetry) -> Vec<String> {
        let text = telemetry.text().unwrap();
        text.lines().filter(|line| line.starts_with("sterna_probe_")).map(str::to_owned).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const LASTS: Duration = Duration::from_secs(145);

    #[test]
    fn without_probes_there_are_no_such_metrics() {
        assert!(!Telemetry::new().text().unwrap().contains("sterna_probe"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_measured_is_there_and_goes_with_the_next_round() {
        let telemetry = Telemetry::new();
        telemetry.probes.put(round(), at(50), LASTS);
        assert_eq!(
            lines(&telemetry),
            [
                "sterna_probe_user_round_trip_seconds{site=\"a\",users=\"north\"} 0.0125",
                "sterna_probe_user_round_trip_seconds{site=\"b\",users=\"north\"} 0.003",
                "sterna_probe_round_trip_seconds{from=\"a\",to=\"b\"} 0.007",
                "sterna_probe_last_success_timestamp_seconds{site=\"a\"} 50",
                "sterna_probe_last_success_timestamp_seconds{site=\"b\"} 50",
                "sterna_probe_failures_total{site=\"b\",reason=\"timeout\"} 2",
            ]
        );
        let mut next = round();
        next.to_users.remove(&("b".into(), "north".into()));
        next.to_sites.clear();
        next.failures = BTreeMap::from([(("b".into(), "timeout"), 1), (("b".into(), "refused"), 1)]);
        telemetry.probes.put(next, at(110), LASTS);
        assert_eq!(
            lines(&telemetry),
            [
                "sterna_probe_user_round_trip_seconds{site=\"a\",users=\"north\"} 0.0125",
                "sterna_probe_last_success_timestamp_seconds{site=\"a\"} 110",
                "sterna_probe_last_success_timestamp_seconds{site=\"b\"} 50",
                "sterna_probe_failures_total{site=\"b\",reason=\"refused\"} 1",
                "sterna_probe_failures_total{site=\"b\",reason=\"timeout\"} 3",
            ]
        );
        // A site that is no longer in the inventory leaves nothing.
        let alone = Round { sites: ["a"].map(SiteName::from).into(), ..Round::default() };
        telemetry.probes.put(alone, at(170), LASTS);
        assert_eq!(lines(&telemetry), ["sterna_probe_last_success_timestamp_seconds{site=\"a\"} 110"]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_round_comes_any_more_values_end_by_themselves() {
        let telemetry = Telemetry::new();
        telemetry.probes.put(round(), at(50), LASTS);
        tokio::time::advance(LASTS - Duration::from_secs(1)).await;
        assert_eq!(lines(&telemetry).len(), 6);
        tokio::time::advance(Duration::from_secs(1)).await;
        let left = lines(&telemetry);
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left.iter().all(|line| !line.contains("round_trip")), "{left:?}");
    }
}
