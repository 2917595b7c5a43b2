//! Changes to genuine messages, without guidance.

use fastrand::Rng;

/// Numbers at which things change.
const TELLING: [&[u8]; 8] = [
    b"18446744073709551615",
    b"-1",
    b"1e999",
    &[0xff; 8],
    &[0; 4],
    &[0xff, 0xff, 0xff, 0x7f],
    b"\"\\ud800\"",
    b"../",
];

/// A seed with some changes.
pub fn mutate(random: &mut Rng, seeds: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let pick = |random: &mut Rng| random.choice(seeds).cloned().unwrap_or_default();
    let mut input = pick(random);
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=input.len());
        let to = random.usize(at..=input.len());
        match random.u8(0..8) {
            0 => drop(input.drain(at..to)),
            1 => input.insert(at, random.u8(..)),
            2 => drop(input.splice(at..at, random.choice(TELLING).unwrap_or_default().iter().copied())),
            3 => {
                let part = input[at..to].to_vec();
                drop(input.splice(at..at, part));
            }
            4 => {
                let other = pick(random);
                let from = random.usize(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            5 => input.truncate(to),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.u8(0..8);
                }
            }
        }
    }
    input.truncate(longest);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_gives_others() {
        let seeds = [b"genuine".to_vec(), b"another one".to_vec()];
        let inputs = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..100).map(|_| mutate(&mut random, &seeds, 64)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|one| one.len() <= 64));
        let changed = inputs(1).iter().filter(|one| !seeds.contains(one)).count();
        assert!(changed > 80, "only {changed} of 100 were changed");
    }
}
