//! Which policies nothing beats: those that no other is at least as good as in everything, and better than in something.

/// For each point the first of those that nothing beats that is better; `None` for those that nothing beats. Less is better;
/// points that are alike do not beat each other.
pub fn beaten_by(points: &[Vec<i128>]) -> Vec<Option<usize>> {
    let beats =
        |one: &[i128], other: &[i128]| one != other && one.iter().zip(other).all(|(one, other)| one <= other);
    // Whoever beats a point comes before it in this order, and is beaten by nobody that is not found by then.
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|at| (&points[*at], *at));
    let mut front: Vec<usize> = Vec::new();
    let mut beaten = vec![None; points.len()];
    for at in order {
        let by = front.iter().copied().filter(|one| beats(&points[*one], &points[at])).min();
        beaten[at] = by;
        if by.is_none() {
            front.push(at);
        }
    }
    beaten
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_front_is_what_nothing_beats() {
        let points = [[1, 5], [2, 2], [2, 2], [3, 3], [5, 1], [5, 2]].map(|point| point.to_vec());
        assert_eq!(beaten_by(&points), [None, None, None, Some(1), None, Some(1)]);
        assert_eq!(beaten_by(&[]), []);
    }

    proptest! {
        #[test]
        fn it_is_that_of_all_pairs(points in prop::collection::vec(prop::collection::vec(0i128..6, 3), 0..30)) {
            let found = beaten_by(&points);
            let beats = |one: &Vec<i128>, other: &Vec<i128>| {
                one != other && one.iter().zip(other).all(|(one, other)| one <= other)
            };
            for (at, by) in found.iter().enumerate() {
                prop_assert_eq!(by.is_none(), !points.iter().any(|one| beats(one, &points[at])));
                if let Some(by) = by {
                    prop_assert!(beats(&points[*by], &points[at]) && found[*by].is_none());
                }
            }
        }
    }
}
