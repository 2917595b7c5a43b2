//! Queries for the exporters that people have, so that a policy names one instead of writing PromQL.
//!
//! All of them want one label on every series: `site`, put on by the scrape job of that site; probes have `users` as well,
//! the group from whose place they probe. What is there twice (two Prometheus servers, two jobs that scrape one exporter)
//! is made one by `max by` before anything is summed or averaged. Counters are read over five minutes: hardware counters of
//! energy wrap, `rate` takes a wrap for a restart and loses what came before it, and over less than five minutes that would
//! be much of the window.

use crate::policy::{Metric, SourceUnit};
use crate::quantity::Millis;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A query that comes with Sterna.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name in policy files.
    pub name: &'static str,
    /// What it measures.
    pub metric: Metric,
    /// The unit of its values.
    pub unit: SourceUnit,
    /// Who exports the series.
    pub exporter: &'static str,
    /// The time over which it takes its mean or rate; `None` where it takes the newest sample.
    pub window: Option<Window>,
    /// Samples older than this count as missing.
    pub max_age: Millis,
    /// PromQL, with `$site`, `$users`, `$window` and `$step` to be put in.
    template: &'static str,
}

/// The time over which a query takes its mean or rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where the policy says nothing.
    pub usual: Millis,
    /// With less it would be wrong.
    pub least: Millis,
}

const fn window(usual: i64, least: i64) -> Option<Window> {
    Some(Window { usual: Millis::from_micros(usual), least: Millis::from_micros(least) })
}

const TWO_MINUTES: Millis = Millis::from_micros(2 * MINUTE);
/// Of an energy counter, which may wrap.
const WRAPPING: Option<Window> = window(5 * MINUTE, 5 * MINUTE);
/// Of probes, which come one by one: a mean of them is right over any time.
const PROBES: Option<Window> = window(MINUTE, SECOND);

/// All of them, by metric.
pub const ALL: [Builtin; 13] = [
    // The duration of a probe that failed is its timeout, so only the successful ones count.
    Builtin {
        name: "blackbox",
        metric: Metric::UserLatency,
        unit: SourceUnit::Seconds,
        exporter: "blackbox_exporter, any module: the whole probe",
        window: PROBES,
        max_age: TWO_MINUTES,
        template: "avg by ($users, $site) (max by ($users, $site, instance) (avg_over_time((\
                   probe_duration_seconds and on (instance, job, $users, $site) probe_success == 1)[$window:$step])))",
    },
    Builtin {
        name: "blackbox-http",
        metric: Metric::UserLatency,
        unit: SourceUnit::Seconds,
        exporter: "blackbox_exporter, module http: all phases of the request",
        window: PROBES,
        max_age: TWO_MINUTES,
        template: "avg by ($users, $site) (max by ($users, $site, instance) (avg_over_time((\
                   sum by ($users, $site, instance, job) (\
                   max by ($users, $site, instance, job, phase) (probe_http_duration_seconds)) \
                   and on (instance, job, $users, $site) probe_success == 1)[$window:$step])))",
    },
    Builtin {
        name: "blackbox-icmp",
        metric: Metric::UserLatency,
        unit: SourceUnit::Seconds,
        exporter: "blackbox_exporter, module icmp: the round trip",
        window: PROBES,
        max_age: TWO_MINUTES,
        template: "avg by ($users, $site) (max by ($users, $site, instance) (avg_over_time((\
                   probe_icmp_duration_seconds{phase=\"rtt\"} \
                   and on (instance, job, $users, $site) probe_success == 1)[$window:$step])))",
    },
    Builtin {
        name: "smokeping",
        metric: Metric::UserLatency,
        unit: SourceUnit::Seconds,
        exporter: "smokeping_prober: the mean round trip of the answers",
        window: window(2 * MINUTE, 10 * SECOND),
        max_age: TWO_MINUTES,
        template: "sum by ($users, $site) (max by ($users, $site, instance, host, ip) (\
                   rate(smokeping_response_duration_seconds_sum[$window]))) \
                   / (sum by ($users, $site) (max by ($users, $site, instance, host, ip) (\
                   rate(smokeping_response_duration_seconds_count[$window]))) > 0)",
    },
    // Each is exported until the next round, so a mean over the scrapes is one over the rounds.
    Builtin {
        name: "probes",
        metric: Metric::UserLatency,
        unit: SourceUnit::Seconds,
        exporter: "Sterna's own probes: the round trip between a site's agents and its users' place",
        window: window(5 * MINUTE, SECOND),
        max_age: TWO_MINUTES,
        template: "max by ($users, $site) (avg_over_time(sterna_probe_user_round_trip_seconds[$window]))",
    },
    Builtin {
        name: "opencost",
        metric: Metric::CostRate,
        unit: SourceUnit::UsdPerHour,
        exporter: "OpenCost: the price of a node",
        window: None,
        max_age: Millis::from_micros(10 * MINUTE),
        template: "avg by ($site) (max by ($site, node) (node_total_hourly_cost))",
    },
    Builtin {
        name: "cloudcost",
        metric: Metric::CostRate,
        unit: SourceUnit::UsdPerHour,
        exporter: "cloudcost-exporter: the list price of an instance of AWS or Azure",
        window: None,
        max_age: Millis::from_micros(10 * MINUTE),
        template: "avg by ($site) (max by ($site, instance, exported_instance, instance_id) (\
                   {__name__=~\"cloudcost_(aws_ec2|azure_aks)_instance_total_usd_per_hour\"}))",
    },
    // Zones overlap, so one is taken: the platform's where there is one, else the packages'. The node's own counter is the
    // hardware's and wraps; active and idle energy don't.
    Builtin {
        name: "kepler",
        metric: Metric::Power,
        unit: SourceUnit::Watts,
        exporter: "Kepler 0.10 and newer: a node, active and idle",
        window: WRAPPING,
        max_age: TWO_MINUTES,
        template: "avg by ($site) (\
                   sum by ($site, node_name) (max by ($site, node_name, path) (\
                   rate(kepler_node_cpu_active_joules_total{zone=\"psys\"}[$window]))) \
                   + sum by ($site, node_name) (max by ($site, node_name, path) (\
                   rate(kepler_node_cpu_idle_joules_total{zone=\"psys\"}[$window]))) \
                   or sum by ($site, node_name) (max by ($site, node_name, path) (\
                   rate(kepler_node_cpu_active_joules_total{zone=\"package\"}[$window]))) \
                   + sum by ($site, node_name) (max by ($site, node_name, path) (\
                   rate(kepler_node_cpu_idle_joules_total{zone=\"package\"}[$window]))))",
    },
    Builtin {
        name: "kepler-0.9",
        metric: Metric::Power,
        unit: SourceUnit::Watts,
        exporter: "Kepler 0.9 and older: a node's packages, dynamic and idle",
        window: WRAPPING,
        max_age: TWO_MINUTES,
        template: "avg by ($site) (sum by ($site, instance) (max by ($site, instance, package, mode) (\
                   rate(kepler_node_package_joules_total[$window]))))",
    },
    Builtin {
        name: "scaphandre",
        metric: Metric::Power,
        unit: SourceUnit::Microwatts,
        exporter: "Scaphandre: a host",
        window: None,
        max_age: TWO_MINUTES,
        template: "avg by ($site) (max by ($site, instance) (scaph_host_power_microwatts))",
    },
    Builtin {
        name: "node-exporter-rapl",
        metric: Metric::Power,
        unit: SourceUnit::Watts,
        exporter: "node_exporter: a host's packages, by RAPL",
        window: WRAPPING,
        max_age: TWO_MINUTES,
        template: "avg by ($site) (sum by ($site, instance) (max by ($site, instance, index, path) (\
                   rate(node_rapl_package_joules_total[$window]))) \
                   or sum by ($site, instance) (max by ($site, instance, index, path) (\
                   rate(node_rapl_joules_total{rapl_zone=~\"package.*\"}[$window]))))",
    },
    // Its samples carry their provider's time, which may be hours ago.
    Builtin {
        name: "grid-intensity",
        metric: Metric::CarbonRate,
        unit: SourceUnit::GramsPerKwh,
        exporter: "grid-intensity exporter: the grid's average",
        window: window(6 * HOUR, 5 * MINUTE),
        max_age: Millis::from_micros(6 * HOUR),
        template: "max by ($site) (last_over_time(grid_intensity_carbon_average[$window]))",
    },
    // Waiting for disks is idle time, and what a hypervisor takes is not ours.
    Builtin {
        name: "node-exporter-cpu",
        metric: Metric::CpuUse,
        unit: SourceUnit::Ratio,
        exporter: "node_exporter: the share of a host's processors in use",
        window: window(5 * MINUTE, 4 * SECOND),
        max_age: TWO_MINUTES,
        template: "1 - avg by ($site) (sum by ($site, instance, cpu) (max by ($site, instance, cpu, mode) (\
                   rate(node_cpu_seconds_total{mode=~\"idle|iowait|steal\"}[$window]))))",
    },
];

impl Builtin {
    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|builtin| builtin.name == name)
    }

    /// Those that measure a metric.
    pub fn of(metric: Metric) -> impl Iterator<Item = Self> {
        ALL.into_iter().filter(move |builtin| builtin.metric == metric)
    }

    /// The PromQL, with the names of the labels and the time that it looks back.
    pub fn query(&self, site_label: &str, users_label: &str, window: Option<Millis>) -> String {
        let window = window.or(self.window.map(|window| window.usual)).unwrap_or_default();
        self.template
            .replace("$site", site_label)
            .replace("$users", users_label)
            .replace("$window", &span(window))
            .replace("$step", &span(step(window)))
    }
}

/// A dozen looks at the probes of a window, between one and fifteen seconds apart.
fn step(window: Millis) -> Millis {
    Millis::from_micros((window.as_micros() / 12 / SECOND * SECOND).clamp(SECOND, 15 * SECOND))
}

/// A time as PromQL writes it, in the largest unit that it is whole in. What is less than a millisecond is lost.
fn span(time: Millis) -> String {
    let (units, micros) = ([(HOUR, "h"), (MINUTE, "m"), (SECOND, "s")], time.as_micros());
    match units.into_iter().find(|(unit, _)| micros != 0 && micros % unit == 0) {
        Some((unit, name)) => format!("{}{name}", micros / unit),
        None => format!("{}ms", micros / (SECOND / 1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_own_name() {
        for builtin in ALL {
            assert_eq!(Builtin::find(builtin.name), Some(builtin));
            assert!(Builtin::of(builtin.metric).any(|one| one == builtin));
        }
        assert_eq!(Builtin::find("nothing"), None);
    }

    #[test]
    fn labels_and_window_are_put_in() {
        for builtin in ALL {
            let query = builtin.query("place", "crowd", None);
            assert!(!query.contains('$'), "{query}");
            assert!(query.contains("place"), "{query}");
            assert_eq!(query.contains("crowd"), builtin.metric == Metric::UserLatency, "{query}");
            promql_parser::parser::parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
        }
        let probes = Builtin::find("blackbox-icmp").unwrap();
        assert!(probes.query("site", "users", None).contains("[1m:5s]"));
        assert!(probes.query("site", "users", "20s".parse().ok()).contains("[20s:1s]"));
        assert!(probes.query("site", "users", "90m".parse().ok()).contains("[90m:15s]"));
        assert!(probes.query("site", "users", "1500ms".parse().ok()).contains("[1500ms:1s]"));
    }

    #[test]
    fn energy_is_never_read_over_less_than_five_minutes() {
        for builtin in ALL.iter().filter(|builtin| builtin.template.contains("joules")) {
            let least = builtin.window.map(|window| window.least);
            assert!(least >= "5m".parse().ok(), "{}", builtin.name);
        }
    }

    #[test]
    fn as_they_are_listed() {
        let lines = ALL.map(|one| format!("{}: {}", one.name, one.query("site", "users", None)));
        insta::assert_snapshot!(lines.join("\n"));
    }
}
