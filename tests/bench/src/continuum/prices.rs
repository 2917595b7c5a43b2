//! What things cost and how far apart they are. Each number says where it is from; what is assumed says so.
//!
//! Money is in millionths of a US dollar, for an hour where not said otherwise.

/// A region of a public cloud, with everything around it.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    /// Its city.
    pub name: &'static str,
    /// What a node of 64 processors and 256 GiB costs: Azure's D64s_v5 on demand in the region that is nearest, 2026-06-18, from
    /// Azure/karpenter-provider-azure at 352646f.
    pub node: i64,
    /// A megabyte that goes to another region: AWS from the region that is nearest, from skyplane-project/skyplane at 4602d9c.
    pub egress: i64,
    /// A kilowatt-hour for a business; assumed, rounded.
    pub kilowatt_hour: i64,
}

/// The regions, in the order in which they are taken.
pub const REGIONS: [Region; 8] = [
    Region { name: "frankfurt", node: 3_680_000, egress: 20, kilowatt_hour: 220_000 },
    Region { name: "washington", node: 3_072_000, egress: 20, kilowatt_hour: 90_000 },
    Region { name: "london", node: 3_552_000, egress: 20, kilowatt_hour: 260_000 },
    Region { name: "tokyo", node: 3_968_000, egress: 90, kilowatt_hour: 180_000 },
    Region { name: "dallas", node: 3_686_000, egress: 20, kilowatt_hour: 80_000 },
    Region { name: "sao-paulo", node: 4_896_000, egress: 138, kilowatt_hour: 130_000 },
    Region { name: "mumbai", node: 3_232_000, egress: 86, kilowatt_hour: 110_000 },
    Region { name: "madrid", node: 3_424_000, egress: 20, kilowatt_hour: 140_000 },
];

/// Milliseconds there and back between them: IBM Cloud's table of the week that ended on 2026-08-16, from ibm-cloud-docs/vpc at
/// 3fdff6f; the larger where both directions differ.
pub const ROUND_TRIP: [[i64; 8]; 8] = [
    [0, 86, 13, 229, 124, 192, 121, 29],
    [86, 0, 76, 142, 32, 124, 219, 89],
    [13, 76, 0, 239, 113, 181, 120, 26],
    [229, 142, 239, 0, 145, 284, 132, 253],
    [124, 32, 113, 145, 0, 142, 249, 119],
    [192, 124, 181, 284, 142, 0, 343, 215],
    [121, 219, 120, 132, 249, 343, 0, 130],
    [29, 89, 26, 253, 119, 215, 130, 0],
];

/// Microseconds there and back for each kilometre: light in fibre takes 10, and the median of IBM's pairs is 1.66 times that.
pub const ROUND_TRIP_OF_KM: f64 = 16.6;
/// Microseconds there and back that two sites are apart at least: the median between zones in IBM's table.
pub const ROUND_TRIP_OF_SITES: i64 = 770;

/// A megabyte that goes to another site of the region: AWS from us-east-1 to us-east-2, from Skyplane, as above; zones of a
/// region cost the same.
pub const EGRESS_OF_SITES: i64 = 10;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Thousandths of processors.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Mbit/s.
    pub bandwidth: i64,
    /// What each processor costs by those of the region's cloud, in percent.
    pub premium: i64,
    /// What it costs beside that.
    pub fixed: i64,
    /// Milliwatts when idle, for which somebody pays beside the price.
    pub idle: i64,
    /// Milliwatts more for each processor that is busy.
    pub busy: i64,
    /// What the building takes beside the machines, in percent of what they do.
    pub overhead: i64,
}

/// Power usage effectiveness of 1.56: Uptime Institute, Global Data Center Survey 2024.
const BUILDING: i64 = 156;

/// A node in a public cloud: 64 processors, 256 GiB; 25 Gbit/s as AWS's m6i.16xlarge (aws/karpenter-provider-aws at 1d92708). Its
/// power is in its price.
pub const CLOUD: Shape = Shape {
    cpu: 64_000,
    memory: 262_144,
    bandwidth: 25_000,
    premium: 100,
    fixed: 0,
    idle: 0,
    busy: 0,
    overhead: 100,
};

/// Half of it.
pub const SMALL_CLOUD: Shape = Shape { cpu: 32_000, memory: 131_072, bandwidth: 12_500, ..CLOUD };

/// A server in a regional data centre. One of one chip has 64 cores with 128 threads, takes 69 W when idle and 318 W when busy: the
/// medians of 123 such results of 2022 to 2025 in SPECpower_ssj2008, from cloud-carbon-footprint/ccf-coefficients at b0032d9. A tenth
/// above the cloud's price is assumed.
pub const REGIONAL: Shape = Shape {
    cpu: 64_000,
    memory: 262_144,
    bandwidth: 10_000,
    premium: 110,
    fixed: 0,
    idle: 69_300,
    busy: 3_900,
    overhead: BUILDING,
};

/// A server at the edge: a quarter of that. A third above the cloud's price is assumed.
pub const EDGE: Shape = Shape {
    cpu: 16_000,
    memory: 65_536,
    bandwidth: 1_000,
    premium: 133,
    fixed: 0,
    idle: 17_300,
    busy: 3_900,
    overhead: BUILDING,
};

/// A gateway or small computer: a Raspberry Pi 4 takes 2.7 W when idle and 6.4 W when busy (Jeff Geerling, pidramble.com). Two cents an
/// hour for having and caring for it are assumed.
pub const DEVICE: Shape = Shape {
    cpu: 4_000,
    memory: 8_192,
    bandwidth: 100,
    premium: 0,
    fixed: 20_000,
    idle: 2_700,
    busy: 925,
    overhead: 100,
};

/// What a request earns; assumed.
pub const EARNED: i64 = 500;

/// What a request earns less for each millisecond that its answer is late, in thousandths: a hundred cost a hundredth of sales
/// (Greg Linden on Amazon, Make Data Useful, 2006).
pub const MILLISECOND: i64 = EARNED / 10;

/// Hours after which what a move costs has to be earned back; assumed.
pub const HORIZON: i64 = 24;

/// Milliseconds that a service is down for a move, and for each MiB that is sent then: medians of checkpoint, transfer, creation
/// and restoration by the stop-and-copy of hpcclab/UMS at 1cc864b, 0 to 1024 MiB.
pub const DOWN: (i64, i64) = (5_460, 11);
/// The share of memory that is changed while the rest is sent ahead, in percent; assumed.
pub const CHANGED: i64 = 10;

/// Use of processors above which a node answers late, in percent; assumed.
pub const BUSY: i64 = 80;
/// What a thousandth of a processor beyond costs: twice what it does in the cloud, at D64s_v5's price in eastus; assumed. If it cost
/// no more than another node, nobody would keep nodes from being busy.
pub const BEYOND: i64 = 96;

impl Shape {
    /// What a node costs that is on.
    pub fn open(&self, region: &Region) -> i64 {
        let node = region.node * self.cpu / CLOUD.cpu * self.premium / 100;
        node + self.fixed + self.energy(region, self.idle)
    }

    /// What so many milliwatts cost.
    pub fn energy(&self, region: &Region, milliwatts: i64) -> i64 {
        milliwatts * self.overhead / 100 * region.kilowatt_hour / 1_000_000
    }
}
