//! consolidation-24h: the fleet by which simulators are compared, as it is shipped.
//!
//! Nodes of 16 cores that draw 100 W to 250 W along a straight line; four services of 2 cores and 4 GiB for each; a day of 288
//! ticks of 300 s; seven moves per tick and 1000 nodes from the second tick on, over 10 Gbit/s. A service that is drawn goes to the
//! fullest node that has room. Nothing else is read from a file: what services use, and which move, is drawn by number. Four
//! sites have different prices and carbon intensities, a quarter of a day apart, so that money and carbon are reckoned too.

use super::Fleet;
use super::described::{self, Described};

const FILE: &str = include_str!("../../scenarios/consolidation-24h/scenario.toml");

/// The fleet, with so many nodes; at least one.
#[expect(clippy::expect_used, reason = "of no more nodes than there may be")]
pub fn consolidation(nodes: u32) -> Fleet {
    let described = shipped();
    let nodes = nodes.clamp(1, described.most_nodes());
    described.fleet(nodes).expect("a fleet of a size that can be had")
}

/// The file that is shipped.
#[expect(clippy::expect_used, reason = "it is a part of this program, and every test of a fleet reads it")]
fn shipped() -> Described {
    described::load("consolidation-24h/scenario.toml", FILE).expect("the shipped scenario is sound").value
}
