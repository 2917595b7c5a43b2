//! Money: node hours and requested shares.

use sterna_core::continuum::{Price, Service};
use sterna_policies::quantity::UsdPerHour;

/// What a service's request costs at a site while it is there.
pub fn of_service(price: &Price, service: &Service) -> UsdPerHour {
    let cores = u64::try_from(service.cpu.as_micros()).unwrap_or(0);
    price.core.scaled(cores, 1_000_000).saturating_add(price.gib.scaled(service.memory.0, 1 << 30))
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::Link;
    use sterna_policies::quantity::Bytes;

    use super::*;

    #[test]
    fn shares_and_transfers_are_priced() {
        let price = Price {
            node: "1USD/h".parse().unwrap(),
            core: "0.02USD/h".parse().unwrap(),
            gib: "0.004USD/h".parse().unwrap(),
        };
        let service = Service {
            cpu: "500m".parse().unwrap(),
            memory: "2GiB".parse().unwrap(),
            pinned: false,
            labels: Default::default(),
            run: None,
        };
        assert_eq!(of_service(&price, &service), "0.018USD/h".parse().unwrap());
        let link = Link {
            between: ["a".into(), "b".into()],
            rtt: "20ms".parse().unwrap(),
            bandwidth: "1Gbit/s".parse().unwrap(),
            egress: "0.08USD/GiB".parse().unwrap(),
        };
        assert_eq!(link.price_of(Bytes::from_mib(256)), "0.02USD".parse().unwrap());
    }
}
