//! Where on the globe something is, and how far apart two places are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sterna_policies::load::{At, Findings};

/// Mean radius of the Earth in km, as the IUGG has it.
const RADIUS: f64 = 6371.0088;

/// A place on the globe, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// North of the equator, -90 to 90.
    pub latitude: f64,
    /// East of Greenwich, -180 to 180.
    pub longitude: f64,
}

impl Location {
    /// The place, where there is one with such coordinates.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let is_place = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_place.then_some(Self { latitude, longitude })
    }

    /// Kilometres along the great circle (haversine).
    ///
    /// By `libm` and not by the platform's functions, which differ in the last bit: simulations are to give the same bytes
    /// everywhere.
    pub fn km_to(&self, other: &Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half = |span: f64| libm::sin(span / 2.0);
        let (north, east) = (half(to - from), half((other.longitude - self.longitude).to_radians()));
        let chord = north * north + libm::cos(from) * libm::cos(to) * east * east;
        2.0 * RADIUS * libm::asin(chord.clamp(0.0, 1.0).sqrt())
    }

    /// The place a part of the way to another, along straight lines in degrees and the shorter way round: for ways within a region.
    pub fn towards(&self, other: &Self, part: f64) -> Self {
        let part = part.clamp(0.0, 1.0);
        Self {
            latitude: self.latitude + (other.latitude - self.latitude) * part,
            longitude: round(self.longitude + self.degrees_east_to(other) * part),
        }
    }

    /// How far another is to the east the shorter way round, -180 to 180 degrees: over the date line where that is shorter.
    pub fn degrees_east_to(&self, other: &Self) -> f64 {
        round(other.longitude - self.longitude)
    }
}

/// Degrees of longitude that went beyond the date line, as it is counted behind it.
fn round(longitude: f64) -> f64 {
    match longitude {
        east if east > 180.0 => east - 360.0,
        west if west < -180.0 => west + 360.0,
        longitude => longitude,
    }
}

/// A place as files have it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Location")]
pub struct LocationFile {
    /// Degrees north of the equator, -90 to 90.
    pub latitude: At<f64>,
    /// Degrees east of Greenwich, -180 to 180.
    pub longitude: At<f64>,
}

impl LocationFile {
    /// Reads it; reports coordinates that are nowhere.
    pub fn read(&self, findings: &mut Findings) -> Option<Location> {
        for (value, what, most) in [(&self.latitude, "latitude", 90.0), (&self.longitude, "longitude", 180.0)]
        {
            if !(-most..=most).contains(&value.value) {
                findings
                    .error("I0018", value.span(), format!("there is no {what} of {}", value.value))
                    .label(format!("must be from -{most} to {most} degrees"));
            }
        }
        Location::new(self.latitude.value, self.longitude.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(latitude: f64, longitude: f64) -> Location {
        Location::new(latitude, longitude).unwrap()
    }

    #[test]
    fn known_distances() {
        // A degree of a great circle is pi R / 180.
        let degree = std::f64::consts::PI * RADIUS / 180.0;
        assert!((at(0.0, 0.0).km_to(&at(0.0, 1.0)) - degree).abs() < 1e-9);
        assert!((at(0.0, 0.0).km_to(&at(1.0, 0.0)) - degree).abs() < 1e-9);
        // Half round, over the pole and over the date line.
        assert!((at(90.0, 0.0).km_to(&at(-90.0, 0.0)) - 180.0 * degree).abs() < 1e-6);
        assert!((at(0.0, 179.5).km_to(&at(0.0, -179.5)) - degree).abs() < 1e-9);
        // Melbourne and Sydney are some 714 km apart.
        assert!((at(-37.8136, 144.9631).km_to(&at(-33.8688, 151.2093)) - 713.4).abs() < 1.0);
    }

    #[test]
    fn ways_go_over_the_date_line_where_that_is_shorter() {
        let (samoa, fiji) = (at(-14.0, -172.0), at(-18.0, 178.0));
        assert_eq!(samoa.towards(&fiji, 0.5), at(-16.0, -177.0));
        assert_eq!(samoa.towards(&fiji, 0.9), at(-17.6, 179.0));
        assert_eq!(fiji.towards(&samoa, 1.0), at(-14.0, -172.0));
        assert_eq!((fiji.degrees_east_to(&samoa), samoa.degrees_east_to(&fiji)), (10.0, -10.0));
        assert_eq!(at(0.0, -30.0).towards(&at(0.0, 90.0), 0.25), at(0.0, 0.0));
    }

    #[test]
    fn what_is_not_on_the_globe_is_no_place() {
        assert_eq!(Location::new(90.1, 0.0), None);
        assert_eq!(Location::new(0.0, -180.5), None);
        assert_eq!(Location::new(f64::NAN, 0.0), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_to_oneself(
            a in (-90.0f64..90.0, -180.0f64..180.0),
            b in (-90.0f64..90.0, -180.0f64..180.0),
        ) {
            let (a, b) = (at(a.0, a.1), at(b.0, b.1));
            prop_assert_eq!(a.km_to(&a), 0.0);
            prop_assert!((a.km_to(&b) - b.km_to(&a)).abs() < 1e-6);
            prop_assert!(a.km_to(&b) <= std::f64::consts::PI * RADIUS + 1e-6);
        }
    }
}
