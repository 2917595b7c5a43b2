//! Exporters, by the names of metrics that only they have.

/// An exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exporter {
    Node,
    Cadvisor,
    KubeState,
    Blackbox,
    Smokeping,
    /// Sterna's own.
    Probes,
    Kepler,
    /// Before 0.10: its metrics have other names.
    OldKepler,
    Scaphandre,
    Rapl,
    OpenCost,
    GridIntensity,
}

/// Each with a metric that tells that it is there, its name, and what it is good for.
const KNOWN: [(Exporter, &str, &str); 13] = [
    (Exporter::Node, "node_cpu_seconds_total", "node_exporter: how busy sites are"),
    (Exporter::Cadvisor, "container_cpu_usage_seconds_total", "cAdvisor: what containers use"),
    (Exporter::KubeState, "kube_pod_info", "kube-state-metrics: what clusters run"),
    (Exporter::Blackbox, "probe_success", "blackbox_exporter: latency to sites"),
    (Exporter::Smokeping, "smokeping_requests_total", "smokeping_prober: latency to sites"),
    (Exporter::Probes, "sterna_probe_user_round_trip_seconds", "Sterna's own probes: latency to sites"),
    (Exporter::Kepler, "kepler_node_cpu_joules_total", "Kepler: power"),
    (Exporter::OldKepler, "kepler_node_package_joules_total", "Kepler, before 0.10: power"),
    (Exporter::Scaphandre, "scaph_host_power_microwatts", "Scaphandre: power"),
    (Exporter::Rapl, "node_rapl_package_joules_total", "node_exporter's RAPL: power"),
    (Exporter::Rapl, "node_rapl_joules_total", "node_exporter's RAPL: power"),
    (Exporter::OpenCost, "node_total_hourly_cost", "OpenCost: prices"),
    (Exporter::GridIntensity, "grid_intensity_carbon_average", "grid-intensity exporter: carbon"),
];

/// The label that a row of [`query`]'s answer has the metric's name in.
pub const LABEL: &str = "metric";

/// Asks for all of them at once. The name of a metric would be dropped from the answer, so it is copied.
pub fn query() -> String {
    let names: Vec<&str> = KNOWN.iter().map(|(_, metric, _)| *metric).collect();
    format!(
        "label_replace(count by (__name__) ({{__name__=~\"{}\"}}), \"{LABEL}\", \"$1\", \"__name__\", \"(.+)\")",
        names.join("|")
    )
}

/// The exporter that a metric tells of, and what it is good for.
pub fn of(metric: &str) -> Option<(Exporter, &'static str)> {
    KNOWN.iter().find(|(_, known, _)| *known == metric).map(|(exporter, _, about)| (*exporter, *about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_that_is_asked_for_tells_of_an_exporter() {
        let query = query();
        for (exporter, metric, _) in KNOWN {
            assert!(query.contains(metric));
            assert_eq!(of(metric).unwrap().0, exporter);
        }
        assert_eq!(of("up"), None);
    }
}
