//! Which fault strikes at which point, and in which order they are tried.

use std::fmt;

use serde::{Serialize, Serializer};
use sterna_executor::fault::{AtArrival, Call, Carried, Point};
use sterna_executor::migration::phase::Phase;

/// An end of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The node that the service leaves.
    Source,
    /// The node that it goes to.
    Destination,
}

/// Which packets between two nodes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lost {
    /// All.
    Both,
    /// Those to the destination.
    ToDestination,
    /// Those to the source.
    ToSource,
}

/// A program of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Sterna's agent.
    Agent,
    /// The nested engine.
    Engine,
    /// What the engine runs containers with.
    Containerd,
}

impl Program {
    /// Its name as the kernel has it.
    pub const fn process(self) -> &'static str {
        match self {
            Self::Agent => "sterna",
            Self::Engine => "dockerd",
            Self::Containerd => "containerd",
        }
    }
}

/// How a node's pod is taken from the cluster. All of these ask it to end first, and give it time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Removal {
    /// `kubectl delete pod`.
    Deleted,
    /// By a call of the eviction API.
    Evicted,
    /// `kubectl drain` of the cluster's node that it stands on, with every other pod there.
    Drained,
}

/// What strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `sterna migrate`, which gave the order, is killed, and started again.
    SchedulerKilled,
    /// `sterna run`, whose own decision the order was, is killed, and started again on the same state.
    DaemonKilled,
    /// A program of a node is killed; the node starts it again.
    Killed(Program, End),
    /// Every process of a node is killed at once; then the node is started again.
    NodeKilled(End),
    /// A node's pod is removed from its cluster; then `sterna sites up` makes the node anew on the volume that it had.
    Removed(Removal, End),
    /// Packets between the two nodes are lost for a while, without a word.
    Cut(Lost),
    /// Packets between the scheduler and the source's agent are lost for a while.
    SchedulerCut,
    /// The disk with the destination's containers and register is full for a while.
    DiskFull,
    /// The destination's memory for images on their way is full for a while.
    StagingFull,
    /// The same order, one from before and one made from what was true before the move are given.
    Stale,
    /// The agent stands still for longer than the freeze lease.
    LeaseExpired,
    /// The migration is cancelled.
    Cancelled,
    /// The agent's clock is set an hour forward, or back, and a while later right again.
    ClockStep(End),
    /// A byte of a stream arrives wrong.
    Corrupted,
    /// A stream ends early.
    Truncated,
    /// The connection of a stream breaks.
    Broken,
    /// A call is made again, after the first.
    Duplicated,
    /// A call is made twice at once.
    Raced,
    /// The answer to a call never comes.
    AnswerLost,
}

impl Fault {
    /// All.
    pub const ALL: [Self; 33] = [
        Self::SchedulerKilled,
        Self::DaemonKilled,
        Self::Killed(Program::Agent, End::Source),
        Self::Killed(Program::Agent, End::Destination),
        Self::Killed(Program::Engine, End::Source),
        Self::Killed(Program::Engine, End::Destination),
        Self::Killed(Program::Containerd, End::Source),
        Self::Killed(Program::Containerd, End::Destination),
        Self::NodeKilled(End::Source),
        Self::NodeKilled(End::Destination),
        Self::Removed(Removal::Deleted, End::Source),
        Self::Removed(Removal::Deleted, End::Destination),
        Self::Removed(Removal::Evicted, End::Source),
        Self::Removed(Removal::Evicted, End::Destination),
        Self::Removed(Removal::Drained, End::Source),
        Self::Removed(Removal::Drained, End::Destination),
        Self::Cut(Lost::Both),
        Self::Cut(Lost::ToDestination),
        Self::Cut(Lost::ToSource),
        Self::SchedulerCut,
        Self::DiskFull,
        Self::StagingFull,
        Self::Stale,
        Self::LeaseExpired,
        Self::Cancelled,
        Self::ClockStep(End::Source),
        Self::ClockStep(End::Destination),
        Self::Corrupted,
        Self::Truncated,
        Self::Broken,
        Self::Duplicated,
        Self::Raced,
        Self::AnswerLost,
    ];

    /// Where it can strike with any effect, in the order of a migration.
    fn points(self) -> Vec<Point> {
        let all = Point::all().into_iter();
        match self {
            Self::Corrupted => Carried::ALL.map(Point::Corrupt).to_vec(),
            Self::Truncated => Carried::ALL.map(Point::Truncate).to_vec(),
            Self::Broken => Carried::ALL.map(Point::Break).to_vec(),
            Self::Duplicated => Call::ALL.map(Point::Duplicate).to_vec(),
            Self::Raced => Call::ALL.map(Point::Race).to_vec(),
            Self::AnswerLost => Call::ALL.map(Point::DropAnswer).to_vec(),
            // The lease is running.
            Self::LeaseExpired => all
                .filter(|point| match point {
                    Point::Done(phase) | Point::Before(phase) => {
                        (Phase::Dumped..=Phase::Verified).contains(phase)
                            || *point == Point::Done(Phase::Frozen)
                    }
                    Point::After(phase) => (Phase::Frozen..=Phase::Verified).contains(phase),
                    Point::BeforeCommit => true,
                    Point::Arrival(at) => {
                        matches!(at, AtArrival::Prepare | AtArrival::Restore | AtArrival::Restored)
                    }
                    _ => false,
                })
                .collect(),
            _ => all.filter(|point| is_gate(*point)).collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SchedulerKilled => "scheduler killed",
            Self::DaemonKilled => "sterna run killed",
            Self::Killed(Program::Agent, End::Source) => "source agent killed",
            Self::Killed(Program::Agent, End::Destination) => "destination agent killed",
            Self::Killed(Program::Engine, End::Source) => "source dockerd killed",
            Self::Killed(Program::Engine, End::Destination) => "destination dockerd killed",
            Self::Killed(Program::Containerd, End::Source) => "source containerd killed",
            Self::Killed(Program::Containerd, End::Destination) => "destination containerd killed",
            Self::NodeKilled(End::Source) => "source node killed",
            Self::NodeKilled(End::Destination) => "destination node killed",
            Self::Removed(Removal::Deleted, End::Source) => "source pod deleted",
            Self::Removed(Removal::Deleted, End::Destination) => "destination pod deleted",
            Self::Removed(Removal::Evicted, End::Source) => "source pod evicted",
            Self::Removed(Removal::Evicted, End::Destination) => "destination pod evicted",
            Self::Removed(Removal::Drained, End::Source) => "cluster node of source drained",
            Self::Removed(Removal::Drained, End::Destination) => "cluster node of destination drained",
            Self::Cut(Lost::Both) => "nodes cut off from each other",
            Self::Cut(Lost::ToDestination) => "half cut, to the destination",
            Self::Cut(Lost::ToSource) => "half cut, to the source",
            Self::SchedulerCut => "scheduler cut off from source",
            Self::DiskFull => "disk full at the destination",
            Self::StagingFull => "RAM full at the destination",
            Self::Stale => "stale orders",
            Self::LeaseExpired => "freeze lease expired",
            Self::Cancelled => "cancelled",
            Self::ClockStep(End::Source) => "source clock steps",
            Self::ClockStep(End::Destination) => "destination clock steps",
            Self::Corrupted => "corrupted chunk",
            Self::Truncated => "truncated stream",
            Self::Broken => "broken stream",
            Self::Duplicated => "duplicated call",
            Self::Raced => "call made twice at once",
            Self::AnswerLost => "lost answer",
        })
    }
}

/// Whether an agent stands still at this point until it is let go.
pub fn is_gate(point: Point) -> bool {
    !matches!(
        point,
        Point::Corrupt(_)
            | Point::Truncate(_)
            | Point::Break(_)
            | Point::Duplicate(_)
            | Point::Race(_)
            | Point::DropAnswer(_)
    )
}

/// The end whose agent comes to this point.
pub fn end_of(point: Point) -> End {
    if matches!(point, Point::Arrival(_)) { End::Destination } else { End::Source }
}

/// Whether only a migration that is undone comes to this point.
pub fn needs_failure(point: Point) -> bool {
    matches!(
        point,
        Point::BeforeUndo(_)
            | Point::DoneUndo(_)
            | Point::Arrival(AtArrival::Discard)
            | Point::Duplicate(Call::Discard)
            | Point::Race(Call::Discard)
            | Point::DropAnswer(Call::Discard)
    )
}

/// Whether the register says `commit` when the point is reached.
pub fn is_committed(point: Point) -> bool {
    match point {
        Point::Before(phase) | Point::Done(phase) | Point::After(phase) => phase > Phase::Committed,
        Point::DoneCommit => true,
        Point::Arrival(at) => matches!(at, AtArrival::TakeOver | AtArrival::Released | AtArrival::Finish),
        Point::Duplicate(call) | Point::Race(call) | Point::DropAnswer(call) => {
            matches!(call, Call::Release | Call::Finish)
        }
        _ => false,
    }
}

/// Whether the service runs at the destination when the point is reached.
pub fn runs_there(point: Point) -> bool {
    match point {
        Point::Done(phase) | Point::After(phase) => phase >= Phase::Released,
        Point::Before(phase) => phase > Phase::Released,
        Point::Arrival(at) => matches!(at, AtArrival::Released | AtArrival::Finish),
        _ => false,
    }
}

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Sends its tokens.
    Token,
    /// Holds what the client writes.
    Redis,
}

impl Service {
    /// All.
    pub const ALL: [Self; 2] = [Self::Token, Self::Redis];

    /// As the inventory calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Redis => "redis",
        }
    }
}

/// One fault at one point while one service moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injection {
    /// What strikes.
    pub fault: Fault,
    /// Where.
    pub point: Point,
    /// What is being moved.
    pub service: Service,
    /// What passes by itself lasts longer than the freeze lease; the next life of a killed `sterna run` begins while the
    /// agent still stands at the point; an agent whose pod is removed stands at the point until it is made to end.
    pub long: bool,
    /// The service goes to the second of the other nodes, not the first.
    pub second: bool,
}

impl Serialize for Injection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut it = serializer.serialize_struct("Injection", 4)?;
        it.serialize_field("fault", &self.fault.to_string())?;
        it.serialize_field("point", &self.point.to_string())?;
        it.serialize_field("service", &self.service)?;
        it.serialize_field("long", &self.long)?;
        it.end()
    }
}

/// The one service that a fault at a point can be tried with.
fn only_service(fault: Fault, point: Point) -> Option<Service> {
    match (fault, point) {
        (
            _,
            Point::Corrupt(Carried::Volume)
            | Point::Truncate(Carried::Volume)
            | Point::Break(Carried::Volume),
        ) => Some(Service::Redis),
        // A Redis that must make every write durable ends by itself when the disk that it runs on is full, so that it may only
        // be on its way there; the tokens need no disk.
        (
            Fault::DiskFull,
            Point::Done(Phase::Reserved) | Point::After(Phase::Reserved) | Point::Before(Phase::Synced),
        ) => Some(Service::Redis),
        (Fault::DiskFull, _) => Some(Service::Token),
        _ => None,
    }
}

/// Each of these faults at every point where it can strike, in an order that follows from the seed: all kinds take turns, and each
/// begins somewhere else among the points, so that the first few runs cover every kind, and some hundreds every pair of
/// neighbours.
pub fn schedule(seed: u64, kinds: &[Fault]) -> Vec<Injection> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rows: Vec<Vec<Injection>> = Vec::new();
    let mut order: Vec<Point> = Point::all();
    random.shuffle(&mut order);
    for (at, fault) in kinds.iter().enumerate() {
        let allowed = fault.points();
        let mut points: Vec<Point> = order.iter().copied().filter(|point| allowed.contains(point)).collect();
        let shift = at * points.len() / kinds.len();
        points.rotate_left(shift);
        let row = points.into_iter().map(|point| {
            let service = match only_service(*fault, point) {
                Some(service) => service,
                None if random.bool() => Service::Redis,
                None => Service::Token,
            };
            Injection { fault: *fault, point, service, long: random.u8(..3) == 0, second: random.bool() }
        });
        rows.push(row.collect());
    }
    let mut all = Vec::new();
    while !rows.is_empty() {
        random.shuffle(&mut rows);
        // From the end of each row, which is as good as its beginning.
        all.extend(rows.iter_mut().filter_map(Vec::pop));
        rows.retain(|row| !row.is_empty());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        assert_eq!(schedule(7, &Fault::ALL), schedule(7, &Fault::ALL));
        assert_ne!(schedule(7, &Fault::ALL), schedule(8, &Fault::ALL));
    }

    #[test]
    fn every_kind_comes_before_any_comes_twice_and_no_pair_comes_twice() {
        for seed in 0..20 {
            let all = schedule(seed, &Fault::ALL);
            let kinds: HashSet<Fault> = all.iter().map(|one| one.fault).collect();
            let first: HashSet<Fault> = all.iter().take(kinds.len()).map(|one| one.fault).collect();
            assert_eq!(first, kinds);
            let pairs: HashSet<(Fault, Point)> = all.iter().map(|one| (one.fault, one.point)).collect();
            assert_eq!(pairs.len(), all.len());
            assert!(all.len() > 300, "{}", all.len());
        }
    }

    #[test]
    fn three_hundred_reach_nearly_every_point_and_strike_on_both_sides_of_the_commit() {
        for seed in 0..20 {
            let all: Vec<Injection> = schedule(seed, &Fault::ALL).into_iter().take(300).collect();
            let points: HashSet<Point> = all.iter().map(|one| one.point).collect();
            assert!(points.len() + 2 >= Point::all().len(), "seed {seed}: {}", points.len());
            let committed = all.iter().filter(|one| is_committed(one.point)).count();
            assert!(committed * 8 >= all.len(), "seed {seed}: {committed}");
        }
    }
}
