//! Applications: a front for users, caches beside it, logic behind it, and databases.

use fastrand::Rng;

use super::sites::Sites;

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It answers users.
    Front,
    /// It stands beside fronts.
    Cache,
    /// Fronts ask it.
    Logic,
    /// Logic asks it.
    Database,
}

/// Replicas of one thing.
#[derive(Debug, Clone)]
pub struct Service {
    /// What it does.
    pub kind: Kind,
    /// How many there are.
    pub replicas: usize,
    /// Thousandths of processors of each.
    pub cpu: i64,
    /// MiB of each.
    pub memory: i64,
    /// Mbit/s of each.
    pub bandwidth: i64,
    /// Requests per second of each.
    pub rate: i64,
}

/// Services that work together.
#[derive(Debug, Clone)]
pub struct Application {
    /// Where most of its users are.
    pub metro: usize,
    /// Where the others are, in equal shares.
    pub elsewhere: Vec<usize>,
    /// Whether its databases have to stay in their region.
    pub resident: bool,
    /// Whether it has to survive the loss of a site.
    pub critical: bool,
    /// Whether it will have gone when the instance begins.
    pub departs: bool,
    /// Kilobytes of a request with its answer.
    pub kilobytes: i64,
    /// Its services; the front is first.
    pub services: Vec<Service>,
}

/// The share of applications that have gone when the instance begins, in percent.
const DEPARTS: u32 = 15;
/// The share whose data may not leave their region.
const RESIDENT: u32 = 25;
/// The share that has to survive the loss of a site.
const CRITICAL: u32 = 30;
/// The share that sends pictures and films.
const MEDIA: u32 = 10;
/// Requests that a processor answers in a second.
const ANSWERS: i64 = 20;
/// Thousandths of processors, and how many services of a hundred ask for so many: most are small, as are most virtual machines in
/// Azure (Cortez and others: Resource Central, SOSP 2017).
const SIZES: [(i64, u32); 7] =
    [(250, 18), (500, 24), (1000, 24), (2000, 17), (4000, 10), (8000, 5), (12_000, 2)];
/// Replicas, and how many services of a hundred have so many.
const REPLICAS: [(usize, u32); 5] = [(1, 50), (2, 25), (3, 14), (4, 7), (6, 4)];

fn chance(random: &mut Rng, percent: u32) -> bool {
    random.u32(0..100) < percent
}

/// One of some, by how many of a hundred are so.
fn any<T: Copy>(of: &[(T, u32)], random: &mut Rng) -> T {
    let mut left = random.u32(0..of.iter().map(|(_, share)| share).sum());
    for (value, share) in of {
        if left < *share {
            return *value;
        }
        left -= share;
    }
    of[0].0
}

/// A metropolis, the first ones of the list more often than others.
pub fn metro(sites: &Sites, random: &mut Rng) -> usize {
    let count = sites.metros.len();
    sites.metros[random.usize(0..count).min(random.usize(0..count))]
}

/// Applications with so many items that stay.
pub fn applications(items: usize, sites: &Sites, random: &mut Rng) -> Vec<Application> {
    // Where users live is not in order of the list.
    let mut all = Vec::new();
    let mut left = items;
    while left > 0 {
        let mut one = application(sites, random);
        let count = |one: &Application| one.services.iter().map(|service| service.replicas).sum::<usize>();
        if !one.departs {
            if count(&one) > left {
                one.services.truncate(1);
                one.services[0].replicas = 1;
                one.critical = false;
            }
            left -= count(&one);
        }
        all.push(one);
    }
    all
}

fn application(sites: &Sites, random: &mut Rng) -> Application {
    let critical = chance(random, CRITICAL);
    let kilobytes = if chance(random, MEDIA) { 500 } else { random.i64(5..=40) };
    let least = if critical { 2 } else { 1 };
    let fronts = any(&REPLICAS, random).max(least);
    let service = |kind: Kind, replicas: usize, random: &mut Rng| {
        let cpu = any(&SIZES, random) * random.i64(80..=120) / 100;
        let mib_of_cpu = match kind {
            Kind::Front | Kind::Logic => random.i64(1000..=3000),
            Kind::Cache | Kind::Database => random.i64(5000..=10_000),
        };
        Service { kind, replicas, cpu, memory: cpu * mib_of_cpu / 1000, bandwidth: 0, rate: 0 }
    };
    let mut services = vec![service(Kind::Front, fronts, random)];
    if chance(random, 60) {
        services.push(service(Kind::Cache, least, random));
    }
    for _ in 0..any(&[(0, 30), (1, 35), (2, 20), (3, 15)], random) {
        let replicas = any(&REPLICAS, random).min(4);
        services.push(service(Kind::Logic, replicas, random));
    }
    if chance(random, 70) {
        let replicas = any(&[(1, 40), (2, 35), (3, 25)], random).max(least);
        services.push(service(Kind::Database, replicas, random));
    }
    Application {
        metro: metro(sites, random),
        elsewhere: (0..random.usize(0..4)).map(|_| metro(sites, random)).collect(),
        resident: chance(random, RESIDENT),
        critical,
        departs: chance(random, DEPARTS),
        kilobytes,
        services,
    }
}

/// Makes all services larger or smaller, so that together they ask for so much of `capacity`, and gives them what goes with it.
pub fn scale(applications: &mut [Application], cpu: i64, largest: i64) {
    let asked: i64 = applications
        .iter()
        .filter(|one| !one.departs)
        .flat_map(|one| &one.services)
        .map(|service| service.cpu * service.replicas as i64)
        .sum();
    for one in applications {
        let kilobytes = one.kilobytes;
        let mut requests = 0;
        for service in &mut one.services {
            let scaled = (service.cpu * cpu / asked.max(1)).clamp(50, largest);
            service.memory = service.memory * scaled / service.cpu.max(1);
            service.cpu = scaled;
            // Behind the front each answers its share of what users ask.
            if service.kind == Kind::Front {
                requests = (scaled * ANSWERS / 1000).max(1) * service.replicas as i64;
            }
            service.rate = (requests / service.replicas as i64).max(1);
            service.bandwidth = (service.rate * kilobytes * 8 / 1000).max(1);
        }
    }
}
