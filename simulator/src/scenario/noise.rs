//! Noise: how far what is asked for strays from what the scenario says, drawn anew for each seed.

use std::collections::BTreeSet;

use sterna_policies::quantity::Percent;

use super::{Scenario, Shape, Track};
use crate::clock::SimTime;
use crate::stream::{Purpose, Stream};

/// A hundred percent in millionths of a percent.
const WHOLE: i128 = 100_000_000;

/// By how much the request rates of each user group stray, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    /// Up to this share more or less, each as likely as any other.
    pub rate: Percent,
    /// A group strays by the same share for so long, in nanoseconds; not 0.
    pub every: u64,
}

impl Noise {
    /// Replaces the rates of a scenario by those that a seed makes of them.
    pub(super) fn stray(self, scenario: &mut Scenario, seed: u64) {
        let rates = scenario.continuum.users.iter().flat_map(|(users, about)| {
            about.rates.iter().map(|(service, rate)| ((users.clone(), service.clone()), rate.as_micros()))
        });
        let still = |rate: i64| Track::new(Shape::Step, vec![(SimTime::START, rate)]);
        let mut tracks: std::collections::BTreeMap<_, _> =
            rates.filter_map(|(key, rate)| Some((key, still(rate)?))).collect();
        tracks.extend(std::mem::take(&mut scenario.tracks.rate));
        // Bursts are laid over all else.
        tracks.extend(std::mem::take(&mut scenario.drawn.rates));
        let (step, end) = (scenario.step, scenario.duration);
        let turns = (0..).map(|turn| SimTime::from_nanos(self.every.saturating_mul(turn)));
        let turns: Vec<SimTime> = turns.take_while(|at| *at < end).collect();
        for ((users, service), track) in tracks {
            let mut times: BTreeSet<SimTime> = track.changes(step, end).into_iter().collect();
            times.extend(&turns);
            let stream = Stream::named(seed, Purpose::Noise, users.as_str());
            let points = times.into_iter().map(|at| {
                let turn = at.as_nanos() / self.every;
                (at, self.strayed(track.at(at, step), stream.draw(turn)))
            });
            if let Some(track) = Track::new(Shape::Step, points.collect()) {
                scenario.tracks.rate.insert((users, service), track);
            }
        }
    }

    /// A rate that strays as a number says that was drawn from all of 64 bits.
    fn strayed(self, rate: i64, drawn: u64) -> i64 {
        let most = i128::from(self.rate.as_micros()).min(WHOLE);
        // From all less to all more.
        let share = ((i128::from(drawn) * (2 * most + 1)) >> 64) - most;
        i64::try_from(i128::from(rate) * (WHOLE + share) / WHOLE).unwrap_or(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: Noise = Noise { rate: Percent::from_micros(25_000_000), every: 3_600_000_000_000 };

    #[test]
    fn it_strays_by_no_more_than_it_may_and_by_nothing_on_average() {
        assert_eq!([0, u64::MAX].map(|drawn| NOISE.strayed(1_000_000, drawn)), [750_000, 1_250_000]);
        let stream = Stream::named(7, Purpose::Noise, "commuters");
        let sum: i64 = (0..10_000).map(|turn| NOISE.strayed(1_000_000, stream.draw(turn))).sum();
        assert!((9_960_000_000..10_040_000_000).contains(&sum), "{sum}");
    }

    #[test]
    fn everybody_draws_alone() {
        let of = |seed, name: &str, turn| Stream::named(seed, Purpose::Noise, name).draw(turn);
        let all = [of(1, "a", 0), of(1, "b", 0), of(2, "a", 0), of(1, "a", 1)];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    }
}
