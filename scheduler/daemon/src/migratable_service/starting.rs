//! Starting services, which may take as long as an image takes to be pulled. No look waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::fleet::Fleet;
use sterna_executor::node::api::StartService;
use sterna_executor::node::client::AgentClient;
use sterna_executor::platform::kubernetes::migratable_service::reconcile::{Part, Trouble};
use sterna_executor::platform::kubernetes::migratable_service::template::{Described, Pull};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{Done, trouble};

/// How long pulling an image may take.
const TO_PULL: Duration = Duration::from_secs(1800);
/// How long the agent may take to start a container.
const TO_START: Duration = Duration::from_secs(60);
/// Pause after a start that failed; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What is being started.
#[derive(Default)]
pub(super) struct Starts(BTreeMap<String, Start>);

enum Start {
    UnderWay { task: JoinHandle<Result<(), Trouble>>, tries: u32 },
    Failed { until: Instant, tries: u32, trouble: Trouble },
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Self::UnderWay { task, .. } = self {
            task.abort();
        }
    }
}

impl Starts {
    /// Begins to start a service, of that life, or tells what came of that.
    pub fn start<L>(
        &mut self,
        (name, life): (&str, Option<&str>),
        node: &NodeName,
        described: &Described,
        fleet: &Fleet,
        leads: &L,
    ) -> Result<Done, Trouble>
    where
        L: Fn() -> bool + Clone + Send + Sync + 'static,
    {
        let tries = match self.0.get(name) {
            Some(Start::UnderWay { task, .. }) if !task.is_finished() => return Ok(Done::Waits),
            Some(Start::UnderWay { .. }) => return self.finished(name),
            Some(Start::Failed { until, trouble, .. }) if *until > Instant::now() => {
                return Err(trouble.clone());
            }
            Some(Start::Failed { tries, .. }) => *tries,
            None => 0,
        };
        let silent = |error: sterna_executor::fleet::FleetError| {
            trouble(Part::Service, "NodesAreSilent", format!("it can't be started on `{node}`: {error}"))
        };
        let agent = fleet.agent(node).map_err(silent)?.clone();
        let Some(run) = described.service.run.clone() else { return Ok(Done::Nothing) };
        let order =
            StartService { service: ServiceName::from(name), run, incarnation: life.map(str::to_owned) };
        let (pull, leads) = (described.pull, leads.clone());
        let task = tokio::spawn(async move { carry_out(agent, order, pull, leads).await });
        self.0.insert(name.to_owned(), Start::UnderWay { task, tries });
        Ok(Done::Waits)
    }

    /// What came of a start that is over; a task that is over answers at once.
    fn finished(&mut self, name: &str) -> Result<Done, Trouble> {
        let Some(mut start) = self.0.remove(name) else { return Ok(Done::Nothing) };
        let Start::UnderWay { task, tries } = &mut start else { return Ok(Done::Nothing) };
        let ended = futures_util::FutureExt::now_or_never(task);
        match ended {
            Some(Ok(Ok(()))) => Ok(Done::Waits),
            Some(Ok(Err(trouble))) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << (*tries).min(5)).min(LAST_PAUSE);
                let failed = Start::Failed {
                    until: Instant::now() + pause,
                    tries: *tries + 1,
                    trouble: trouble.clone(),
                };
                self.0.insert(name.to_owned(), failed);
                Err(trouble)
            }
            Some(Err(_)) | None => Ok(Done::Waits),
        }
    }

    /// Nobody wants it to be started any more.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Has the image brought, and the service started.
async fn carry_out(
    agent: AgentClient,
    order: StartService,
    pull: Pull,
    leads: impl Fn() -> bool,
) -> Result<(), Trouble> {
    let (node, image) = (agent.node().clone(), order.run.image.clone());
    let no_image = |why: String| {
        trouble(Part::Service, "NoImage", format!("`{node}` can't have the image `{image}`: {why}"))
    };
    let there = agent.image_digest(&image).await.map_err(|error| no_image(error.to_string()))?.is_some();
    match (pull, there) {
        (Pull::Never, false) => {
            return Err(no_image(
                "it is not there, and `imagePullPolicy` is Never; `sterna services load` brings it"
                    .to_owned(),
            ));
        }
        (Pull::Always, _) | (Pull::IfNotPresent, false) => {
            let pulled = agent.pull_image(&image, TO_PULL).await;
            pulled.map_err(|error| no_image(error.to_string()))?;
        }
        (Pull::Never | Pull::IfNotPresent, true) => {}
    }
    let not_started =
        |why: String| trouble(Part::Service, "NotStarted", format!("it can't be started on `{node}`: {why}"));
    // That may have taken long.
    if !leads() {
        return Err(not_started("another scheduler leads by now".to_owned()));
    }
    match timeout(TO_START, agent.start_service(&order)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(not_started(error.to_string())),
        Err(_) => Err(not_started("its agent does not answer in time".to_owned())),
    }
}
