//! How fast it is cooled: fast where little happens, slowly where much does.
//!
//! A short run with evenly falling logarithms of temperature shows at which temperatures the value falls. At constant thermodynamic
//! speed the time per e-fold of temperature goes with the root of the heat capacity (Salamon, Nulton, Harland, Pedersen, Ruppeiner,
//! Liao: Simulated annealing with constant thermodynamic speed, Computer Physics Communications 49, 1988); the long run goes half
//! the way from evenly to that.

/// How many parts of the way are told apart.
const PARTS: usize = 48;
/// Every part gets at least this share of the mean, because a short run does not see everything.
const LEAST: f64 = 0.2;
/// The power of the heat capacity; a half would be constant speed, nothing evenly.
const POWER: f64 = 0.25;

/// How cold it is at each part of the way, from 0 (hot) to 1 (cold).
#[derive(Debug, Clone)]
pub struct Schedule {
    hot: f64,
    /// E-folds from hot to cold.
    folds: f64,
    /// What was seen at each part: how often, and the sum of values.
    seen: Vec<(f64, f64)>,
    /// The share of time that has gone by when each part begins.
    begins: Vec<f64>,
    adapted: bool,
}

impl Schedule {
    /// From one temperature to another, evenly.
    pub(super) fn new(hot: f64, cold: f64) -> Self {
        let begins = (0..=PARTS).map(|part| part as f64 / PARTS as f64).collect();
        Self { hot, folds: (hot / cold).ln().max(0.0), seen: vec![(0.0, 0.0); PARTS], begins, adapted: false }
    }

    /// How much of the way is done after a share of the time.
    fn way(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        let part = self.begins.partition_point(|begin| *begin <= share).clamp(1, PARTS) - 1;
        let (begin, end) = (self.begins[part], self.begins[part + 1]);
        let within = if end > begin { (share - begin) / (end - begin) } else { 0.0 };
        (part as f64 + within) / PARTS as f64
    }

    /// The temperature after a share of the time.
    pub(super) fn temperature(&self, share: f64) -> f64 {
        self.hot * (-self.folds * self.way(share)).exp()
    }

    /// What the objective was worth after a share of the time.
    pub(super) fn see(&mut self, share: f64, value: i64) {
        let part = ((self.way(share) * PARTS as f64) as usize).min(PARTS - 1);
        self.seen[part].0 += 1.0;
        self.seen[part].1 += value as f64;
    }

    /// Shares the time out anew, by what was seen; only once.
    pub(super) fn adapt(&mut self) {
        if std::mem::replace(&mut self.adapted, true) {
            return;
        }
        let means: Vec<(f64, f64)> = self
            .seen
            .iter()
            .enumerate()
            .filter(|(_, (count, _))| *count > 0.0)
            .map(|(part, (count, sum))| (part as f64, sum / count))
            .collect();
        if means.len() < 3 {
            return;
        }
        let at = |part: f64| {
            let next = means.partition_point(|(known, _)| *known < part).clamp(1, means.len() - 1);
            let ((a, x), (b, y)) = (means[next - 1], means[next]);
            x + (y - x) * ((part - a) / (b - a)).clamp(0.0, 1.0)
        };
        let fold = self.folds / PARTS as f64;
        let mut weights: Vec<f64> = (0..PARTS)
            .map(|part| {
                let part = part as f64;
                let falls = (at(part - 1.0) - at(part + 1.0)).max(0.0) / (2.0 * fold);
                let temperature = self.hot * (-fold * (part + 0.5)).exp();
                (falls / temperature).powf(POWER)
            })
            .collect();
        let least = LEAST * weights.iter().sum::<f64>() / PARTS as f64;
        for weight in &mut weights {
            *weight = weight.max(least);
        }
        let all: f64 = weights.iter().sum();
        if !(all > 0.0 && all.is_finite()) {
            return;
        }
        let mut gone = 0.0;
        for (begin, weight) in self.begins[1..].iter_mut().zip(&weights) {
            gone += weight / all;
            *begin = gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_cools_slowly_where_the_value_fell() {
        let mut schedule = Schedule::new(1000.0, 1.0);
        assert!((schedule.temperature(0.5) - 1000.0_f64.sqrt()).abs() < 1e-6);
        for step in 0..1000 {
            let share = f64::from(step) / 1000.0;
            // All of it in the colder half.
            schedule.see(share, if share < 0.5 { 100_000 } else { 200_000 - (200_000.0 * share) as i64 });
        }
        schedule.adapt();
        assert!(schedule.temperature(0.5) < 1000.0_f64.sqrt() / 2.0);
        assert!((schedule.temperature(0.0) - 1000.0).abs() < 1e-6);
        assert!((schedule.temperature(1.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn having_seen_nothing_it_cools_evenly() {
        let mut schedule = Schedule::new(100.0, 1.0);
        schedule.adapt();
        assert!((schedule.temperature(0.5) - 10.0).abs() < 1e-6);
    }
}
