//! A small continuum and policy for tests: edges `a` and `b` and a `cloud`, one node each, users `north`, service `shop`.

use std::collections::BTreeMap;

use sterna_core::continuum::{Continuum, NodeName, Site};
use sterna_executor::fleet::FleetView;
use sterna_policies::policy::{
    Memory, Metric, MetricQuery, MetricSource, Migration, Mode, Objective, OnMissing, Policy, SourceUnit,
    Term, Tolerance,
};
use sterna_policies::quantity::Percent;

pub fn continuum() -> Continuum {
    let site = |tier: &str| Site {
        tier: tier.to_owned(),
        region: "eu".to_owned(),
        price: sterna_core::continuum::Price { node: "0.5USD/h".parse().unwrap(), ..Default::default() },
        power: sterna_core::continuum::Power {
            idle: "20W".parse().unwrap(),
            full: "100W".parse().unwrap(),
            off_when_empty: false,
        },
        carbon: Some("300g/kWh".parse().unwrap()),
        labels: Default::default(),
        location: None,
    };
    let node = |site: &str| sterna_core::continuum::Node {
        site: site.into(),
        cpu: "4".parse().unwrap(),
        memory: "8GiB".parse().unwrap(),
        drain: false,
        agent: None,
        kubernetes: None,
    };
    let service = sterna_core::continuum::Service {
        cpu: "1".parse().unwrap(),
        memory: "256MiB".parse().unwrap(),
        pinned: false,
        labels: Default::default(),
        run: None,
    };
    let north = sterna_core::continuum::Users {
        rates: BTreeMap::from([("shop".into(), "50/s".parse().unwrap())]),
        latency: BTreeMap::from([("cloud".into(), "70ms".parse().unwrap())]),
        probe: Vec::new(),
    };
    Continuum {
        name: "fixture".to_owned(),
        sites: BTreeMap::from([
            ("a".into(), site("edge")),
            ("b".into(), site("edge")),
            ("cloud".into(), site("cloud")),
        ]),
        nodes: BTreeMap::from([
            ("a1".into(), node("a")),
            ("b1".into(), node("b")),
            ("c1".into(), node("cloud")),
        ]),
        links: Vec::new(),
        users: BTreeMap::from([("north".into(), north)]),
        services: BTreeMap::from([("shop".into(), service)]),
    }
}

pub fn view() -> FleetView {
    FleetView {
        placement: BTreeMap::from([("shop".into(), "a1".into())]),
        reachable: ["a1", "b1", "c1"].map(NodeName::from).to_vec(),
        memory: BTreeMap::from([("shop".into(), sterna_policies::quantity::Bytes::from_mib(64))]),
        ..FleetView::default()
    }
}

pub fn source(query: &str, unit: SourceUnit) -> MetricSource {
    MetricSource { first: self::query(query, unit), fallback: Vec::new(), on_missing: OnMissing::Hold }
}

pub fn query(query: &str, unit: SourceUnit) -> MetricQuery {
    MetricQuery {
        builtin: None,
        query: query.to_owned(),
        site_label: "site".to_owned(),
        users_label: (unit == SourceUnit::Seconds).then(|| "users".to_owned()),
        unit,
        max_age: "30s".parse().unwrap(),
        plausible: (0.0, 10.0),
    }
}

pub fn policy(mode: Mode) -> Policy {
    Policy {
        name: "latency-first".to_owned(),
        mode,
        select: Default::default(),
        objective: Objective::Lexicographic {
            terms: vec![Term {
                metric: Metric::UserLatency,
                satisfied_at: None,
                tolerance: Tolerance::Relative(Percent::ZERO),
            }],
        },
        constraints: Default::default(),
        trigger: sterna_policies::policy::Trigger {
            interval: "15s".parse().unwrap(),
            settle: "0s".parse().unwrap(),
            any: None,
        },
        hysteresis: sterna_policies::policy::Hysteresis {
            min_gain: "10%".parse().unwrap(),
            min_residency: "0s".parse().unwrap(),
            cooldown: "60s".parse().unwrap(),
            payback_within: "1d".parse().unwrap(),
            gain_lasts: Default::default(),
            regret: Default::default(),
            no_return_within: Default::default(),
        },
        budget: sterna_policies::policy::Budget {
            concurrent: 2,
            concurrent_per_site: None,
            concurrent_per_link: None,
            moves_per_hour: None,
            moves_per_day: None,
            moves_per_service_per_day: None,
            bytes_per_day: None,
            bytes_per_link_per_day: None,
            downtime_per_day: None,
        },
        breaker: Default::default(),
        windows: Vec::new(),
        metrics: BTreeMap::from([(Metric::UserLatency, source("rtt", SourceUnit::Seconds))]),
        migration: Migration {
            method: Default::default(),
            deadline: "60s".parse().unwrap(),
            memory: Memory::Ahead,
            max_downtime: None,
            bandwidth: None,
            freeze_lease: "20s".parse().unwrap(),
        },
        priority: 0,
        approval: Default::default(),
    }
}

/// A window of an hour that denies moves.
pub fn closed(schedule: &str) -> sterna_policies::policy::Window {
    sterna_policies::policy::Window {
        kind: sterna_policies::policy::WindowKind::Deny,
        schedule: schedule.to_owned(),
        duration: "1h".parse().unwrap(),
        timezone: "UTC".to_owned(),
        allow_mending: false,
        overrun: Default::default(),
    }
}
