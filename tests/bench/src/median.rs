//! The middle of several runs.

/// The median; the mean of the middle two for an even count, and `None` for none.
pub fn of(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How far a prediction is off, as a part of what was measured; `None` where nothing was.
pub fn relative_error(predicted: f64, measured: f64) -> Option<f64> {
    (measured > 0.0).then(|| (predicted - measured).abs() / measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(of([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(of([]), None);
    }

    #[test]
    fn errors_are_parts_of_what_was_measured() {
        assert_eq!(relative_error(120.0, 100.0), Some(0.2));
        assert_eq!(relative_error(80.0, 100.0), Some(0.2));
        assert_eq!(relative_error(80.0, 0.0), None);
    }
}
