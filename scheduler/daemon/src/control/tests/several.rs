//! Several policies in force at once.

use super::*;

impl Bench {
    /// Two policies in place of the one: `first` and `second`, each with a mode and a priority.
    fn two(&mut self, first: (Mode, i32), second: (Mode, i32)) {
        let paths = ["first", "second"].map(|name| self.folder.path().join(name));
        for (path, (mode, priority)) in paths.iter().zip([first, second]) {
            std::fs::write(path, format!("{} {priority}", mode.name())).unwrap();
        }
        let (policies, _) = Governing::open(&paths, &fixture::continuum(), |name, text| {
            let (mode, priority) = text.split_once(' ').unwrap();
            let modes = [Mode::Off, Mode::Observe, Mode::Recommend, Mode::Approve, Mode::Auto];
            let mut policy = fixture::policy(modes.into_iter().find(|one| one.name() == mode).unwrap());
            policy.name = name.rsplit('/').next().unwrap().to_owned();
            policy.priority = priority.parse().unwrap();
            Findings::new(name, text).finish(policy)
        })
        .unwrap();
        self.scheduler.files.policies = policies;
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The policies of all decisions, oldest first.
    async fn deciders(&self) -> Vec<String> {
        let mut deciders = Vec::new();
        for id in 1..=self.scheduler.history.newest_decision().await.unwrap().unwrap_or(0) {
            deciders.push(self.scheduler.history.decision(id).await.unwrap().unwrap().policy.name);
        }
        deciders
    }
}

#[tokio::test(start_paused = true)]
async fn each_looks_and_only_the_one_that_has_a_service_moves_it() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.two((Mode::Observe, 5), (Mode::Auto, 0));
    bench.run(2).await;
    assert_eq!(bench.deciders().await, ["first", "second", "first", "second"]);
    assert_eq!(bench.orders(), 0, "the service is the first one's, which only observes");
    let decisions = [1, 2].map(|id| bench.scheduler.history.decision(id));
    let [first, second] = decisions.map(|one| async move { one.await.unwrap().unwrap().decision });
    assert_eq!((first.await.plan.moves.len(), second.await.plan.moves.len()), (1, 0));

    bench.write("second", "auto 9");
    bench.run(1).await;
    assert_eq!(bench.orders(), 1);
    assert!(bench.told().iter().any(|line| line.starts_with("reloaded policy: priority: ")));
    assert_eq!(bench.deciders().await[4..], ["second", "first"]);
}

#[tokio::test(start_paused = true)]
async fn a_tie_is_refused_and_the_old_order_stays() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.two((Mode::Observe, 5), (Mode::Auto, 0));
    bench.run(1).await;
    bench.write("second", "auto 5");
    bench.run(1).await;
    let told = bench.told();
    let refused = told.iter().find(|line| line.starts_with("refused policy")).unwrap();
    assert!(refused.contains("both have the priority 5") && refused.contains("`shop`"), "{refused}");
    assert_eq!(bench.orders(), 0);
    let text = bench.scheduler.telemetry.text().unwrap();
    assert!(text.contains("sterna_config_last_reload_successful{file=\"policy\"} 0"), "{text}");
    // That another file is good makes this one no better.
    bench.write("first", "recommend 5");
    bench.run(1).await;
    let text = bench.scheduler.telemetry.text().unwrap();
    assert!(text.contains("sterna_config_last_reload_successful{file=\"policy\"} 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn each_has_its_own_plan_waiting_and_its_own_memory() {
    let mut bench = bench(Mode::Auto, Fate::Moves, real());
    bench.two((Mode::Approve, 5), (Mode::Auto, 0));
    bench.run(2).await;
    let waiting = bench.scheduler.history.open_proposals().await.unwrap();
    assert_eq!(waiting.len(), 1, "what the other policy decides supersedes nothing");
    assert_eq!((waiting[0].policy.as_str(), waiting[0].id), ("first", 1));
    let standing = bench.scheduler.history.standing("first", bench.scheduler.clock.now()).await.unwrap();
    let newest = bench.scheduler.history.decision(3).await.unwrap().unwrap();
    assert_eq!(newest.policy.name, "first");
    assert_eq!(standing, newest.decision.standing);
    assert_eq!(
        bench.scheduler.history.standing("third", bench.scheduler.clock.now()).await.unwrap(),
        Default::default()
    );
    assert_eq!(
        bench.scheduler.history.newest_of_each_policy(bench.scheduler.clock.now()).await.unwrap(),
        [3, 4]
    );

    let standing = bench.scheduler.desk.standing();
    let status = crate::api::status::status(&bench.scheduler.history, &standing, None).await.unwrap();
    let said: Vec<_> = status
        .policies
        .iter()
        .map(|one| (one.policy.as_str(), one.mode.as_str(), one.decision.as_ref().unwrap().id))
        .collect();
    assert_eq!(said, [("first", "approve", 3), ("second", "auto", 4)]);
    assert_eq!(status.approvals.len(), 1);

    // The service goes to the other policy, whose name says that nothing more comes of the first one's plan.
    let only = Governing::open(&[bench.folder.path().join("second")], &fixture::continuum(), |name, text| {
        let mut policy = fixture::policy(Mode::Auto);
        policy.name = "second".to_owned();
        Findings::new(name, text).finish(policy)
    });
    bench.scheduler.files.policies = only.unwrap().0;
    bench.run(1).await;
    assert!(bench.scheduler.history.open_proposals().await.unwrap().is_empty());
    let told = bench.told();
    assert!(told.iter().any(|line| line.contains("the policy `first` is not in force any more")), "{told:?}");
    assert_eq!(bench.orders(), 1);
}
