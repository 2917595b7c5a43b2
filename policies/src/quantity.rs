//! Quantities with their unit in the type.
//!
//! Every measured or modelled number in Sterna is one of these. They hold whole **millionths of the unit**, so sums and
//! comparisons are exact and a decision is the same on every machine. Text has the unit in it (`"80ms"`, `"0.40USD/h"`,
//! `"4GiB"`); a bare number is refused, because it hides a factor of a thousand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A text that is not the quantity that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {expected}")]
pub struct QuantityError {
    /// What was written.
    pub text: String,
    /// What would have been right, with an example.
    pub expected: &'static str,
}

const MICRO: f64 = 1e6;

/// What all quantities have in common for those who explain them.
pub trait Quantity: FromStr<Err = QuantityError> + Copy {
    /// What a text of it looks like, with an example.
    const EXPECTED: &'static str;
    /// The units that its text may have; an empty one where a bare number will do.
    const UNITS: &'static [&'static str];

    /// Whether it is less than nothing.
    fn is_negative(self) -> bool;

    /// Whether it is nothing.
    fn is_zero(self) -> bool;
}

/// Splits `"12.5ms"` into `(12.5, "ms")`.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some((number, unit.trim()))
}

/// The JSON Schema of a text with one of these units.
fn text_schema(expected: &str, units: &[&str]) -> schemars::Schema {
    // No unit has a character that means something in a pattern.
    let pattern = format!(r"^\s*[-+]?[0-9.]+\s*({})\s*$", units.join("|"));
    schemars::json_schema!({ "type": "string", "description": expected, "pattern": pattern })
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $symbol:literal, $expected:literal, { $($unit:literal => $factor:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            micros: i64,
        }

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self { micros: 0 };
            /// The unit as it is printed.
            pub const UNIT: &'static str = $symbol;

            /// From whole millionths of the unit.
            pub const fn from_micros(micros: i64) -> Self {
                Self { micros }
            }

            /// Whole millionths of the unit.
            pub const fn as_micros(self) -> i64 {
                self.micros
            }

            /// From a number of units, rounded to the nearest millionth. `None` for NaN, infinities and what does not fit.
            pub fn from_f64(value: f64) -> Option<Self> {
                let micros = (value * MICRO).round();
                (micros.is_finite() && micros.abs() < 9e18).then_some(Self { micros: micros as i64 })
            }

            /// The number of units.
            pub fn as_f64(self) -> f64 {
                self.micros as f64 / MICRO
            }

            /// `self + other`, at the type's limit where it would overflow.
            pub const fn saturating_add(self, other: Self) -> Self {
                Self { micros: self.micros.saturating_add(other.micros) }
            }

            /// `self - other`, at the type's limit where it would overflow.
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self { micros: self.micros.saturating_sub(other.micros) }
            }

            /// `self * numerator / denominator`, rounded towards zero; zero where the denominator is zero.
            pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
                if denominator == 0 {
                    return Self::ZERO;
                }
                // Most fit into half the bits, where a division takes a fraction of the time.
                let half = || {
                    let whole = self.micros.checked_mul(i64::try_from(numerator).ok()?)?;
                    whole.checked_div(i64::try_from(denominator).ok()?)
                };
                let wide = || {
                    let wide = i128::from(self.micros) * i128::from(numerator) / i128::from(denominator);
                    wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
                };
                Self { micros: half().unwrap_or_else(wide) }
            }
        }

        impl Quantity for $name {
            const EXPECTED: &'static str = $expected;
            const UNITS: &'static [&'static str] = &[$($unit),+];

            fn is_negative(self) -> bool {
                self.micros < 0
            }

            fn is_zero(self) -> bool {
                self.micros == 0
            }
        }

        impl FromStr for $name {
            type Err = QuantityError;
            fn from_str(text: &str) -> Result<Self, QuantityError> {
                let error = || QuantityError { text: text.to_owned(), expected: $expected };
                let (number, unit) = split(text).ok_or_else(error)?;
                let factor: f64 = match unit {
                    $($unit => $factor,)+
                    _ => return Err(error()),
                };
                Self::from_f64(number * factor).ok_or_else(error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let precision = f.precision().unwrap_or(6);
                let mut text = format!("{:.*}", precision, self.as_f64());
                if text.contains('.') {
                    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
                }
                if text == "-0" {
                    text.remove(0);
                }
                text.push_str($symbol);
                // Not `pad`: it would take the precision for a length to cut the text at.
                let width = f.width().unwrap_or(0);
                write!(f, "{text:>width$}")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                text_schema(<$name as Quantity>::EXPECTED, <$name as Quantity>::UNITS)
            }
        }
    };
}

quantity! {
    /// A time in milliseconds: latencies and durations.
    Millis, "ms", "a time such as \"80ms\", \"2s\", \"5m\", \"1h\" or \"1d\"",
    { "us" => 1e-3, "ms" => 1.0, "s" => 1e3, "m" => 6e4, "min" => 6e4, "h" => 3.6e6, "d" => 8.64e7 }
}
quantity! {
    /// Electrical power.
    Watts, "W", "a power such as \"12W\" or \"1.5kW\"",
    { "mW" => 1e-3, "W" => 1.0, "kW" => 1e3 }
}
quantity! {
    /// A rate of spending in US dollars per hour.
    UsdPerHour, "USD/h", "a price rate such as \"0.40USD/h\" or \"9USD/d\"",
    { "USD/h" => 1.0, "USD/d" => 1.0 / 24.0, "USD/month" => 1.0 / 730.0 }
}
quantity! {
    /// An amount of money in US dollars.
    Usd, "USD", "an amount such as \"0.05USD\"",
    { "USD" => 1.0 }
}
quantity! {
    /// A traffic price in US dollars per GiB.
    UsdPerGib, "USD/GiB", "a traffic price such as \"0.02USD/GiB\"",
    { "USD/GiB" => 1.0 }
}
quantity! {
    /// Carbon intensity of electricity, in grams of CO2 equivalent per kilowatt-hour.
    GramsPerKwh, "g/kWh", "a carbon intensity such as \"120g/kWh\"",
    { "g/kWh" => 1.0, "kg/kWh" => 1e3 }
}
quantity! {
    /// A rate of emission, in grams of CO2 equivalent per hour.
    GramsPerHour, "g/h", "a rate of emission such as \"30g/h\"",
    { "g/h" => 1.0, "kg/h" => 1e3 }
}
quantity! {
    /// An amount of energy, in watt-hours.
    WattHours, "Wh", "an energy such as \"300Wh\" or \"1.2kWh\"",
    { "Wh" => 1.0, "kWh" => 1e3 }
}
quantity! {
    /// A mass, in grams; of CO2 equivalent where it is emitted.
    Grams, "g", "a mass such as \"40g\" or \"1.5kg\"",
    { "g" => 1.0, "kg" => 1e3 }
}
quantity! {
    /// A rate of requests per second.
    PerSecond, "/s", "a rate such as \"50/s\"",
    { "/s" => 1.0, "/min" => 1.0 / 60.0 }
}
quantity! {
    /// Processor cores.
    Cores, "cores", "a number of cores such as \"2cores\", \"500m\" or \"0.5\"",
    { "" => 1.0, "core" => 1.0, "cores" => 1.0, "m" => 1e-3 }
}
quantity! {
    /// A share in percent.
    Percent, "%", "a share such as \"15%\"",
    { "%" => 1.0 }
}
quantity! {
    /// A transfer rate in MiB per second.
    MibPerSecond, "MiB/s", "a transfer rate such as \"40MiB/s\" or \"1Gbit/s\"",
    { "KiB/s" => 1.0 / 1024.0, "MiB/s" => 1.0, "GiB/s" => 1024.0, "Mbit/s" => 1e6 / 8.0 / 1_048_576.0,
      "Gbit/s" => 1e9 / 8.0 / 1_048_576.0 }
}
quantity! {
    /// A speed over ground.
    KmPerHour, "km/h", "a speed such as \"5km/h\" or \"1.4m/s\"",
    { "km/h" => 1.0, "m/s" => 3.6 }
}

impl Millis {
    /// The same span for timers; zero for negative values.
    pub fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.micros).unwrap_or(0))
    }

    /// From a measured span, at the type's limit where it would not fit.
    pub fn from_duration(span: std::time::Duration) -> Self {
        Self { micros: i64::try_from(span.as_nanos()).unwrap_or(i64::MAX) }
    }
}

/// An amount of data or memory, in whole bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

const BYTES_EXPECTED: &str = "a size such as \"512MiB\", \"4GiB\" or \"100kB\"";

impl Bytes {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);

    /// From whole MiB.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of MiB.
    pub fn as_mib(self) -> f64 {
        self.0 as f64 / 1_048_576.0
    }
}

impl Quantity for Bytes {
    const EXPECTED: &'static str = BYTES_EXPECTED;
    const UNITS: &'static [&'static str] = &["B", "kB", "MB", "GB", "KiB", "MiB", "GiB", "TiB"];

    fn is_negative(self) -> bool {
        false
    }

    fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.to_owned(), expected: BYTES_EXPECTED };
        let (number, unit) = split(text).ok_or_else(error)?;
        let factor: f64 = match unit {
            "B" => 1.0,
            "kB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1_048_576.0,
            "GiB" => 1_073_741_824.0,
            "TiB" => 1_099_511_627_776.0,
            _ => return Err(error()),
        };
        let bytes = (number * factor).round();
        if !(0.0..1.8e19).contains(&bytes) {
            return Err(error());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n >= 1 << 30 => format!("{:.2}GiB", n as f64 / f64::from(1 << 30)),
            n if n >= 1 << 20 => format!("{:.1}MiB", n as f64 / f64::from(1 << 20)),
            n if n >= 1 << 10 => format!("{:.1}KiB", n as f64 / f64::from(1 << 10)),
            n => format!("{n}B"),
        };
        f.pad(&text)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{}B", self.0))
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

impl schemars::JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        text_schema(Self::EXPECTED, Self::UNITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_printed() {
        assert_eq!("80ms".parse(), Ok(Millis::from_micros(80_000_000)));
        assert_eq!("2s".parse::<Millis>().unwrap().as_f64(), 2000.0);
        assert_eq!("0.40USD/h".parse::<UsdPerHour>().unwrap().to_string(), "0.4USD/h");
        assert_eq!("4GiB".parse(), Ok(Bytes(4 << 30)));
        assert_eq!(format!("{:.1}", "12.345W".parse::<Watts>().unwrap()), "12.3W");
        assert_eq!("500m".parse::<Cores>().unwrap().as_f64(), 0.5);
    }

    #[test]
    fn bare_numbers_and_other_dimensions_are_refused() {
        assert!("80".parse::<Millis>().is_err());
        assert!("80W".parse::<Millis>().is_err());
        assert!("-1MiB".parse::<Bytes>().is_err());
        assert!("NaNms".parse::<Millis>().is_err());
        assert_eq!(Watts::from_f64(f64::NAN), None);
    }

    #[test]
    fn a_duration_survives_the_round_trip() {
        let span = std::time::Duration::from_micros(1_234_567);
        assert_eq!(Millis::from_duration(span).to_duration(), span);
    }

    proptest! {
        #[test]
        fn text_is_a_round_trip(micros in -1_000_000_000_000_000i64..1_000_000_000_000_000) {
            let value = Millis::from_micros(micros);
            prop_assert_eq!(value.to_string().parse::<Millis>().unwrap(), value);
        }

        #[test]
        fn a_part_is_rounded_towards_zero(micros: i64, bits in 0u32..64, numerator: u64, denominator: u64) {
            let micros = micros >> bits;
            let part = Millis::from_micros(micros).scaled(numerator >> bits, denominator);
            let wide = i128::from(micros) * i128::from(numerator >> bits);
            let exact = wide.checked_div(denominator.into()).unwrap_or(0);
            prop_assert_eq!(i128::from(part.as_micros()), exact.clamp(i64::MIN.into(), i64::MAX.into()));
        }

        #[test]
        fn bytes_survive_json(n in 0u64..1 << 50) {
            let text = serde_json::to_string(&Bytes(n)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), Bytes(n));
        }
    }
}
