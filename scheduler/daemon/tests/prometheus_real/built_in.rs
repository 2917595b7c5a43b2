//! Each built-in query over series as its exporter has them, with the value that comes out.

use std::collections::BTreeMap;

use sterna_core::continuum::SiteName;
use sterna_daemon::observe::Observed;
use sterna_policies::builtin::{ALL, Builtin};
use sterna_policies::policy::Metric;

use crate::stage::{Bench, Series, Setup, counter, prometheus_is_there, steady, unknown, written};

/// A hardware counter that begins anew at this many joules.
const WRAPS: f64 = 262_144.0;

fn probes(series: &mut Series) {
    let north = "users=\"north\"";
    let phases =
        [("resolve", 0.001), ("connect", 0.004), ("tls", 0.0), ("processing", 0.010), ("transfer", 0.005)];
    for (site, slower, ok) in [("a", 1.0, 1.0), ("b", 2.5, 1.0), ("c", 1.0, 0.0)] {
        let http = format!("site=\"{site}\",{north},job=\"http\",instance=\"{site}.example:80\"");
        series.twice("probe_success", &http, steady(ok));
        series.twice("probe_duration_seconds", &http, steady(if ok == 1.0 { 0.020 * slower } else { 5.0 }));
        for (phase, seconds) in phases {
            let labels = format!("{http},phase=\"{phase}\"");
            series.twice("probe_http_duration_seconds", &labels, steady(seconds * slower));
        }
        // The same target answers to pings.
        let icmp = http.replace("job=\"http\"", "job=\"icmp\"");
        series.twice("probe_success", &icmp, steady(1.0));
        for (phase, seconds) in [("resolve", 0.1), ("setup", 0.2), ("rtt", 0.008)] {
            let labels = format!("{icmp},phase=\"{phase}\"");
            series.twice("probe_icmp_duration_seconds", &labels, steady(seconds * slower));
        }
    }
    // A second target at `a` times out; it says nothing of how near the site is.
    let second = format!("site=\"a\",{north},job=\"http\",instance=\"second.example:80\"");
    series.twice("probe_success", &second, steady(0.0));
    series.twice("probe_duration_seconds", &second, steady(5.0));
    series.twice("probe_http_duration_seconds", &format!("{second},phase=\"connect\""), steady(5.0));
    // Two hosts at `a`, one twice as far as the other.
    for (site, host, seconds) in [("a", "one", 0.012), ("a", "two", 0.024), ("b", "one", 0.050)] {
        let labels = format!("site=\"{site}\",{north},instance=\"prober\",host=\"{host}\",ip=\"10.0.0.1\"");
        series.twice("smokeping_response_duration_seconds_sum", &labels, counter(seconds));
        series.twice("smokeping_response_duration_seconds_count", &labels, counter(1.0));
    }
}

/// As Sterna exports them: the labels are its own, whoever scrapes it.
fn own_probes(series: &mut Series) {
    for (site, seconds) in [("a", 0.006), ("b", 0.030)] {
        let labels = format!("site=\"{site}\",users=\"north\",job=\"sterna\",instance=\"scheduler:7400\"");
        series.twice("sterna_probe_user_round_trip_seconds", &labels, steady(seconds));
    }
}

fn prices(series: &mut Series) {
    for (site, node, price) in [("a", "n1", 0.1), ("a", "n2", 0.3), ("b", "n3", 0.5)] {
        series.twice("node_total_hourly_cost", &format!("site=\"{site}\",node=\"{node}\""), steady(price));
    }
    let cloud = |site: &str, id: &str| {
        format!("site=\"{site}\",instance=\"exporter:8080\",exported_instance=\"{id}\",instance_id=\"{id}\"")
    };
    series.twice("cloudcost_aws_ec2_instance_total_usd_per_hour", &cloud("a", "i-1"), steady(0.4));
    series.twice("cloudcost_aws_ec2_instance_total_usd_per_hour", &cloud("a", "i-2"), steady(0.2));
    series.twice("cloudcost_azure_aks_instance_total_usd_per_hour", &cloud("b", "vm"), steady(0.6));
}

fn energy(series: &mut Series) {
    // `a` has a sensor of the platform, in which the package is contained; `b` has two packages only.
    let zones = [
        ("a", "psys", "p0", 30.0, 12.0),
        ("a", "package", "s0", 20.0, 8.0),
        ("b", "package", "s0", 15.0, 5.0),
        ("b", "package", "s1", 14.0, 6.0),
        ("b", "dram", "d0", 3.0, 1.0),
    ];
    for (site, zone, path, active, idle) in zones {
        let labels = format!("site=\"{site}\",node_name=\"{site}-1\",zone=\"{zone}\",path=\"{path}\"");
        series.twice("kepler_node_cpu_active_joules_total", &labels, counter(active));
        series.twice("kepler_node_cpu_idle_joules_total", &labels, counter(idle));
    }
    for (site, package, mode, watts) in [
        ("a", "0", "dynamic", 10.0),
        ("a", "0", "idle", 5.0),
        ("a", "1", "dynamic", 11.0),
        ("a", "1", "idle", 6.0),
        ("b", "0", "idle", 7.0),
    ] {
        let labels =
            format!("site=\"{site}\",instance=\"{site}:9102\",package=\"{package}\",mode=\"{mode}\"");
        series.twice("kepler_node_package_joules_total", &labels, counter(watts));
    }
    for (site, instance, micro) in [("a", "a1", 31.5e6), ("b", "b1", 20e6), ("b", "b2", 40e6)] {
        let labels = format!("site=\"{site}\",instance=\"{instance}:8080\"");
        series.twice("scaph_host_power_microwatts", &labels, steady(micro));
    }
    for (index, watts) in [("0", 25.0), ("1", 24.0)] {
        let labels = format!("site=\"a\",instance=\"a:9100\",index=\"{index}\",path=\"rapl:{index}\"");
        series.twice("node_rapl_package_joules_total", &labels, counter(watts));
    }
    // Begins anew in the middle of the window.
    let labels = "site=\"b\",instance=\"b:9100\",index=\"0\",path=\"rapl:0\"";
    series.twice("node_rapl_package_joules_total", labels, |age| (WRAPS + 50.0 * (100.0 - age)) % WRAPS);
    for (zone, watts) in [("package-0", 33.0), ("core", 20.0)] {
        let labels =
            format!("site=\"c\",instance=\"c:9100\",index=\"0\",path=\"{zone}\",rapl_zone=\"{zone}\"");
        series.twice("node_rapl_joules_total", &labels, counter(watts));
    }
}

fn processors(series: &mut Series) {
    for (site, busy) in [("a", 0.2), ("b", 0.7)] {
        for cpu in ["0", "1"] {
            for (mode, share) in [("idle", 0.9 - busy), ("iowait", 0.06), ("steal", 0.04), ("user", busy)] {
                let labels =
                    format!("site=\"{site}\",instance=\"{site}:9100\",cpu=\"{cpu}\",mode=\"{mode}\"");
                series.twice("node_cpu_seconds_total", &format!("{labels},job=\"node\""), counter(share));
                // Another job that scrapes the same exporter.
                series.once("node_cpu_seconds_total", &format!("{labels},job=\"again\""), counter(share));
            }
        }
    }
}

const HOUR: f64 = 3600.0;

fn carbon(series: &mut Series) {
    // The provider's own time, once an hour.
    let old = |hours: f64| (0..3).rev().map(move |n| (hours + f64::from(n)) * HOUR);
    series.at("grid_intensity_carbon_average", "site=\"a\",location=\"FR\"", old(3.0), steady(56.0));
    series.at("grid_intensity_carbon_average", "site=\"b\",location=\"PL\"", old(7.0), steady(700.0));
}

/// The values by site, in the metric's own unit.
fn values(metric: Metric, seen: &Observed) -> BTreeMap<SiteName, f64> {
    let observation = &seen.observation;
    match metric {
        Metric::UserLatency => {
            let north = observation.latency.get(&"north".into()).cloned().unwrap_or_default();
            north.into_iter().map(|(site, sample)| (site, sample.value.as_f64())).collect()
        }
        Metric::CostRate => {
            observation.price.iter().map(|(site, one)| (site.clone(), one.value.as_f64())).collect()
        }
        Metric::Power => {
            observation.power.iter().map(|(site, one)| (site.clone(), one.value.as_f64())).collect()
        }
        Metric::CpuUse => {
            let share = |micros: u32| f64::from(micros) / 1e6;
            observation.cpu_use.iter().map(|(site, one)| (site.clone(), share(one.value))).collect()
        }
        Metric::CarbonRate => {
            let sites = observation.continuum.sites.iter();
            sites.filter_map(|(site, about)| Some((site.clone(), about.carbon?.as_f64()))).collect()
        }
    }
}

async fn see(bench: &Bench, builtin: &Builtin) -> Observed {
    let table = format!("builtin = \"{}\"", builtin.name);
    bench.see(builtin.metric, written(builtin.metric.name(), &table)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_query_gives_what_its_exporter_says() {
    if !prometheus_is_there() {
        return;
    }
    let mut series = Series::default();
    probes(&mut series);
    own_probes(&mut series);
    prices(&mut series);
    energy(&mut series);
    processors(&mut series);
    carbon(&mut series);
    let server = Setup::with(&series).start();
    let bench = server.ready().await;

    // By name: the values at `a`, `b` and `c`, and how far off they may be (a share). Of what is written above, by hand.
    let expected: &[(&str, [Option<f64>; 3], f64)] = &[
        ("blackbox", [Some(20.0), Some(50.0), None], 1e-6),
        ("blackbox-http", [Some(20.0), Some(50.0), None], 1e-6),
        ("blackbox-icmp", [Some(8.0), Some(20.0), Some(8.0)], 1e-6),
        ("smokeping", [Some(18.0), Some(50.0), None], 1e-6),
        ("probes", [Some(6.0), Some(30.0), None], 1e-6),
        ("opencost", [Some(0.2), Some(0.5), None], 1e-6),
        ("cloudcost", [Some(0.3), Some(0.6), None], 1e-6),
        ("kepler", [Some(42.0), Some(40.0), None], 1e-6),
        ("kepler-0.9", [Some(32.0), Some(7.0), None], 1e-6),
        ("scaphandre", [Some(31.5), Some(30.0), None], 1e-6),
        // What the hardware counted between the last scrape before it began anew and that is lost: 15 s of 300 at most.
        ("node-exporter-rapl", [Some(49.0), Some(50.0), Some(33.0)], 0.06),
        ("grid-intensity", [Some(56.0), None, None], 1e-6),
        ("node-exporter-cpu", [Some(0.2), Some(0.7), None], 1e-3),
    ];
    let names: Vec<&str> = expected.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ALL.map(|builtin| builtin.name), "each has its row");
    for (builtin, (name, wanted, off)) in ALL.iter().zip(expected) {
        let seen = see(&bench, builtin).await;
        let values = values(builtin.metric, &seen);
        for (site, wanted) in ["a", "b", "c"].into_iter().zip(wanted) {
            let value = values.get(&site.into()).copied();
            match (value, wanted) {
                (Some(value), Some(wanted)) => {
                    assert!(
                        (value - wanted).abs() <= wanted * off,
                        "{name} at {site}: {value}, not {wanted}"
                    );
                }
                (None, None) => unknown(&seen, site, "no value for it"),
                other => panic!("{name} at {site}: {other:?}\n{:#?}", seen.observation.unknown),
            }
        }
    }

    // Ages are the samples' own: of what is scraped each fifteen seconds, and of what was said three hours ago.
    let seen = see(&bench, &Builtin::find("kepler").unwrap()).await;
    let age = seen.observation.power[&"a".into()].age;
    assert!(age <= "16s".parse().unwrap(), "{age}");
    let table = "builtin = \"grid-intensity\"\nmax_age = \"2h\"";
    let seen = bench.see(Metric::CarbonRate, written("carbon_rate", table)).await;
    assert!(seen.observation.continuum.sites.values().all(|site| site.carbon.is_none()));
    unknown(&seen, "a", "max_age");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_window_of_a_built_in_query_can_be_others() {
    if !prometheus_is_there() {
        return;
    }
    let mut series = Series::default();
    let labels = "place=\"a\",crowd=\"north\",job=\"http\",instance=\"a:80\"";
    series.twice("probe_success", labels, steady(1.0));
    // A tenth of a second until a minute ago, and half as much since.
    series.twice("probe_duration_seconds", labels, |age| if age > 60.0 { 0.1 } else { 0.05 });
    let server = Setup::with(&series).start();
    let bench = server.ready().await;
    let table = "builtin = \"blackbox\"\nsite_label = \"place\"\nusers_label = \"crowd\"\nwindow = \"20s\"";
    let seen = bench.see(Metric::UserLatency, written("user_latency", table)).await;
    assert_eq!(values(Metric::UserLatency, &seen), BTreeMap::from([("a".into(), 50.0)]));
    let table = table.replace("20s", "10m");
    let seen = bench.see(Metric::UserLatency, written("user_latency", &table)).await;
    let value = values(Metric::UserLatency, &seen)[&"a".into()];
    assert!(value > 80.0 && value < 99.0, "{value}");
}
