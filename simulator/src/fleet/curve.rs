//! Power over load, in whole femtowatts.
//!
//! So fine that a straight line has a whole slope: what a node draws is one multiplication, without a division and without
//! rounding on the way, and sums over nodes and time stay exact.

use sterna_policies::quantity::{Cores, Watts};

/// All that a service asks for, as a share: shares are hundredths of a percent.
pub const WHOLE: u64 = 10_000;
/// Femtowatts in a millionth of a watt.
const FEMTO: u64 = 1_000_000_000;
/// The most that a node may draw: 10 kW.
const MOST: u64 = 10_000_000_000 * FEMTO;
/// The most points of a curve.
const POINTS: usize = 101;

/// What nodes of a kind draw. Loads are millicores times hundredths of a percent of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    pieces: Vec<Piece>,
    full: u64,
    off_when_empty: bool,
}

/// A piece of a curve: a straight line from a load on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    from: u64,
    base: u64,
    slope: u64,
}

impl Curve {
    /// The curve of a processor through powers at evenly spaced loads, from idle to full: two make a line, eleven are those of
    /// SPECpower. `None` where there are fewer than two or more than 101, where they fall, where one is negative or above 10 kW,
    /// or where there is no processor.
    pub fn through(points: &[Watts], cpu: Cores, off_when_empty: bool) -> Option<Self> {
        let millicores = u32::try_from(cpu.as_micros() / 1000).ok()?;
        if millicores == 0 || !(2..=POINTS).contains(&points.len()) {
            return None;
        }
        let mut powers = Vec::with_capacity(points.len());
        for point in points {
            powers.push(
                u64::try_from(point.as_micros()).ok()?.checked_mul(FEMTO).filter(|power| *power <= MOST)?,
            );
        }
        let full = u64::from(millicores) * WHOLE;
        let lines = u64::try_from(points.len() - 1).ok()?;
        let mut pieces = Vec::with_capacity(points.len() - 1);
        for (index, pair) in (0..lines).zip(powers.windows(2)) {
            let (from, until) = (full * index / lines, full * (index + 1) / lines);
            let (width, rise) = (until - from, pair[1].checked_sub(pair[0])?);
            pieces.push(Piece { from, base: pair[0], slope: (rise + width / 2) / width });
        }
        Some(Self { pieces, full, off_when_empty })
    }

    /// The power under a load, in femtowatts; above full load it is that of full load.
    #[inline]
    pub fn power(&self, load: u64, hosts_any: bool) -> u64 {
        if self.off_when_empty && !hosts_any {
            return 0;
        }
        let load = load.min(self.full);
        let piece = match self.pieces[..] {
            [only] => only,
            // The first piece is from no load on.
            ref pieces => pieces[pieces.partition_point(|piece| piece.from <= load).saturating_sub(1)],
        };
        piece.base + piece.slope * (load - piece.from)
    }

    /// The load at which all cores are busy.
    pub fn full(&self) -> u64 {
        self.full
    }

    /// Power with no load and slope, in femtowatts, where it is a straight line that is never switched off.
    pub fn line(&self) -> Option<(u64, u64)> {
        match self.pieces[..] {
            [only] if !self.off_when_empty => Some((only.base, only.slope)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn watts(all: &[&str]) -> Vec<Watts> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn cores(text: &str) -> Cores {
        text.parse().unwrap()
    }

    #[test]
    fn a_line_is_exact() {
        let curve = Curve::through(&watts(&["100W", "250W"]), cores("16"), false).unwrap();
        let at = |millicores: u64| curve.power(millicores * WHOLE, true) / FEMTO;
        assert_eq!([0, 8000, 16_000, 99_000].map(at), [100_000_000, 175_000_000, 250_000_000, 250_000_000]);
        assert_eq!(curve.line(), Some((100_000_000 * FEMTO, 937_500_000)));
    }

    #[test]
    fn an_empty_node_may_be_off() {
        let curve = Curve::through(&watts(&["100W", "250W"]), cores("16"), true).unwrap();
        assert_eq!((curve.power(0, false), curve.power(0, true) / FEMTO), (0, 100_000_000));
        assert_eq!(curve.line(), None);
    }

    #[test]
    fn points_are_met() {
        let points =
            ["86W", "89.4W", "92.6W", "96W", "99.5W", "102W", "106W", "108W", "112W", "114W", "117W"];
        let curve = Curve::through(&watts(&points), cores("2"), false).unwrap();
        for (load, power) in (0..).step_by(200).zip(watts(&points)) {
            let power = u64::try_from(power.as_micros()).unwrap();
            assert!(curve.power(load * WHOLE, true).abs_diff(power * FEMTO) < FEMTO, "{load}");
        }
        assert_eq!(curve.power(100 * WHOLE, true) / FEMTO, 87_700_000);
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        let refused = |points: &[&str], cpu| Curve::through(&watts(points), cores(cpu), false).is_none();
        assert!(refused(&["100W"], "1") && refused(&["100W", "99W"], "1"));
        assert!(
            refused(&["-1W", "99W"], "1") && refused(&["1W", "10.1kW"], "1") && refused(&["1W", "2W"], "0")
        );
    }

    proptest! {
        #[test]
        fn it_never_falls(
            rises in proptest::collection::vec(0i64..50_000_000, 2..13),
            cpu in 1i64..64_000,
            loads in proptest::collection::vec(0u64..700_000_000, 2),
        ) {
            let mut power = 0;
            let points: Vec<Watts> =
                rises.iter().map(|rise| { power += rise; Watts::from_micros(power) }).collect();
            let curve = Curve::through(&points, Cores::from_micros(cpu * 1000), false).unwrap();
            let (low, high) = (loads[0].min(loads[1]), loads[0].max(loads[1]));
            // Slopes are rounded, by less than half a femtowatt per unit of load.
            prop_assert!(curve.power(low, true) <= curve.power(high, true) + curve.full());
            prop_assert!(curve.power(high, true).abs_diff(curve.power(low, true)) <= u64::try_from(power).unwrap() * FEMTO + curve.full());
        }
    }
}
