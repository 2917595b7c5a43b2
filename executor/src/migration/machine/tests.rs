use super::*;

use std::future::pending;

use crate::migration::finding::{Code, Subject};
use crate::migration::table::{AtSource, Owner};

/// Two nodes in memory, with the one rule that matters: who runs.
#[derive(Default)]
struct World {
    entered: Vec<Phase>,
    undone: Vec<Undo>,
    fail_at: Option<Phase>,
    hang_at: Option<Phase>,
    failures_left: u32,
    source_runs: bool,
    destination_runs: bool,
}

#[derive(Default)]
struct Memory {
    reached: Vec<Phase>,
    decision: Option<Decision>,
    refuse_commit: bool,
    ended: u32,
    froze: Option<Instant>,
}

impl Steps for World {
    async fn enter(&mut self, phase: Phase) -> Result<Bytes, StepError> {
        if self.hang_at == Some(phase) {
            std::future::pending::<()>().await;
        }
        if self.fail_at == Some(phase) && self.failures_left > 0 {
            self.failures_left -= 1;
            return Err(StepError::Failed("injected".into()));
        }
        self.entered.push(phase);
        match phase {
            Phase::Frozen => self.source_runs = false,
            Phase::Released => self.destination_runs = true,
            _ => {}
        }
        assert!(!(self.source_runs && self.destination_runs), "two running copies");
        Ok(Bytes(1))
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
        self.undone.push(undo);
        if undo == Undo::ThawSource {
            self.source_runs = true;
        }
        assert!(!self.destination_runs, "thawed after the release");
        Ok(())
    }
}

impl Register for Memory {
    fn reached(&mut self, phase: Phase) -> Result<(), StepError> {
        self.reached.push(phase);
        Ok(())
    }
    fn freezing(&mut self) -> Result<(), StepError> {
        self.froze = Some(Instant::now());
        Ok(())
    }
    fn frozen_for(&self) -> Option<Millis> {
        self.froze.map(|at| Millis::from_duration(at.elapsed()))
    }
    fn decide(&mut self, decision: Decision) -> Result<Decision, StepError> {
        if self.refuse_commit && decision == Decision::Commit {
            return Err(StepError::Failed("disk full".into()));
        }
        Ok(*self.decision.get_or_insert(decision))
    }
    fn ended(&mut self, _: &Report) -> Result<(), StepError> {
        self.ended += 1;
        Ok(())
    }
}

async fn walk(world: &mut World, memory: &mut Memory) -> Report {
    world.source_runs = true;
    let mut events = Vec::new();
    let report = run(&Order::example(), world, memory, |event| events.push(event), pending()).await;
    assert!(matches!(events.last(), Some(Event::Ended(last)) if *last == report));
    assert_eq!(memory.ended, 1);
    report
}

#[tokio::test(start_paused = true)]
async fn without_a_fault_every_phase_is_reached_in_order() {
    let (mut world, mut memory) = (World::default(), Memory::default());
    let report = walk(&mut world, &mut memory).await;
    assert_eq!(report.outcome, Outcome::Moved);
    assert_eq!(report.phases.iter().map(|one| one.phase).collect::<Vec<_>>(), Phase::ALL);
    assert!(report.downtime.is_some());
    assert_eq!(report.bytes(), Bytes(11));
    assert!(world.undone.is_empty() && world.destination_runs && !world.source_runs);
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_phase_ends_with_exactly_one_running_copy() {
    for phase in Phase::ALL {
        for failures in [1, 7] {
            let mut world = World { fail_at: Some(phase), failures_left: failures, ..World::default() };
            let mut memory = Memory::default();
            let report = walk(&mut world, &mut memory).await;
            let row = table::of(phase);
            if row.owner == Owner::Destination {
                assert_eq!(report.outcome, Outcome::Moved, "{phase}");
                assert!(world.destination_runs && !world.source_runs, "{phase}");
            } else {
                assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{phase}");
                assert!(world.source_runs && !world.destination_runs, "{phase}");
                let OnFailure::Undo(expected) = row.on_failure else { panic!("{phase} has no way back") };
                assert_eq!(world.undone, expected, "{phase}");
                assert_eq!(memory.decision, Some(Decision::Abort));
                assert_eq!(report.downtime, None);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_can_t_be_made_durable_thaws_the_source() {
    let mut world = World::default();
    let mut memory = Memory { refuse_commit: true, ..Memory::default() };
    let report = walk(&mut world, &mut memory).await;
    assert!(matches!(report.outcome, Outcome::RolledBack { after: Phase::Verified, .. }));
    assert!(world.source_runs && !world.destination_runs);
}

#[tokio::test(start_paused = true)]
async fn a_silent_destination_costs_at_most_the_freeze_lease() {
    for phase in [Phase::Frozen, Phase::Dumped, Phase::Transferred, Phase::Restored, Phase::Verified] {
        let mut world = World { hang_at: Some(phase), ..World::default() };
        let mut memory = Memory::default();
        let report = walk(&mut world, &mut memory).await;
        let Outcome::RolledBack { reason, .. } = &report.outcome else { panic!("{phase}: {report:?}") };
        assert!(reason.contains("freeze lease of 30000ms"), "{reason}");
        assert_eq!(report.frozen_in_vain.as_f64().round(), 30_000.0);
        assert!(world.source_runs);
    }
    let mut world = World { hang_at: Some(Phase::Synced), ..World::default() };
    let report = walk(&mut world, &mut Memory::default()).await;
    assert!(matches!(&report.outcome, Outcome::RolledBack { reason, .. } if reason.contains("deadline")));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_goes_forward_after_the_commit_and_back_before_it() {
    for reached in [None].into_iter().chain(Phase::ALL.map(Some)) {
        for decision in [None, Some(Decision::Commit), Some(Decision::Abort)] {
            let row = reached.map(table::of);
            let committed = decision == Some(Decision::Commit);
            // A commit is decided before the phase is noted, and never undone.
            if committed != (row.is_some_and(|row| row.owner == Owner::Destination))
                && !(committed && reached == Some(Phase::Verified))
            {
                continue;
            }
            let runs = row.is_none_or(|row| row.at_source == AtSource::Running);
            let mut world = World {
                source_runs: runs,
                destination_runs: reached >= Some(Phase::Released),
                ..World::default()
            };
            let mut memory = Memory { decision, ..Memory::default() };
            let report = recover(&Order::example(), reached, &mut world, &mut memory, |_| ()).await;
            assert_eq!(report.outcome == Outcome::Moved, committed, "{reached:?} {decision:?}");
            assert_eq!(
                (world.source_runs, world.destination_runs),
                (!committed, committed),
                "{reached:?} {decision:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_touches_nothing() {
    fn finding() -> Finding {
        Finding::new(Code::Kernel, Subject::Pair, "another kernel")
    }
    struct Refusing(Vec<Undo>);
    impl Steps for Refusing {
        async fn enter(&mut self, phase: Phase) -> Result<Bytes, StepError> {
            match phase {
                Phase::Checked => Err(StepError::Refused(vec![finding()])),
                _ => Ok(Bytes::ZERO),
            }
        }
        async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
            self.0.push(undo);
            Ok(())
        }
    }
    let mut steps = Refusing(vec![]);
    let report = run(&Order::example(), &mut steps, &mut Memory::default(), |_| (), pending()).await;
    assert_eq!(report.outcome, Outcome::Refused { findings: vec![finding()] });
    assert!(steps.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_migration_is_undone_before_the_commit_and_not_after_it() {
    for phase in Phase::ALL {
        // It hangs where it is cancelled; after the commit it fails a while instead and must go on.
        let late = phase > Phase::Committed;
        let mut world = World { source_runs: true, ..World::default() };
        if late {
            (world.fail_at, world.failures_left) = (Some(phase), 3);
        } else {
            world.hang_at = Some(phase);
        }
        let cancel = async {
            sleep(Duration::from_millis(20)).await;
            "enough".to_owned()
        };
        let report = run(&Order::example(), &mut world, &mut Memory::default(), |_| (), cancel).await;
        if phase >= Phase::Committed {
            assert_eq!(report.outcome, Outcome::Moved, "{phase}");
            continue;
        }
        let Outcome::RolledBack { reason, .. } = &report.outcome else { panic!("{phase}: {report:?}") };
        assert_eq!(reason, "cancelled: enough");
        let OnFailure::Undo(expected) = table::of(phase).on_failure else { panic!("{phase}") };
        assert_eq!(report.undone, expected, "{phase}");
        assert!(world.source_runs && !world.destination_runs);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_frozen_is_known_across_a_restart() {
    let froze = Some(Instant::now());
    sleep(Duration::from_secs(3)).await;
    let mut memory = Memory { froze, ..Memory::default() };
    let mut world = World::default();
    let report = recover(&Order::example(), Some(Phase::Dumped), &mut world, &mut memory, |_| ()).await;
    assert!(report.frozen_in_vain.as_f64() >= 3000.0, "{report:?}");
    assert_eq!(
        report.outcome,
        Outcome::RolledBack {
            after: Phase::Dumped,
            reason: "the agent was restarted before the commit".into()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_was_promised_holds_though_the_commit_came_at_the_same_time() {
    let mut world = World { source_runs: true, ..World::default() };
    // Written by whoever answered the cancel, before it says why.
    let mut memory = Memory { decision: Some(Decision::Abort), ..Memory::default() };
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        "enough".to_owned()
    };
    let report = run(&Order::example(), &mut world, &mut memory, |_| (), cancel).await;
    let Outcome::RolledBack { reason, .. } = report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(reason, "cancelled: enough");
    assert!(world.source_runs && !world.destination_runs);
}
