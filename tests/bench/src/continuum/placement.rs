//! Where everything is when the instance begins: each application was put near its users when it came, whatever that costs, and
//! stayed there while demand, users and neighbours changed.

use fastrand::Rng;

use super::applications::{Application, Kind, Service, metro};
use super::sites::Sites;

/// A replica that runs.
#[derive(Debug, Clone, Copy)]
pub struct Replica {
    /// Its application.
    pub application: usize,
    /// Its service, by the application's list.
    pub service: usize,
    /// Its node.
    pub node: usize,
    /// Thousandths of processors.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Mbit/s.
    pub bandwidth: i64,
    /// Requests per second.
    pub rate: i64,
}

/// What is left of each node: processors, memory, bandwidth.
type Rooms = Vec<[i64; 3]>;

/// By how much demand has changed since, in percent, each as likely.
const DRIFT: [i64; 8] = [60, 75, 90, 100, 100, 110, 130, 160];
/// Applications whose users are mostly elsewhere now, in percent; and of those, how many have gone to another region.
const GONE: (u32, u32) = (30, 30);

/// Where all replicas are at first; those of applications that have gone are left out.
pub fn aged(sites: &Sites, applications: &mut [Application], random: &mut Rng) -> Vec<Replica> {
    let mut rooms: Rooms =
        sites.nodes.iter().map(|node| [node.shape.cpu, node.shape.memory, node.shape.bandwidth]).collect();
    let mut nearest: Vec<Vec<usize>> = vec![Vec::new(); sites.sites.len()];
    let mut replicas = Vec::new();
    for (number, application) in applications.iter().enumerate() {
        let order = &mut nearest[application.metro];
        if order.is_empty() {
            *order = sites.nearest(application.metro);
        }
        let first = replicas.len();
        let mut placer = Placer { sites, order, rooms: &mut rooms, number, replicas: &mut replicas };
        placer.place(application);
        debug_assert_eq!(
            replicas.len() - first,
            application.services.iter().map(|service| service.replicas).sum::<usize>()
        );
    }
    for replica in replicas.iter().filter(|one| applications[one.application].departs) {
        take(&mut rooms[replica.node], &needs(replica), -1);
    }
    replicas.retain(|one| !applications[one.application].departs);
    drift(applications, &mut replicas, &mut rooms, random);
    for application in applications {
        if random.u32(0..100) < GONE.0 {
            let region = sites.sites[application.metro].region;
            let far = random.u32(0..100) < GONE.1 && sites.regions > 1;
            // Not every region has two metropolises.
            for _ in 0..100 {
                application.metro = metro(sites, random);
                if (sites.sites[application.metro].region != region) == far {
                    break;
                }
            }
        }
    }
    replicas
}

/// Services ask for more or less, as far as their nodes have it.
fn drift(applications: &[Application], replicas: &mut [Replica], rooms: &mut Rooms, random: &mut Rng) {
    let mut factors: Vec<Vec<(i64, i64)>> = Vec::new();
    for application in applications {
        let mut any = || DRIFT[random.usize(0..DRIFT.len())];
        factors.push(application.services.iter().map(|_| (any(), any())).collect());
    }
    for replica in replicas {
        let (load, memory) = factors[replica.application][replica.service];
        let by = |number: i64, percent: i64| (number * percent / 100).max(1);
        let drifted = Replica {
            cpu: by(replica.cpu, load),
            // Memory follows the load by half.
            memory: by(replica.memory, (memory + load) / 4 + 50),
            bandwidth: by(replica.bandwidth, load),
            rate: by(replica.rate, load),
            ..*replica
        };
        let room = &mut rooms[replica.node];
        take(room, &needs(replica), -1);
        if fits(room, &needs(&drifted)) {
            *replica = drifted;
        }
        take(room, &needs(replica), 1);
    }
}

fn needs(replica: &Replica) -> [i64; 3] {
    [replica.cpu, replica.memory, replica.bandwidth]
}

fn take(room: &mut [i64; 3], needs: &[i64; 3], times: i64) {
    for (room, needs) in room.iter_mut().zip(needs) {
        *room -= times * needs;
    }
}

fn fits(room: &[i64; 3], needs: &[i64; 3]) -> bool {
    room.iter().zip(needs).all(|(room, needs)| needs <= room)
}

/// Places one application.
struct Placer<'a> {
    sites: &'a Sites,
    /// Sites, the nearest to its users first.
    order: &'a [usize],
    rooms: &'a mut Rooms,
    number: usize,
    replicas: &'a mut Vec<Replica>,
}

impl Placer<'_> {
    fn place(&mut self, application: &Application) {
        let services = || application.services.iter().enumerate();
        for (number, service) in services().filter(|(_, service)| service.kind == Kind::Database) {
            self.databases(application, number, service);
        }
        // Fronts with a cache beside them; those that have to survive a site in two.
        let cells = if application.critical { 2 } else { 1 };
        let mut taken = Vec::new();
        for cell in 0..cells {
            let mut wanted = Vec::new();
            for (number, service) in services() {
                if matches!(service.kind, Kind::Front | Kind::Cache) {
                    wanted.extend((0..service.replicas).filter(|one| one % cells == cell).map(|_| number));
                }
            }
            taken.extend(self.together(application, &wanted, &taken));
        }
        for (number, service) in services().filter(|(_, service)| service.kind == Kind::Logic) {
            for _ in 0..service.replicas {
                let regions: Vec<usize> =
                    self.of(application, Kind::Database).map(|at| self.region(at)).collect();
                let near = |placer: &Self, node: usize| {
                    let all = regions.is_empty() || regions.contains(&placer.region(node));
                    all && !placer.has(number, node)
                };
                self.nearest(number, service, near);
            }
        }
    }

    /// Each in another rack; the first two on two sites if one may be lost, all in their region if they have to.
    fn databases(&mut self, application: &Application, number: usize, service: &Service) {
        let home = self.sites.sites[application.metro].region;
        for replica in 0..service.replicas {
            let on: Vec<usize> = self.nodes(number).collect();
            let good = |placer: &Self, node: usize| {
                let it = &placer.sites.nodes[node];
                let racks = on.iter().all(|other| placer.sites.nodes[*other].rack != it.rack);
                let apart = !(application.critical && replica == 1)
                    || on.iter().all(|other| placer.sites.nodes[*other].site != it.site);
                racks && apart && (!application.resident || placer.region(node) == home)
            };
            self.nearest(number, service, good);
        }
    }

    /// Puts services on different nodes of one site that is not taken; the site.
    fn together(&mut self, application: &Application, wanted: &[usize], taken: &[usize]) -> Option<usize> {
        for site in self.order {
            if taken.contains(site) {
                continue;
            }
            let before = self.replicas.len();
            let all = wanted.iter().all(|number| {
                let service = &application.services[*number];
                let good = |placer: &Self, node: &usize| !placer.has(*number, *node);
                let node = self.sites.sites[*site]
                    .nodes
                    .clone()
                    .find(|node| good(self, node) && fits(&self.rooms[*node], &asks(service)));
                node.is_some_and(|node| {
                    self.put(*number, service, node);
                    true
                })
            });
            if all {
                return Some(*site);
            }
            while self.replicas.len() > before {
                if let Some(replica) = self.replicas.pop() {
                    take(&mut self.rooms[replica.node], &needs(&replica), -1);
                }
            }
        }
        for number in wanted {
            self.nearest(*number, &application.services[*number], |_, _| true);
        }
        None
    }

    /// Puts a replica on the first good node that has room; if there is none, on the one with most room: the generator then leaves
    /// out what does not hold.
    fn nearest(&mut self, number: usize, service: &Service, good: impl Fn(&Self, usize) -> bool) {
        let mut nodes = self.order.iter().flat_map(|site| self.sites.sites[*site].nodes.clone());
        let asked = asks(service);
        let found = nodes.find(|node| fits(&self.rooms[*node], &asked) && good(self, *node));
        let roomiest = || (0..self.rooms.len()).max_by_key(|node| self.rooms[*node][0]);
        let fitting = || (0..self.rooms.len()).find(|node| fits(&self.rooms[*node], &asked));
        let node = found.or_else(fitting).or_else(roomiest).unwrap_or(0);
        self.put(number, service, node);
    }

    fn put(&mut self, number: usize, service: &Service, node: usize) {
        take(&mut self.rooms[node], &asks(service), 1);
        self.replicas.push(Replica {
            application: self.number,
            service: number,
            node,
            cpu: service.cpu,
            memory: service.memory,
            bandwidth: service.bandwidth,
            rate: service.rate,
        });
    }

    /// Replicas of this application that are placed.
    fn mine(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().rev().take_while(|one| one.application == self.number)
    }

    fn nodes(&self, service: usize) -> impl Iterator<Item = usize> {
        self.mine().filter(move |one| one.service == service).map(|one| one.node)
    }

    fn of(&self, application: &Application, kind: Kind) -> impl Iterator<Item = usize> {
        self.mine().filter(move |one| application.services[one.service].kind == kind).map(|one| one.node)
    }

    fn has(&self, service: usize, node: usize) -> bool {
        self.nodes(service).any(|other| other == node)
    }

    fn region(&self, node: usize) -> usize {
        self.sites.sites[self.sites.nodes[node].site].region
    }
}

fn asks(service: &Service) -> [i64; 3] {
    [service.cpu, service.memory, service.bandwidth]
}
