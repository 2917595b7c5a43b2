//! What `sterna explain` says of one service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code")]

mod fixture;

use fixture::*;
use sterna_core::explain::service::{Explained, NotExplained, Origin, service as explain};
use sterna_core::history::{History, Outcome};
use sterna_core::observation::Observation;
use sterna_core::record::Recorded;
use sterna_policies::policy::{Level, Metric, Mode, OnMissing, Policy, SourceUnit};

fn recorded(change: impl FnOnce(&mut Observation, &mut Policy, &mut History)) -> Recorded {
    let (mut seen, mut wanted, mut past) = (observation(), policy(), History::default());
    change(&mut seen, &mut wanted, &mut past);
    Recorded::make(seen, wanted, past, noon(), 7)
}

fn of_redis(change: impl FnOnce(&mut Observation, &mut Policy, &mut History)) -> Explained {
    explain(&recorded(change), &"redis".into()).unwrap()
}

#[test]
fn every_place_with_its_numbers_their_origin_and_what_speaks_against_it() {
    let explained = of_redis(|_, wanted, past| {
        wanted.select.exclude_sites = vec!["cloud".into()];
        wanted.hysteresis.cooldown = q("10m");
        *past = migrated(60, "a1", Outcome::RolledBack);
    });
    insta::assert_snapshot!(explained.to_string());
    let json = serde_json::to_string(&explained).unwrap();
    assert_eq!(serde_json::from_str::<Explained>(&json).unwrap(), explained);
}

#[test]
fn a_move_that_nothing_holds() {
    insta::assert_snapshot!(of_redis(|_, _, _| {}).to_string());
}

#[test]
fn numbers_that_are_missing() {
    insta::assert_snapshot!(
        of_redis(|seen, _, _| {
            seen.latency.get_mut(&"town".into()).unwrap().remove(&"edge-b".into());
        })
        .to_string()
    );
}

#[test]
fn a_number_says_where_it_comes_from() {
    let origin = |explained: &Explained, metric: Metric| explained.places[0].origins[&metric];
    let stated = of_redis(|_, _, _| {});
    assert_eq!(origin(&stated, Metric::UserLatency), Origin::Measured);
    assert_eq!(origin(&stated, Metric::CostRate), Origin::Stated);
    assert_eq!(origin(&stated, Metric::Power), Origin::Modelled);
    let priced = |on_missing| {
        move |_: &mut Observation, wanted: &mut Policy, _: &mut History| {
            wanted.metrics.insert(Metric::CostRate, source(SourceUnit::UsdPerHour, on_missing));
            wanted.metrics.get_mut(&Metric::UserLatency).unwrap().on_missing = on_missing;
        }
    };
    let modelled = of_redis(|seen, wanted, past| {
        seen.latency.clear();
        priced(OnMissing::Modelled)(seen, wanted, past);
    });
    assert_eq!(origin(&modelled, Metric::UserLatency), Origin::Modelled);
    assert_eq!(origin(&modelled, Metric::CostRate), Origin::Modelled);
    let measured = of_redis(|seen, wanted, past| {
        priced(OnMissing::Modelled)(seen, wanted, past);
        for site in ["edge-a", "edge-b", "cloud"] {
            let price = sterna_core::observation::Sample {
                value: q("0.1USD/h"),
                age: q("1s"),
                source: sterna_core::observation::Source::Measured,
            };
            seen.price.insert(site.into(), price);
        }
    });
    assert_eq!(origin(&measured, Metric::CostRate), Origin::Measured);
}

#[test]
fn what_is_said_of_nothing() {
    let none = recorded(|_, _, _| {});
    let says = explain(&none, &"rediss".into()).unwrap_err().to_string();
    assert_eq!(says, "the continuum has no service `rediss`; did you mean `redis`?");
    let off = recorded(|_, wanted, _| wanted.mode = Mode::Off);
    assert!(matches!(explain(&off, &"redis".into()), Err(NotExplained::Off(_))));
    let other = recorded(|_, wanted, _| wanted.select.services = vec!["web".into()]);
    assert!(matches!(explain(&other, &"redis".into()), Err(NotExplained::NotSelected { .. })));
    let limited = of_redis(|_, wanted, _| {
        wanted.constraints.max.insert(Metric::UserLatency, Level::UserLatency(q("20ms")));
    });
    assert!(limited.to_string().contains("runs here, breaks: user_latency above max"), "{limited}");
}
