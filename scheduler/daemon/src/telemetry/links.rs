//! What moves of the last days got of the links between sites, as metrics: real throughput, as it was and with the limits that
//! held, on the links that were used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use sterna_core::continuum::{Continuum, NodeName, SiteName};
use sterna_executor::migration::forecast::throughput;
use sterna_executor::migration::report::Report;
use sterna_policies::quantity::Bytes;

use super::Telemetry;
use super::probes::gauge;
use crate::control::desk::Desk;
use crate::control::world::Clock;
use crate::history::HistoryStore;

/// Older moves say nothing of a link any more.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The newest moves over a link that its throughput is told from.
const FEW: usize = 5;
/// How often the history is looked at.
const EVERY: Duration = Duration::from_secs(60);

/// A link in one direction.
type Way = (SiteName, SiteName);

/// What moves got of links. Each copy is the same.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<Mutex<BTreeMap<Way, Throughput>>>);

/// What moves got of a link in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throughput {
    /// In a second: the middle of the newest moves.
    pub per_second: Bytes,
    /// When the newest of them ended.
    pub at: Timestamp,
}

impl Links {
    /// What is known now. Nothing stays of what was known before.
    pub fn put(&self, known: BTreeMap<Way, Throughput>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

/// What moves, the newest first, got of each link.
pub fn learnt(continuum: &Continuum, moves: &[(Timestamp, Report)]) -> BTreeMap<Way, Throughput> {
    let site = |node: &NodeName| continuum.nodes.get(node).map(|node| node.site.clone());
    let mut known: BTreeMap<Way, (Timestamp, Vec<Bytes>)> = BTreeMap::new();
    for (at, report) in moves {
        let (Some(from), Some(to)) = (site(&report.from), site(&report.to)) else { continue };
        let Some(rate) = throughput(report).filter(|_| from != to) else { continue };
        let (_, rates) = known.entry((from, to)).or_insert_with(|| (*at, Vec::new()));
        if rates.len() < FEW {
            rates.push(rate);
        }
    }
    let middle = |(way, (at, mut rates)): (Way, (Timestamp, Vec<Bytes>))| {
        rates.sort_unstable();
        let per_second = *rates.get(rates.len() / 2)?;
        Some((way, Throughput { per_second, at }))
    };
    known.into_iter().filter_map(middle).collect()
}

/// Learns from the history every so often, for as long as it is polled.
pub async fn keep(history: HistoryStore, desk: Arc<Desk>, telemetry: Arc<Telemetry>, clock: impl Clock) {
    loop {
        let since = clock.now().checked_sub(LASTS).unwrap_or(Timestamp::MIN);
        match history.moved_since(since).await {
            Ok(moves) => telemetry.links.put(learnt(&desk.standing().continuum, &moves)),
            Err(error) => tracing::warn!(%error, "what moves got of links can't be looked up"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl Collector for Links {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return Ok(());
        }
        let unit = Unit::Other("bytes_per_second".to_owned());
        let help = "What moves of the last week got of a link.";
        let mut family =
            encoder.encode_descriptor("link_throughput", help, Some(&unit), MetricType::Gauge)?;
        for ((from, to), throughput) in &*known {
            let labels = [("from", from.as_str()), ("to", to.as_str())];
            ConstGauge::new(throughput.per_second.0).encode(family.encode_family(&labels)?)?;
        }
        let help = "When the newest of these moves ended.";
        let mut family = gauge(&mut encoder, "link_throughput_timestamp", help)?;
        for ((from, to), throughput) in &*known {
            let labels = [("from", from.as_str()), ("to", to.as_str())];
            ConstGauge::new(throughput.at.as_second()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sterna_core::plan::{Move, MoveCost};
    use sterna_executor::migration::order::MigrationId;
    use sterna_executor::migration::phase::Phase;
    use sterna_executor::migration::report::{Outcome, PhaseRecord};
    use sterna_policies::policy::Mode;

    use super::*;
    use crate::fixture;
    use crate::history::Intent;

    /// A move of 100 MiB that took so long to cross.
    fn moved(from: &str, to: &str, seconds: &str) -> Report {
        let took = seconds.parse().unwrap();
        Report {
            id: MigrationId::new(),
            service: "shop".into(),
            from: from.into(),
            to: to.into(),
            outcome: Outcome::Moved,
            phases: vec![PhaseRecord { phase: Phase::Transferred, took, bytes: Bytes::from_mib(100) }],
            downtime: None,
            load: None,
            forecast: None,
            frozen_in_vain: Default::default(),
            undone: Vec::new(),
            started_anew: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn mib_per_second(throughput: Throughput) -> f64 {
        (throughput.per_second.0 as f64 / 1_048_576.0).round()
    }

    #[test]
    fn the_middle_of_the_newest_moves_counts_in_each_direction() {
        let continuum = fixture::continuum();
        let newest_first: Vec<(Timestamp, Report)> = ["4s", "1s", "2s", "100s", "2s", "50s", "50s", "50s"]
            .into_iter()
            .zip((1..=8).rev())
            .map(|(took, second)| (at(second), moved("a1", "b1", took)))
            .chain([(at(1), moved("b1", "a1", "10s")), (at(1), moved("a1", "gone", "1s"))])
            .collect();
        let known = learnt(&continuum, &newest_first);
        assert_eq!(known.len(), 2, "{known:?}");
        let there = known[&("a".into(), "b".into())];
        assert_eq!(there.at, at(8));
        assert!((50.0..60.0).contains(&mib_per_second(there)), "about 100 MiB in 2 s: {there:?}");
        assert!((10.0..12.0).contains(&mib_per_second(known[&("b".into(), "a".into())])));
    }

    #[test]
    fn moves_within_a_site_and_those_that_were_undone_tell_nothing() {
        let mut continuum = fixture::continuum();
        let node = continuum.nodes[&"a1".into()].clone();
        continuum.nodes.insert("a2".into(), node);
        let undone = Report {
            outcome: Outcome::RolledBack { after: Phase::Transferred, reason: "x".into() },
            ..moved("a1", "b1", "2s")
        };
        assert!(learnt(&continuum, &[(at(1), moved("a1", "a2", "1s")), (at(2), undone)]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_from_the_history_and_forgotten_after_a_week() {
        #[derive(Clone, Copy)]
        struct Runtime(tokio::time::Instant);
        impl Clock for Runtime {
            fn now(&self) -> Timestamp {
                at(1_000_000) + self.0.elapsed()
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let history = HistoryStore::open(folder.path()).unwrap();
        let report = moved("a1", "b1", "2s");
        let order = Move {
            service: "shop".into(),
            from: "a1".into(),
            to: "b1".into(),
            method: Default::default(),
            wave: 0,
            parks: false,
            predicted: MoveCost::default(),
        };
        history.intend(Intent { id: report.id, decision: None, order }, at(999_000)).await.unwrap();
        history.record_migration(report, at(999_010)).await.unwrap();

        let continuum = fixture::continuum();
        assert_eq!(history.moved_since(at(999_011)).await.unwrap(), []);
        let moves = history.moved_since(at(999_010)).await.unwrap();
        let rate = learnt(&continuum, &moves)[&("a".into(), "b".into())].per_second.0;

        let telemetry = Arc::new(Telemetry::new());
        let lines = || -> Vec<String> {
            let text = telemetry.text().unwrap();
            text.lines().filter(|line| line.starts_with("sterna_link_")).map(str::to_owned).collect()
        };
        assert!(lines().is_empty());
        let desk = Arc::new(Desk::new(&continuum, &[fixture::policy(Mode::Observe)]));
        let clock = Runtime(tokio::time::Instant::now());
        let kept = tokio::spawn(keep(history, desk, Arc::clone(&telemetry), clock));
        tokio::time::sleep(EVERY / 2).await;
        let wanted = [
            format!("sterna_link_throughput_bytes_per_second{{from=\"a\",to=\"b\"}} {rate}"),
            "sterna_link_throughput_timestamp_seconds{from=\"a\",to=\"b\"} 999010".to_owned(),
        ];
        assert_eq!(lines(), wanted);
        tokio::time::advance(Duration::from_secs(7 * 24 * 3600)).await;
        tokio::time::sleep(EVERY).await;
        assert!(lines().is_empty());
        kept.abort();
    }
}
