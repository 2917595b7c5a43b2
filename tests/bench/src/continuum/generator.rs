//! Instances: applications on sites between devices and clouds, priced in millionths of a dollar per hour.

use fastrand::Rng;
use sterna_core::assignment::model::{
    Bin, Dimension, Flow, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};
use sterna_core::checker::assignment::judge;

use super::applications::{Application, Kind, applications, scale};
use super::placement::{Replica, aged};
use super::prices::{BEYOND, BUSY, CHANGED, DOWN, EARNED, EGRESS_OF_SITES, HORIZON, MILLISECOND, REGIONS};
use super::sites::Sites;

/// The share of all processors that is asked for, in percent.
const ASKED: i64 = 50;
/// The largest service asks for so much of the largest node, in percent.
const LARGEST: i64 = 25;
/// The share of its users that is at an application's metropolis where others are elsewhere, in percent.
const AT_HOME: i64 = 70;
/// Kilobytes of a call between services at most.
const CALL: i64 = 20;
/// Services that ask for about as much share a row of what energy costs: thousandths of processors.
const STEP: i64 = 250;

/// What the terms of the objective are.
pub const TERMS: [&str; 7] =
    ["nodes", "user latency", "energy", "traffic", "moves", "moves by distance", "busy nodes"];

const SITE: Level = Level::Scope(0);
const RACK: Level = Level::Scope(1);
const REGION: Level = Level::Scope(2);

/// An instance with so many items on so many bins.
pub fn model(items: usize, bins: usize, seed: u64) -> Model {
    let mut random = Rng::with_seed(seed);
    let sites = Sites::new(bins, &mut random);
    let mut applications = applications(items, &sites, &mut random);
    let capacity: i64 = sites.nodes.iter().map(|node| node.shape.cpu).sum();
    let largest = sites.nodes.iter().map(|node| node.shape.cpu).max().unwrap_or(0) * LARGEST / 100;
    scale(&mut applications, capacity * ASKED / 100, largest);
    let replicas = aged(&sites, &mut applications, &mut random);
    let mut model = Model {
        dimensions: [("cpu", false), ("memory", true), ("bandwidth", false)]
            .map(|(name, transient)| Dimension { name: name.to_owned(), transient })
            .to_vec(),
        scopes: scopes(&sites),
        bins: bins_of(&sites),
        items: items_of(&sites, &applications, &replicas),
        ..Model::default()
    };
    rules(&mut model, &applications, &replicas);
    model.objectives = vec![Objective {
        name: "cost".to_owned(),
        terms: vec![
            Term::Open {
                cost: sites
                    .nodes
                    .iter()
                    .map(|node| node.shape.open(&REGIONS[sites.sites[node.site].region]))
                    .collect(),
            },
            latency(&sites, &applications, &replicas),
            energy(&sites, &replicas),
            traffic(&sites, &applications, &replicas),
            Term::ItemMove { cost: replicas.iter().map(moves).collect() },
            distances(&sites, &replicas),
            Term::Headroom {
                dimension: 0,
                level: sites.nodes.iter().map(|node| node.shape.cpu * BUSY / 100).collect(),
                weight: BEYOND,
            },
        ],
        ..Objective::default()
    }];
    model
}

fn scopes(sites: &Sites) -> Vec<Scope> {
    let scope = |name: &str, part: Vec<usize>| Scope {
        name: name.to_owned(),
        part: part.into_iter().map(|part| part as u32).collect(),
    };
    vec![
        scope("site", sites.nodes.iter().map(|node| node.site).collect()),
        scope("rack", sites.nodes.iter().map(|node| node.rack).collect()),
        scope("region", sites.nodes.iter().map(|node| sites.sites[node.site].region).collect()),
    ]
}

fn bins_of(sites: &Sites) -> Vec<Bin> {
    let nodes = sites.nodes.iter().enumerate();
    nodes
        .map(|(number, node)| {
            let site = &sites.sites[node.site];
            Bin {
                name: format!("{}/{}", site.name, number - site.nodes.start),
                capacity: vec![node.shape.cpu, node.shape.memory, node.shape.bandwidth],
            }
        })
        .collect()
}

fn items_of(sites: &Sites, applications: &[Application], replicas: &[Replica]) -> Vec<Item> {
    let region = |node: usize| sites.sites[sites.nodes[node].site].region;
    let of_region: Vec<Vec<u32>> = (0..sites.regions)
        .map(|one| {
            (0..sites.nodes.len()).filter(|node| region(*node) == one).map(|node| node as u32).collect()
        })
        .collect();
    let named = replicas.iter().enumerate();
    named
        .map(|(number, replica)| {
            let application = &applications[replica.application];
            let kind = application.services[replica.service].kind;
            let word = format!("{kind:?}").to_lowercase();
            let stays = application.resident && kind == Kind::Database;
            Item {
                name: format!("app-{}/{word}-{number}", replica.application),
                uses: vec![replica.cpu, replica.memory, replica.bandwidth],
                now: replica.node as u32,
                bins: stays.then(|| of_region[region(replica.node)].clone()),
            }
        })
        .collect()
}

/// The items of each service of each application, which stand one after the other.
fn services<'a>(
    applications: &'a [Application],
    replicas: &'a [Replica],
) -> impl Iterator<Item = (&'a Application, Vec<Vec<u32>>)> {
    let mut first = 0;
    replicas.chunk_by(|one, next| one.application == next.application).map(move |together| {
        let application = &applications[together[0].application];
        let mut of_service = vec![Vec::new(); application.services.len()];
        for (at, replica) in together.iter().enumerate() {
            of_service[replica.service].push((first + at) as u32);
        }
        first += together.len();
        (application, of_service)
    })
}

/// Rules that hold at first: where there was no room to place an application by them, they are not asked for.
fn rules(model: &mut Model, applications: &[Application], replicas: &[Replica]) {
    for (application, of_service) in services(applications, replicas) {
        let groups: Vec<u32> = of_service
            .iter()
            .map(|items| {
                model
                    .groups
                    .push(Group { name: model.items[items[0] as usize].name.clone(), items: items.clone() });
                model.groups.len() as u32 - 1
            })
            .collect();
        let of_kind = |kind: Kind| {
            application.services.iter().zip(&groups).filter(move |(service, _)| service.kind == kind)
        };
        for (service, group) in application.services.iter().zip(&groups) {
            if service.replicas < 2 {
                continue;
            }
            let level = if service.kind == Kind::Database { RACK } else { Level::Bin };
            model.rules.push(Rule::Conflict { group: *group, level, most: 1 });
            if application.critical && service.kind != Kind::Logic {
                model.rules.push(Rule::Spread { group: *group, level: SITE, least: 2 });
            }
        }
        for (_, cache) in of_kind(Kind::Cache) {
            for (_, front) in of_kind(Kind::Front) {
                model.rules.push(Rule::Dependency { group: *front, needs: *cache, level: SITE });
            }
        }
        for (_, database) in of_kind(Kind::Database) {
            for (_, logic) in of_kind(Kind::Logic) {
                model.rules.push(Rule::Dependency { group: *logic, needs: *database, level: REGION });
            }
        }
    }
    let broken = judge(model, &model.now()).rules;
    let mut broken = broken.iter();
    model.rules.retain(|_| broken.next() == Some(&0));
}

/// What users wait for fronts.
fn latency(sites: &Sites, applications: &[Application], replicas: &[Replica]) -> Term {
    // All but fronts have the first row.
    let mut table = vec![vec![0; sites.sites.len()]];
    let mut row = Vec::with_capacity(replicas.len());
    let mut known = std::collections::BTreeMap::new();
    for replica in replicas {
        let application = &applications[replica.application];
        if application.services[replica.service].kind != Kind::Front {
            row.push(0);
            continue;
        }
        let number = *known.entry((replica.application, replica.rate)).or_insert_with(|| {
            let home = if application.elsewhere.is_empty() { 100 } else { AT_HOME };
            let cost = |site: usize| {
                let away = |metro: usize| sites.round_trip(metro, site);
                let others: i64 = application.elsewhere.iter().map(|metro| away(*metro)).sum();
                let others = others / (application.elsewhere.len() as i64).max(1);
                let micros = (home * away(application.metro) + (100 - home) * others) / 100;
                replica.rate * 3600 * micros / 1000 * MILLISECOND / 1000
            };
            table.push((0..sites.sites.len()).map(cost).collect());
            table.len() as u32 - 1
        });
        row.push(number);
    }
    Term::Pair { level: SITE, row, table }
}

/// What processors take more when they work, where that is paid for beside the node.
fn energy(sites: &Sites, replicas: &[Replica]) -> Term {
    let rows = replicas.iter().map(step).max().unwrap_or(0);
    let cost = |row: i64| {
        let of_site = sites.sites.iter().map(|site| {
            let shape = &sites.nodes[site.nodes.start].shape;
            shape.energy(&REGIONS[site.region], shape.busy * row * STEP / 1000)
        });
        of_site.collect()
    };
    let row = replicas.iter().map(|replica| step(replica) as u32);
    Term::Pair { level: SITE, row: row.collect(), table: (0..=rows).map(cost).collect() }
}

fn step(replica: &Replica) -> i64 {
    (replica.cpu + STEP - 1) / STEP
}

/// Megabytes in an hour between services, and what each costs by how far they are apart: to be carried, and to be waited for.
fn traffic(sites: &Sites, applications: &[Application], replicas: &[Replica]) -> Term {
    let mut flows = Vec::new();
    for (application, of_service) in services(applications, replicas) {
        let kilobytes = application.kilobytes.min(CALL);
        let mut flow = |one: u32, other: u32, percent: i64| {
            let rate = replicas[one as usize].rate.min(replicas[other as usize].rate);
            let volume = (rate * 3600 * kilobytes / 1000 * percent / 100).max(1);
            flows.push(Flow { one, other, volume });
        };
        let of_kind = |kind: Kind| {
            let services = application.services.iter().zip(&of_service);
            services.filter(move |(service, _)| service.kind == kind).map(|(_, items)| items)
        };
        for fronts in of_kind(Kind::Front) {
            for kind in [Kind::Cache, Kind::Logic] {
                for others in of_kind(kind) {
                    talk(fronts, others, |one, other| flow(one, other, 100));
                }
            }
        }
        for databases in of_kind(Kind::Database) {
            for logic in of_kind(Kind::Logic) {
                talk(logic, databases, |one, other| flow(one, other, 100));
            }
            for other in databases.iter().skip(1) {
                flow(databases[0], *other, 20);
            }
        }
    }
    let site = 0..sites.sites.len();
    let distance = |one: usize, other: usize| {
        let waiting = sites.round_trip(one, other) * MILLISECOND / CALL / 1000;
        egress(sites, one, other) + waiting
    };
    let distance = site.clone().map(|one| site.clone().map(|other| distance(one, other)).collect());
    Term::Traffic { level: SITE, distance: distance.collect(), flows }
}

/// Each with one of the others in turn, so that all have somebody to talk to.
fn talk(ones: &[u32], others: &[u32], mut flow: impl FnMut(u32, u32)) {
    for at in 0..ones.len().max(others.len()) {
        flow(ones[at % ones.len()], others[at % others.len()]);
    }
}

/// What a megabyte costs between two sites; half of what it costs from each region, since it may go either way.
fn egress(sites: &Sites, one: usize, other: usize) -> i64 {
    let region = |site: usize| sites.sites[site].region;
    if one == other {
        0
    } else if region(one) == region(other) {
        EGRESS_OF_SITES
    } else {
        i64::midpoint(REGIONS[region(one)].egress, REGIONS[region(other)].egress)
    }
}

/// What is not earned while a replica is down for a move, over the time in which the move has to be worth it.
fn moves(replica: &Replica) -> i64 {
    let down = DOWN.0 + DOWN.1 * replica.memory * CHANGED / 100;
    down * replica.rate / 1000 * EARNED / HORIZON
}

/// What it costs to carry the memory of a mean replica, over the same time.
fn distances(sites: &Sites, replicas: &[Replica]) -> Term {
    let all: i64 = replicas.iter().map(|replica| replica.memory).sum();
    let mean = all / (replicas.len() as i64).max(1);
    let site = 0..sites.sites.len();
    let cost = |one: usize, other: usize| mean * egress(sites, one, other) / HORIZON;
    let cost = site.clone().map(|one| site.clone().map(|other| cost(one, other)).collect());
    Term::BinMove { level: SITE, cost: cost.collect(), weight: 1 }
}

#[cfg(test)]
mod tests {
    use sterna_core::assignment::problem::Problem;
    use sterna_core::assignment::search::{best, budget::Proposals};

    use super::*;

    #[test]
    fn instances_hold_can_be_repeated_and_can_be_better() {
        for (items, bins) in [(100, 10), (1000, 100)] {
            let one = model(items, bins, 7);
            assert_eq!((one.items.len(), one.bins.len()), (items, bins));
            assert_eq!(one, model(items, bins, 7));
            assert_ne!(one, model(items, bins, 8));
            let judgement = judge(&one, &one.now());
            assert!(judgement.holds());
            assert_eq!(one.objectives[0].terms.len(), TERMS.len());
            let found = best(&Problem::new(&one).unwrap(), 1, 1, &Proposals(200_000), &|_| {});
            assert!(i128::from(found.values[0]) < judgement.values[0]);
        }
    }

    /// Nothing is left out of an instance for want of room, or nearly nothing.
    #[test]
    fn there_is_something_of_everything() {
        let one = model(1000, 100, 3);
        let count = |of: fn(&Rule) -> bool| one.rules.iter().filter(|rule| of(rule)).count();
        assert!(count(|rule| matches!(rule, Rule::Conflict { .. })) > 100);
        assert!(count(|rule| matches!(rule, Rule::Spread { .. })) > 30);
        assert!(count(|rule| matches!(rule, Rule::Dependency { .. })) > 100);
        assert!(one.items.iter().filter(|item| item.bins.is_some()).count() > 20);
        let judgement = judge(&one, &one.now());
        let terms = judgement.terms[0].iter().zip(TERMS);
        // Nothing has moved yet.
        for (worth, name) in terms.filter(|(_, name)| !name.starts_with("moves")) {
            assert!(*worth > 0, "{name}");
        }
    }
}
