//! Carbon: power times the carbon intensity of the site's electricity.

use sterna_policies::quantity::{GramsPerHour, GramsPerKwh, Watts};

/// What a power emits.
pub fn of_power(power: Watts, intensity: GramsPerKwh) -> GramsPerHour {
    // 1 W at 1 g/kWh is a thousandth of a gram per hour; both factors are in millionths.
    let wide = i128::from(power.as_micros()) * i128::from(intensity.as_micros()) / 1_000_000_000;
    GramsPerHour::from_micros(i64::try_from(wide).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kilowatt_at_300_grams_is_300_grams_per_hour() {
        assert_eq!(of_power("1kW".parse().unwrap(), "300g/kWh".parse().unwrap()), "300g/h".parse().unwrap());
    }
}
