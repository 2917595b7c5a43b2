//! What adds up at a site, in whole numbers: rate times span, span by span.

use serde::Serialize;
use sterna_policies::quantity::{Grams, Usd, WattHours};

use super::columns::Site;
use crate::clock::{NANOS_PER_HOUR, SimTime};

/// Femtowatt-nanoseconds in a millionth of a watt-hour: 3.6 mJ.
const IN_MICRO_WATT_HOUR: u128 = 3_600_000_000_000_000_000_000;
/// Femtowatt-nanoseconds in a nanojoule.
const IN_NANOJOULE: u128 = 1_000_000_000_000_000;
/// Nanojoules in a kilowatt-hour.
const IN_KWH: u128 = 3_600_000_000_000_000;

/// An energy, in femtowatt-nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Energy(pub u128);

impl Energy {
    /// Rounded to the nearest millionth of a watt-hour.
    pub fn watt_hours(self) -> WattHours {
        WattHours::from_micros(rounded(self.0, IN_MICRO_WATT_HOUR))
    }

    /// The number of kilowatt-hours.
    pub fn as_kwh(self) -> f64 {
        self.0 as f64 / IN_MICRO_WATT_HOUR as f64 / 1e9
    }
}

/// What holds at a site at an instant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    /// Femtowatts of all nodes.
    pub power: u128,
    /// Nodes that host anything.
    pub in_use: u64,
    /// Millicores that are asked for; a service that moves asks at both ends.
    pub cpu: u64,
    /// Bytes that are asked for.
    pub memory: u64,
    /// Nodes whose services would use more than there is.
    pub overloaded: u64,
    /// Price of a node in use, in millionths of a USD per hour.
    pub price: u64,
    /// Carbon intensity, in millionths of a gram per kWh.
    pub carbon: Option<u64>,
}

/// What has added up at a site.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    /// What holds since the last settling.
    pub rates: Rates,
    since: SimTime,
    /// Femtowatt-nanoseconds.
    energy: u128,
    /// That of them whose carbon is reckoned.
    accounted: u128,
    /// Nanojoules times millionths of a gram per kWh.
    carbon: u128,
    carbon_unknown: bool,
    /// Node-nanoseconds in use since the price changed.
    in_use: u128,
    /// Node-nanoseconds in use.
    in_use_before: u128,
    /// Node-nanoseconds times millionths of a USD per hour.
    nodes_cost: u128,
    /// Millicore-nanoseconds.
    cpu: u128,
    /// Byte-nanoseconds.
    memory: u128,
    /// Node-nanoseconds overloaded.
    overloaded: u128,
    /// Bytes that left for another site.
    pub egress: u128,
    /// Bytes that its nodes sent and received.
    pub sent: u128,
    /// The same.
    pub received: u128,
}

impl Account {
    /// Adds up to an instant what has held since the last time. To be called before any rate changes.
    #[inline]
    pub fn settle(&mut self, now: SimTime) {
        let span = u128::from(now.since(self.since));
        if span == 0 {
            return;
        }
        self.since = now;
        let rates = &self.rates;
        self.energy += rates.power * span;
        self.in_use += u128::from(rates.in_use) * span;
        self.cpu += u128::from(rates.cpu) * span;
        self.memory += u128::from(rates.memory) * span;
        self.overloaded += u128::from(rates.overloaded) * span;
    }

    /// Settles, and takes new prices and intensities. What is less than a nanojoule waits for the next time.
    pub fn reprice(&mut self, now: SimTime, price: u64, carbon: Option<u64>) {
        self.settle(now);
        let fresh = self.energy - self.accounted;
        match self.rates.carbon {
            Some(intensity) => {
                self.carbon += fresh / IN_NANOJOULE * u128::from(intensity);
                self.accounted = self.energy - fresh % IN_NANOJOULE;
            }
            None => {
                self.carbon_unknown |= fresh > 0;
                self.accounted = self.energy;
            }
        }
        self.nodes_cost += self.in_use * u128::from(self.rates.price);
        self.in_use_before += self.in_use;
        self.in_use = 0;
        (self.rates.price, self.rates.carbon) = (price, carbon);
    }

    /// What it came to, at the end.
    pub fn close(&mut self, now: SimTime, site: &Site) -> Closed {
        let Rates { price, carbon, .. } = self.rates;
        self.reprice(now, price, carbon);
        let micros = |price: i64| u128::try_from(price).unwrap_or(0);
        let hour = u128::from(NANOS_PER_HOUR);
        let cost = rounded(self.nodes_cost, hour)
            .saturating_add(rounded(self.cpu * micros(site.price.core.as_micros()), hour * 1000))
            .saturating_add(rounded(self.memory * micros(site.price.gib.as_micros()), hour << 30));
        let carbon = self.carbon * u128::from(site.pue);
        Closed {
            energy: Energy(self.energy),
            carbon: (!self.carbon_unknown).then(|| Grams::from_micros(rounded(carbon, IN_KWH * 1000))),
            hosting: Usd::from_micros(cost),
            in_use: self.in_use_before,
            overloaded: self.overloaded,
        }
    }
}

/// What a site came to.
pub(super) struct Closed {
    pub energy: Energy,
    pub carbon: Option<Grams>,
    pub hosting: Usd,
    /// Node-nanoseconds.
    pub in_use: u128,
    /// Node-nanoseconds.
    pub overloaded: u128,
}

/// A quotient, rounded to the nearest.
pub(super) fn rounded(amount: u128, unit: u128) -> i64 {
    i64::try_from((amount + unit / 2) / unit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            price: sterna_core::continuum::Price {
                node: "1USD/h".parse().unwrap(),
                core: "0.02USD/h".parse().unwrap(),
                gib: "0.004USD/h".parse().unwrap(),
            },
            node_price: None,
            carbon: None,
            pue: 1500,
        }
    }

    fn hours(hours: u64) -> SimTime {
        SimTime::from_nanos(hours * NANOS_PER_HOUR)
    }

    #[test]
    fn spans_add_up() {
        let mut account = Account::default();
        account.reprice(SimTime::START, 1_000_000, Some(300_000_000));
        account.rates = Rates {
            power: 2_000 * 1_000_000_000_000_000,
            in_use: 3,
            cpu: 4000,
            memory: 8 << 30,
            overloaded: 1,
            ..account.rates
        };
        account.reprice(hours(2), 500_000, Some(100_000_000));
        account.settle(hours(3));
        account.settle(hours(3));
        let closed = account.close(hours(5), &site());
        assert_eq!(closed.energy.watt_hours(), "10kWh".parse().unwrap());
        assert_eq!(closed.energy.as_kwh(), 10.0);
        // Half as much again for the cooling: 4 kWh at 300 and 6 at 100 g/kWh.
        assert_eq!(closed.carbon, Some("2700g".parse().unwrap()));
        // 6 node-hours at 1 and 9 at half a dollar; 20 core-hours, 40 GiB-hours.
        assert_eq!(closed.hosting, "11.06USD".parse().unwrap());
        assert_eq!(
            (closed.in_use, closed.overloaded),
            (15 * u128::from(NANOS_PER_HOUR), 5 * u128::from(NANOS_PER_HOUR))
        );
    }

    #[test]
    fn carbon_is_unknown_where_power_is_drawn_at_an_unknown_intensity() {
        let mut account = Account::default();
        account.rates.power = 1;
        account.reprice(hours(1), 0, Some(1));
        assert_eq!(account.close(hours(2), &site()).carbon, None);
        let mut off = Account::default();
        off.reprice(hours(1), 0, Some(1));
        assert_eq!(off.close(hours(2), &site()).carbon, Some(Grams::ZERO));
    }
}
