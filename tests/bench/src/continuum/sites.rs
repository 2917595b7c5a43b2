//! Regions, sites, racks and nodes.

use fastrand::Rng;

use super::prices::{
    CLOUD, DEVICE, EDGE, REGIONAL, REGIONS, ROUND_TRIP, ROUND_TRIP_OF_KM, ROUND_TRIP_OF_SITES, SMALL_CLOUD,
    Shape,
};

/// What kind of site it is, from the users inwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Gateways and small computers.
    Device,
    /// A few servers near the users.
    Edge,
    /// A small data centre.
    Regional,
    /// A public cloud's data centre.
    Cloud,
}

/// Nodes at one place.
#[derive(Debug, Clone)]
pub struct Site {
    /// What it is called.
    pub name: String,
    /// Its region.
    pub region: usize,
    /// What kind it is.
    pub tier: Tier,
    /// Kilometres east and north of the region's cloud.
    place: (i64, i64),
    /// Its first node and how many there are.
    pub nodes: std::ops::Range<usize>,
}

/// A node.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its site.
    pub site: usize,
    /// Its rack, counted through all sites.
    pub rack: usize,
    /// What it has.
    pub shape: Shape,
}

/// All sites and nodes.
#[derive(Debug, Default)]
pub struct Sites {
    /// How many regions there are.
    pub regions: usize,
    /// The sites.
    pub sites: Vec<Site>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Sites around which users live.
    pub metros: Vec<usize>,
}

/// Nodes for which there is one region.
const NODES_OF_REGION: usize = 25;
/// How far from a region's cloud its sites are at most, in kilometres to each side.
const REACH: i64 = 800;
/// Tiers with their share of the nodes in percent, nodes of a site and nodes of a rack. The cloud gets what is left.
const TIERS: [(Tier, usize, usize, usize); 4] =
    [(Tier::Device, 10, 2, 2), (Tier::Edge, 20, 4, 4), (Tier::Regional, 25, 8, 8), (Tier::Cloud, 45, 64, 16)];

impl Sites {
    /// So many nodes.
    pub fn new(nodes: usize, random: &mut Rng) -> Self {
        let regions = (nodes / NODES_OF_REGION).clamp(2.min(nodes), REGIONS.len());
        let mut all = Self { regions, ..Self::default() };
        let mut racks = 0;
        for region in 0..regions {
            let of_region = nodes / regions + usize::from(region < nodes % regions);
            let mut left = of_region;
            for (tier, share, of_site, of_rack) in TIERS {
                let mut of_tier =
                    if tier == Tier::Cloud { left } else { (of_region * share / 100).max(1).min(left / 2) };
                left -= of_tier;
                let mut number = 0;
                while of_tier > 0 {
                    let here = of_tier.min(of_site);
                    of_tier -= here;
                    all.site(region, tier, number, here, of_rack, &mut racks, random);
                    number += 1;
                }
            }
        }
        let near = |site: &usize| matches!(all.sites[*site].tier, Tier::Edge | Tier::Regional);
        all.metros = (0..all.sites.len()).filter(near).collect();
        if all.metros.is_empty() {
            all.metros = (0..all.sites.len()).collect();
        }
        all
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a site is made of")]
    fn site(
        &mut self,
        region: usize,
        tier: Tier,
        number: usize,
        nodes: usize,
        of_rack: usize,
        racks: &mut usize,
        random: &mut Rng,
    ) {
        let word = match tier {
            Tier::Device => "device",
            Tier::Edge => "edge",
            Tier::Regional => "regional",
            Tier::Cloud => "cloud",
        };
        // Zones of a cloud are near each other.
        let reach = if tier == Tier::Cloud { 30 } else { REACH };
        let first = self.nodes.len();
        for node in 0..nodes {
            let rack = *racks + node / of_rack;
            let shape = match tier {
                Tier::Device => DEVICE,
                Tier::Edge => EDGE,
                Tier::Regional => REGIONAL,
                Tier::Cloud if (node / of_rack) % 2 == 1 => SMALL_CLOUD,
                Tier::Cloud => CLOUD,
            };
            self.nodes.push(Node { site: self.sites.len(), rack, shape });
        }
        *racks += nodes.div_ceil(of_rack);
        self.sites.push(Site {
            name: format!("{}-{word}-{number}", REGIONS[region].name),
            region,
            tier,
            place: (random.i64(-reach..=reach), random.i64(-reach..=reach)),
            nodes: first..first + nodes,
        });
    }

    /// Microseconds there and back between two sites.
    pub fn round_trip(&self, one: usize, other: usize) -> i64 {
        if one == other {
            return 0;
        }
        let (a, b) = (&self.sites[one], &self.sites[other]);
        let between = ROUND_TRIP[a.region][b.region] * 1000;
        let kilometres = if a.region == b.region {
            away((a.place.0 - b.place.0, a.place.1 - b.place.1))
        } else {
            away(a.place) + away(b.place)
        };
        between + ROUND_TRIP_OF_SITES + (kilometres * ROUND_TRIP_OF_KM) as i64
    }

    /// All sites, the nearest first.
    pub fn nearest(&self, to: usize) -> Vec<usize> {
        let mut sites: Vec<usize> = (0..self.sites.len()).collect();
        sites.sort_by_key(|site| (self.round_trip(to, *site), *site));
        sites
    }
}

fn away((east, north): (i64, i64)) -> f64 {
    ((east * east + north * north) as f64).sqrt()
}
