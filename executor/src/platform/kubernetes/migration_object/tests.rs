//! Any sequence of looks, deletions, lost writings and restarts comes to rest at the truth.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_policies::quantity::{Bytes, Millis};

use super::account::{Account, Course, End, Known};
use super::occurrence::{self, Occurrence};
use super::reconcile::{Step, reconcile};
use super::resource::{FINALIZER, Migration, definition};
use super::status::{CANCELLED, COMMITTED, PROGRESSING, SUCCEEDED, WHY};
use crate::migration::order::MigrationId;
use crate::migration::phase::Phase;

const KEEP: usize = 2;

fn account(course: Course) -> Account {
    Account {
        id: MigrationId::new(),
        service: "redis".into(),
        from: "a".into(),
        to: "b".into(),
        policy: Some("latency".to_owned()),
        decision: Some(7),
        reason: Some("user_latency 45.0ms -> 2.0ms".to_owned()),
        predicted: MoveCost {
            downtime: Millis::from_micros(800_000_000),
            duration: Millis::from_micros(4_000_000_000),
            bytes: Bytes::from_mib(3),
        },
        course,
        shown: false,
    }
}

fn ended(outcome: Outcome, reason: Option<&str>) -> Course {
    let moved = outcome == Outcome::Moved;
    Course::Ended(End {
        outcome,
        reached: Some(if moved { Phase::Cleaned } else { Phase::Dumped }),
        reason: reason.map(str::to_owned),
        downtime: moved.then_some(Millis::from_micros(812_000_000)),
        duration: Some(Millis::from_micros(3_000_000_000)),
        bytes: Some(Bytes::from_mib(3)),
    })
}

const BEGUN: Course = Course::UnderWay { reached: None };

/// A cluster, agents and a history as far as they matter here.
#[derive(Debug, Default)]
struct World {
    accounts: BTreeMap<MigrationId, Account>,
    /// What the scheduler that runs now has ordered, and whether it has seen its object.
    heard: BTreeMap<MigrationId, bool>,
    asked: bool,
    objects: BTreeMap<String, Migration>,
    made: BTreeMap<MigrationId, u32>,
    happened: Vec<(String, Occurrence)>,
    version: u64,
    time: i64,
}

/// What becomes of a writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// The request is lost.
    LostBefore,
    /// The answer is.
    LostAfter,
    /// Somebody else writes first.
    Overtaken,
}

#[derive(Debug, Clone)]
enum Op {
    Order,
    Reach(usize, usize),
    End(usize, usize),
    Delete(usize),
    Scribble(usize),
    Restart,
    Look(Vec<Fate>),
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_000_000 + self.time).unwrap()
    }

    fn nth(&self, which: usize) -> Option<MigrationId> {
        let ids: Vec<_> = self.accounts.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[which % ids.len()])
    }

    fn touch(&mut self, name: &str) {
        self.version += 1;
        let version = self.version.to_string();
        if let Some(object) = self.objects.get_mut(name) {
            object.metadata.resource_version = Some(version);
        }
    }

    fn known(&mut self) -> Known {
        let seen: BTreeSet<_> = self.objects.values().filter_map(Migration::id).collect();
        for (id, shown) in &mut self.heard {
            *shown |= seen.contains(id);
        }
        let (heard, all) = (&self.heard, &self.accounts);
        let wanted = all
            .values()
            .filter(|one| !one.has_ended() || heard.contains_key(&one.id) || seen.contains(&one.id));
        let accounts = wanted
            .map(|one| Account { shown: heard.get(&one.id).copied().unwrap_or_default(), ..one.clone() })
            .collect();
        Known { continuum: "c".to_owned(), accounts, asked: self.asked, keep: KEEP }
    }

    fn steps(&mut self) -> Vec<Step> {
        self.time += 1;
        let (known, seen) = (self.known(), self.objects.values().cloned().collect::<Vec<_>>());
        reconcile(&known, &seen, self.now())
    }

    /// One look; gives whether anything was to be written.
    fn look(&mut self, fates: &[Fate]) -> bool {
        let steps = self.steps();
        let mut fates = fates.iter().copied().chain(std::iter::repeat(Fate::Arrives));
        let mut wrote = false;
        for step in steps {
            wrote |= step.writes();
            match fates.next().unwrap() {
                Fate::LostBefore => {}
                Fate::Overtaken => {
                    if let Step::Tell { object, .. } = &step {
                        self.touch(object.name());
                    }
                    if let Step::Hold { name, .. } = &step {
                        self.touch(name);
                    }
                    self.write(step);
                }
                Fate::Arrives | Fate::LostAfter => self.write(step),
            }
        }
        wrote
    }

    /// As an API server does it.
    fn write(&mut self, step: Step) {
        let fresh = |world: &Self, name: &str, version: Option<&String>| {
            world.objects.get(name).is_some_and(|object| object.metadata.resource_version.as_ref() == version)
        };
        match step {
            Step::Create(object) => {
                let name = object.name().to_owned();
                if self.objects.contains_key(&name) {
                    return;
                }
                *self.made.entry(object.id().unwrap()).or_default() += 1;
                let mut object = *object;
                object.metadata.uid = Some(format!("uid-{}", self.version));
                object.metadata.generation = Some(1);
                self.objects.insert(name.clone(), object);
                self.touch(&name);
            }
            Step::Tell { object, status, happened } => {
                let name = object.name();
                if fresh(self, name, object.metadata.resource_version.as_ref()) {
                    self.objects.get_mut(name).unwrap().status = Some(*status);
                    self.touch(name);
                    self.happened.extend(happened.into_iter().map(|one| (name.to_owned(), one)));
                }
            }
            Step::Hold { name, version, finalizers } => {
                if fresh(self, &name, Some(&version)) {
                    let object = self.objects.get_mut(&name).unwrap();
                    object.metadata.finalizers = (!finalizers.is_empty()).then_some(finalizers);
                    let gone = object.is_to_go() && object.metadata.finalizers.is_none();
                    self.touch(&name);
                    if gone {
                        self.objects.remove(&name);
                    }
                }
            }
            Step::Remove { name, uid } => {
                if self.objects.get(&name).is_some_and(|object| object.metadata.uid == Some(uid)) {
                    self.delete(&name);
                }
            }
            Step::Cancel { id, .. } => {
                let account = self.accounts.get_mut(&id).unwrap();
                if account.can_be_undone() {
                    let reason = format!("after dumped: cancelled: {WHY}");
                    account.course = ended(Outcome::RolledBack, Some(&reason));
                }
            }
        }
    }

    fn delete(&mut self, name: &str) {
        let now = Time(self.now());
        let Some(object) = self.objects.get_mut(name) else { return };
        if object.metadata.finalizers.is_none() {
            self.objects.remove(name);
        } else if !object.is_to_go() {
            object.metadata.deletion_timestamp = Some(now);
            object.metadata.generation = object.metadata.generation.map(|number| number + 1);
            self.touch(name);
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Order => {
                let one = account(BEGUN);
                self.heard.insert(one.id, false);
                self.accounts.insert(one.id, one);
            }
            Op::Reach(which, phase) => {
                let Some(id) = self.nth(which) else { return };
                if let Course::UnderWay { reached } = &mut self.accounts.get_mut(&id).unwrap().course {
                    *reached = (*reached).max(Some(Phase::ALL[phase % Phase::ALL.len()]));
                }
            }
            Op::End(which, how) => {
                let Some(id) = self.nth(which) else { return };
                let account = self.accounts.get_mut(&id).unwrap();
                let back = [Outcome::RolledBack, Outcome::Refused];
                if account.has_ended() {
                } else if account.can_be_undone() && how % 3 > 0 {
                    account.course = ended(back[how % 3 - 1], Some("the link broke"));
                } else {
                    account.course = ended(Outcome::Moved, None);
                }
            }
            Op::Delete(which) => {
                let name = self.nth(which).map(|id| id.to_string()).unwrap_or_default();
                self.delete(&name);
            }
            Op::Scribble(which) => {
                let name = self.nth(which).map(|id| id.to_string()).unwrap_or_default();
                if let Some(object) = self.objects.get_mut(&name) {
                    object.metadata.labels = None;
                    let status = object.status.get_or_insert_default();
                    status.downtime = Some("none".to_owned());
                    status.outcome = Some("moved".to_owned());
                    status.conditions.truncate(1);
                    self.touch(&name);
                }
            }
            Op::Restart => {
                self.heard.clear();
                self.asked = false;
            }
            Op::Look(fates) => drop(self.look(&fates)),
        }
    }

    /// The agents answer and nobody interferes any more.
    fn comes_to_rest(&mut self) {
        self.asked = true;
        // Making, telling, holding, removing and once more for each: far fewer than this.
        let rests = (0..12).any(|_| !self.look(&[]) && self.steps().is_empty());
        assert!(rests, "it never rests: {:?}", self.steps());
    }

    fn says(&self, id: MigrationId, kind: &str) -> (String, String) {
        let condition = self.objects[&id.to_string()].condition(kind).unwrap();
        (condition.status.clone(), condition.reason.clone())
    }

    fn reasons(&self, id: MigrationId) -> Vec<&str> {
        let name = id.to_string();
        self.happened.iter().filter(|(of, _)| *of == name).map(|(_, one)| one.reason).collect()
    }
}

fn op() -> impl Strategy<Value = Op> {
    let fate = prop_oneof![
        3 => Just(Fate::Arrives),
        1 => Just(Fate::LostBefore),
        1 => Just(Fate::LostAfter),
        1 => Just(Fate::Overtaken)
    ];
    prop_oneof![
        2 => Just(Op::Order),
        3 => (0..8_usize, 0..12_usize).prop_map(|(which, phase)| Op::Reach(which, phase)),
        2 => (0..8_usize, 0..3_usize).prop_map(|(which, how)| Op::End(which, how)),
        2 => (0..8_usize).prop_map(Op::Delete),
        1 => (0..8_usize).prop_map(Op::Scribble),
        1 => Just(Op::Restart),
        6 => proptest::collection::vec(fate, 0..4).prop_map(Op::Look),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_comes_to_rest_at_the_truth(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::default();
        for op in ops {
            world.apply(op);
        }
        world.comes_to_rest();
        let mut at_rest = 0;
        for (id, account) in &world.accounts {
            prop_assert!(world.made.get(id).copied().unwrap_or_default() <= 1, "{id} was made twice");
            let Some(object) = world.objects.get(&id.to_string()) else {
                prop_assert!(account.has_ended(), "what runs is not shown");
                continue;
            };
            match &account.course {
                Course::UnderWay { reached } => {
                    prop_assert!(object.is_held(), "what runs is not held");
                    let forward = reached.is_some_and(Phase::is_forward_only);
                    prop_assert!(forward || !object.is_to_go(), "it was deleted and not cancelled");
                    prop_assert_eq!(world.says(*id, PROGRESSING).0, "True");
                }
                Course::Ended(end) => {
                    prop_assert!(!object.is_held(), "what has ended is held");
                    prop_assert!(!object.is_to_go(), "it was deleted, has ended, and is still there");
                    let moved = if end.outcome == Outcome::Moved { "True" } else { "False" };
                    prop_assert_eq!(world.says(*id, PROGRESSING).0, "False");
                    prop_assert_eq!(world.says(*id, COMMITTED).0, moved);
                    prop_assert_eq!(world.says(*id, SUCCEEDED).0, moved);
                    at_rest += 1;
                }
            }
        }
        prop_assert!(at_rest <= KEEP, "{at_rest} are kept");
    }
}

fn begun() -> (World, MigrationId) {
    let mut world = World { asked: true, ..World::default() };
    world.apply(Op::Order);
    world.comes_to_rest();
    let id = world.nth(0).unwrap();
    (world, id)
}

#[test]
fn a_migration_is_told_from_its_start_to_its_end() {
    let (mut world, id) = begun();
    let object = &world.objects[&id.to_string()];
    let status = object.status.as_ref().unwrap();
    assert_eq!((status.phase.as_deref(), status.outcome.as_deref()), (Some("planned"), None));
    assert_eq!(world.says(id, COMMITTED), ("False".to_owned(), "NotYet".to_owned()));
    let since = object.condition(PROGRESSING).unwrap().last_transition_time.clone();
    world.apply(Op::Reach(0, 9));
    world.comes_to_rest();
    assert_eq!(world.says(id, COMMITTED).0, "True");
    let still = world.objects[&id.to_string()].condition(PROGRESSING).unwrap();
    assert_eq!(still.last_transition_time, since, "it has progressed all the time");
    world.apply(Op::End(0, 0));
    world.comes_to_rest();
    let status = world.objects[&id.to_string()].status.as_ref().unwrap();
    assert_eq!((status.phase.as_deref(), status.outcome.as_deref()), (Some("cleaned"), Some("moved")));
    assert_eq!((status.downtime.as_deref(), status.bytes), (Some("812ms"), Some(3 << 20)));
    assert_eq!(world.says(id, CANCELLED).1, "NotAsked");
    assert_eq!(world.reasons(id), ["MigrationStarted", "MigrationCommitted", "MigrationSucceeded"]);
}

#[test]
fn deleting_undoes_before_the_commit_and_comes_too_late_after_it() {
    let (mut world, id) = begun();
    world.apply(Op::Reach(0, 4));
    world.delete(&id.to_string());
    let steps = world.steps();
    assert!(steps.iter().any(|step| *step == Step::Cancel { id, from: "a".into() }), "{steps:?}");
    world.look(&[]);
    world.look(&[]);
    assert_eq!(world.says(id, CANCELLED), ("True".to_owned(), "Cancelled".to_owned()));
    world.comes_to_rest();
    assert!(world.objects.is_empty());
    assert_eq!(world.reasons(id).last(), Some(&"MigrationCancelled"));

    let (mut world, id) = begun();
    world.apply(Op::Reach(0, 9));
    world.delete(&id.to_string());
    world.comes_to_rest();
    assert!(!world.accounts[&id].has_ended(), "a committed one can't be undone");
    assert_eq!(world.says(id, CANCELLED), ("False".to_owned(), "TooLate".to_owned()));
    world.apply(Op::End(0, 0));
    world.comes_to_rest();
    assert!(world.objects.is_empty());
    assert!(world.reasons(id).contains(&"CancelTooLate"), "{:?}", world.reasons(id));
}

#[test]
fn what_nobody_knows_is_said_once_the_agents_have_been_asked() {
    let (mut world, id) = begun();
    world.accounts.clear();
    world.apply(Op::Restart);
    assert_eq!(world.steps(), [], "it may yet be known");
    world.comes_to_rest();
    assert_eq!(world.says(id, SUCCEEDED), ("Unknown".to_owned(), "NobodyKnows".to_owned()));
    assert!(!world.objects[&id.to_string()].is_held());
    assert_eq!(world.reasons(id).last(), Some(&"MigrationLost"));
}

#[test]
fn objects_of_others_and_others_finalizers_are_left_alone() {
    let (mut world, id) = begun();
    let mut other = Migration::of(&account(BEGUN), "elsewhere");
    other.metadata.name = Some(MigrationId::new().to_string());
    let mut own = Migration::of(&account(BEGUN), "c");
    own.metadata.name = Some("by-hand".to_owned());
    for one in [other, own] {
        world.objects.insert(one.name().to_owned(), one);
    }
    let name = id.to_string();
    world.objects.get_mut(&name).unwrap().metadata.finalizers =
        Some(vec!["example.org/theirs".to_owned(), FINALIZER.to_owned()]);
    world.apply(Op::End(0, 0));
    let before: Vec<_> = world.objects.values().filter(|one| one.name() != name).cloned().collect();
    world.comes_to_rest();
    let after: Vec<_> = world.objects.values().filter(|one| one.name() != name).cloned().collect();
    assert_eq!(before, after);
    assert_eq!(world.objects[&name].metadata.finalizers.as_deref().unwrap(), ["example.org/theirs"]);
}

#[test]
fn a_refused_migration_is_told_as_such_and_long_words_are_cut() {
    let (mut world, id) = begun();
    let long = "no room ".repeat(1000);
    world.accounts.get_mut(&id).unwrap().course = ended(Outcome::Refused, Some(&long));
    let steps = world.steps();
    let Step::Tell { object, status, .. } = &steps[0] else { panic!("{steps:?}") };
    let happened = occurrence::between(object, status);
    assert_eq!(
        happened.iter().map(|one| (one.reason, one.warns)).collect::<Vec<_>>(),
        [("MigrationRefused", true)]
    );
    assert!(status.report.as_ref().unwrap().chars().count() <= 1024);
    assert!(status.conditions.iter().all(|one| one.message.chars().count() <= 1024));
}

#[test]
fn the_definition_says_what_kubectl_shows() {
    let definition = definition();
    let version = &definition.spec.versions[0];
    let columns: Vec<_> =
        version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["Service", "From", "To", "Phase", "Outcome", "Downtime", "Age"]);
    assert!(version.subresources.as_ref().is_some_and(|all| all.status.is_some()));
    assert_eq!(definition.spec.scope, "Namespaced");
    assert_eq!(definition.spec.names.short_names.as_deref().unwrap(), ["mig"]);
}
