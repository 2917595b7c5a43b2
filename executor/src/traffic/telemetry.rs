//! What is counted of the traffic, per port of a service, for Prometheus.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Service, and port within its container.
type OfPort = [(&'static str, String); 2];

/// What is counted of one port of a service.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Connections that are open to clients.
    pub open: Gauge,
    /// Connections and requests that are held now.
    pub held_now: Gauge,
    /// Those that were ever held.
    pub held: Counter,
    /// Those that could not be held, or not for long enough.
    pub refused: Counter,
    /// How long they were held, in seconds.
    pub hold: Histogram,
    /// Connections that went on at the new place.
    pub handed_over: Counter,
    /// Connections that were closed between two requests.
    pub closed_at_boundary: Counter,
    /// Connections that were closed while an answer was outstanding.
    pub closed_in_request: Counter,
    /// Requests that were sent once more.
    pub repeated: Counter,
    /// Bytes to the service.
    pub sent: Counter,
    /// Bytes to clients.
    pub received: Counter,
    /// Moves for which the gate was closed.
    pub moves: Counter,
    /// Of those, how many found something still under way when the time for it was over.
    pub cut: Counter,
}

fn hold_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Default for Meters {
    fn default() -> Self {
        Telemetry::default().of("", 0)
    }
}

/// What is counted of all services.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: Arc<Registry>,
    open: Family<OfPort, Gauge>,
    held_now: Family<OfPort, Gauge>,
    held: Family<OfPort, Counter>,
    refused: Family<OfPort, Counter>,
    hold: Family<OfPort, Histogram, fn() -> Histogram>,
    handed_over: Family<OfPort, Counter>,
    closed_at_boundary: Family<OfPort, Counter>,
    closed_in_request: Family<OfPort, Counter>,
    repeated: Family<OfPort, Counter>,
    sent: Family<OfPort, Counter>,
    received: Family<OfPort, Counter>,
    moves: Family<OfPort, Counter>,
    cut: Family<OfPort, Counter>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let mut all = Self {
            registry: Arc::default(),
            open: Family::default(),
            held_now: Family::default(),
            held: Family::default(),
            refused: Family::default(),
            hold: Family::new_with_constructor(hold_buckets),
            handed_over: Family::default(),
            closed_at_boundary: Family::default(),
            closed_in_request: Family::default(),
            repeated: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            moves: Family::default(),
            cut: Family::default(),
        };
        let mut registry = Registry::with_prefix("sterna_front");
        registry.register("connections", "Connections open to clients", all.open.clone());
        registry.register("held_now", "Connections and requests held now", all.held_now.clone());
        registry.register("held", "Connections and requests held", all.held.clone());
        registry.register(
            "refused",
            "Connections and requests not held, or not long enough",
            all.refused.clone(),
        );
        registry.register_with_unit("hold", "Time held", Unit::Seconds, all.hold.clone());
        registry.register(
            "handed_over",
            "Connections that went on at the new place",
            all.handed_over.clone(),
        );
        let text = "Connections closed between two requests because their service moved";
        registry.register("closed_at_boundary", text, all.closed_at_boundary.clone());
        let text = "Connections closed with an answer outstanding because their service moved";
        registry.register("closed_in_request", text, all.closed_in_request.clone());
        registry.register("repeated", "Requests sent once more at the new place", all.repeated.clone());
        registry.register_with_unit("sent", "To services", Unit::Bytes, all.sent.clone());
        registry.register_with_unit("received", "To clients", Unit::Bytes, all.received.clone());
        registry.register("moves", "Moves that the gate was closed for", all.moves.clone());
        let text = "Moves that began with something still under way";
        registry.register("moves_cut", text, all.cut.clone());
        all.registry = Arc::new(registry);
        all
    }
}

impl Telemetry {
    /// What is counted of one port of a service.
    pub fn of(&self, service: &str, port: u16) -> Meters {
        let of = [("service", service.to_owned()), ("port", port.to_string())];
        Meters {
            open: self.open.get_or_create(&of).clone(),
            held_now: self.held_now.get_or_create(&of).clone(),
            held: self.held.get_or_create(&of).clone(),
            refused: self.refused.get_or_create(&of).clone(),
            hold: self.hold.get_or_create(&of).clone(),
            handed_over: self.handed_over.get_or_create(&of).clone(),
            closed_at_boundary: self.closed_at_boundary.get_or_create(&of).clone(),
            closed_in_request: self.closed_in_request.get_or_create(&of).clone(),
            repeated: self.repeated.get_or_create(&of).clone(),
            sent: self.sent.get_or_create(&of).clone(),
            received: self.received.get_or_create(&of).clone(),
            moves: self.moves.get_or_create(&of).clone(),
            cut: self.cut.get_or_create(&of).clone(),
        }
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_by_service_and_port() {
        let telemetry = Telemetry::default();
        telemetry.of("redis", 6379).handed_over.inc_by(50);
        telemetry.of("web", 80).hold.observe(0.3);
        let text = telemetry.text();
        assert!(
            text.contains("sterna_front_handed_over_total{service=\"redis\",port=\"6379\"} 50"),
            "{text}"
        );
        assert!(text.contains("sterna_front_hold_seconds_count{service=\"web\",port=\"80\"} 1"), "{text}");
    }
}
