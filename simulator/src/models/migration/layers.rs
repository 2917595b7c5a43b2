//! What a node lacks of an image: layers that are there already, of whatever image, are not fetched again.

use std::collections::BTreeSet;

use sterna_policies::quantity::{Bytes, Millis};

use super::path::Path;

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layer {
    /// What tells it from every other.
    pub digest: String,
    /// What crosses the link for it.
    pub size: Bytes,
}

/// The layers that a node keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    digests: BTreeSet<String>,
}

/// As many layers are fetched at one time: Docker's own number.
pub const ABREAST: usize = 3;

impl Cache {
    /// Keeps the layers of an image.
    pub fn keep(&mut self, image: &[Layer]) {
        self.digests.extend(image.iter().map(|layer| layer.digest.clone()));
    }

    /// The layers of an image that are not there, each once, in the order of the image.
    pub fn missing<'i>(&self, image: &'i [Layer]) -> Vec<&'i Layer> {
        let mut seen = BTreeSet::new();
        image
            .iter()
            .filter(|layer| !self.digests.contains(&layer.digest) && seen.insert(&layer.digest))
            .collect()
    }
}

/// What they come to.
pub fn size(layers: &[&Layer]) -> Bytes {
    Bytes(layers.iter().fold(0, |sum, layer| layer.size.0.saturating_add(sum)))
}

/// How long it takes to fetch layers, some at a time, in their order: they share the link evenly, and the next begins when one is
/// there.
pub fn takes(layers: &[&Layer], path: &Path, abreast: usize) -> Millis {
    let alone = Path { each: Millis::ZERO, ..*path };
    let mut waiting = layers.iter().map(|layer| layer.size);
    // What is left of those that are being fetched; opening the transfer comes first.
    let mut open: Vec<(Millis, Bytes)> = Vec::new();
    let mut now = Millis::ZERO;
    loop {
        while open.len() < abreast.max(1)
            && let Some(size) = waiting.next()
        {
            open.push((now.saturating_add(path.each), size));
        }
        if open.is_empty() {
            return now;
        }
        let flowing = open.iter().filter(|(from, _)| *from <= now).count();
        let opens = open.iter().map(|(from, _)| *from).filter(|from| *from > now).min();
        let Some(least) = open.iter().filter(|(from, _)| *from <= now).map(|(_, left)| *left).min() else {
            now = opens.unwrap_or(now);
            continue;
        };
        let sharing = u32::try_from(flowing).unwrap_or(u32::MAX).saturating_mul(path.sharing.max(1));
        let shared = Path { sharing, ..alone };
        let ends = now.saturating_add(shared.takes(least));
        // Whoever opens meanwhile makes the others slower from then on.
        let next = opens.map_or(ends, |opens| opens.min(ends));
        let sent = if next == ends { least } else { shared.carries(next.saturating_sub(now)) };
        for (from, left) in &mut open {
            if *from <= now {
                left.0 = left.0.saturating_sub(sent.0);
            }
        }
        open.retain(|(from, left)| *from > now || left.0 > 0);
        now = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, mib: u64) -> Layer {
        Layer { digest: digest.into(), size: Bytes::from_mib(mib) }
    }

    #[test]
    fn shared_layers_are_free() {
        let (base, app, other) = (layer("base", 80), layer("app", 20), layer("other", 5));
        let mut cache = Cache::default();
        let image = [base.clone(), app.clone(), app.clone()];
        assert_eq!(
            size(&cache.missing(&image)),
            Bytes::from_mib(100),
            "a layer that stands in it twice counts once"
        );
        cache.keep(&[base.clone(), other]);
        assert_eq!(cache.missing(&image), [&app]);
        cache.keep(&image);
        assert_eq!(size(&cache.missing(&image)), Bytes::ZERO);
        assert_eq!(takes(&[], &Path::alone("1MiB/s".parse().unwrap()), ABREAST), Millis::ZERO);
    }

    #[test]
    fn the_link_is_shared_and_round_trips_overlap() {
        let layers: Vec<Layer> = (0..6).map(|n| layer(&n.to_string(), 10)).collect();
        let all: Vec<&Layer> = layers.iter().collect();
        let path = Path { each: "100ms".parse().unwrap(), ..Path::alone("10MiB/s".parse().unwrap()) };
        let of = |layers: &[&Layer], abreast| takes(layers, &path, abreast).as_f64().round();
        // 60 MiB at 10 MiB/s, and two rounds of opening three at a time.
        assert_eq!([of(&all, ABREAST), of(&all, 1), of(&all, 6)], [6200.0, 6600.0, 6100.0]);
        // A small one makes room early: the link stays busy.
        let mixed = [layer("s", 1), layer("m", 20), layer("l", 30), layer("n", 9)];
        let mixed: Vec<&Layer> = mixed.iter().collect();
        assert_eq!(of(&mixed, ABREAST), 6100.0);
    }

    #[test]
    fn more_at_a_time_is_never_slower() {
        let sizes = [3, 50, 1, 1, 70, 20, 5];
        let layers: Vec<Layer> =
            sizes.iter().enumerate().map(|(n, mib)| layer(&n.to_string(), *mib)).collect();
        let all: Vec<&Layer> = layers.iter().collect();
        let path = Path { each: "40ms".parse().unwrap(), ..Path::alone("25MiB/s".parse().unwrap()) };
        let times: Vec<f64> = (1..=7).map(|abreast| takes(&all, &path, abreast).as_f64()).collect();
        assert!(times.windows(2).all(|pair| pair[1] < pair[0] + 0.01), "{times:?}");
        assert!(times.iter().all(|time| *time > 6000.0), "{times:?}");
    }
}
