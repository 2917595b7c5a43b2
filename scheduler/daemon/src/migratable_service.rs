//! Services that are declared as objects of a Kubernetes cluster: read with the inventory, started once, shown as they are.
//!
//! Beside the loop, which never waits for it. Level-triggered as the loop is: each look reads all objects and asks all agents, and
//! the next look is the retry. What an object declares stands in the [file of declared services](crate::declared); from there on it
//! is a service as any other, and policies decide where it goes.
//!
//! | module | what lives there |
//! |---|---|
//! | `place` | where a service is started first: pure |
//! | `fleet` | what the agents say of all services |
//! | `starting` | images and starts, which take time |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sterna_core::continuum::inventory::{self, written};
use sterna_core::continuum::{Continuum, NodeName, Service, ServiceName};
use sterna_executor::identity::{Authority, IdentityError, Role};
use sterna_executor::node::client::ClientError;
use sterna_executor::platform::kubernetes::migratable_service::fields::Refusal;
use sterna_executor::platform::kubernetes::migratable_service::objects::{DeclarationError, Declarations};
use sterna_executor::platform::kubernetes::migratable_service::reconcile::{
    Look, Part, Step, Trouble, reconcile,
};
use sterna_executor::platform::kubernetes::migratable_service::resource::MigratableService;
use sterna_executor::platform::kubernetes::migratable_service::stand_in::{self, Stand, stands_for};
use sterna_executor::platform::kubernetes::migratable_service::template::{Described, describe};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use self::fleet::Told;
use self::starting::Starts;
use crate::control::desk::Desk;
use crate::control::world::{Clock, RealWorld};
use crate::declared::{Declared, beside};
use crate::reload;

mod fleet;
mod place;
mod starting;

/// Between two looks while something is to be done.
const SOON: Duration = Duration::from_secs(1);
/// And while nothing is.
const SELDOM: Duration = Duration::from_secs(5);
/// Looks at once, one after the other, until nothing is left to be done.
const LOOKS: usize = 4;
/// How long ending a service may take: as long as it may take to stop, and some more.
const TO_REMOVE: Duration = Duration::from_secs(90);

/// A look that could not be completed.
#[derive(Debug, Error)]
enum LookError {
    #[error(transparent)]
    Declarations(#[from] DeclarationError),
    #[error("the inventory can't be used: {0}")]
    Inventory(String),
    #[error(transparent)]
    Fleet(#[from] sterna_executor::fleet::FleetError),
    #[error("what is declared can't be written down: {0}")]
    File(#[from] std::io::Error),
}

/// Keeps the declared services of one namespace.
pub struct Keeper<C, L> {
    /// The objects, and the pods that stand for them.
    pub declarations: Declarations,
    /// The agents.
    pub world: RealWorld,
    /// Who makes the certificates of stand-ins.
    pub authority: Authority,
    /// Time.
    pub clock: C,
    /// Whether this scheduler may write: one that does not lead may not.
    pub leads: L,
    /// The inventory file.
    pub inventory: PathBuf,
    /// What is declared, as the inventory is read with.
    pub declared: Declared,
    /// What the loop saw last, and its bell.
    pub desk: Arc<Desk>,
    /// The image of stand-ins.
    pub image: String,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Memory {
    /// Why the last look could not be completed.
    failed: Option<String>,
    /// What did not work of each object.
    trouble: BTreeMap<String, Trouble>,
    starts: Starts,
    /// Where agents listen, as it was known last: that one can't be found for a moment is no reason to forget it, and stand-ins
    /// would hold their clients.
    addresses: BTreeMap<NodeName, String>,
}

/// An object, and what is known of it.
struct Seen {
    look: Look,
    agents: BTreeMap<NodeName, String>,
}

impl<C, L> Keeper<C, L>
where
    C: Clock,
    L: Fn() -> bool + Clone + Send + Sync + 'static,
{
    /// Keeps them until `ended`.
    pub async fn keep(self, ended: oneshot::Receiver<()>) {
        let mut memory = Memory::default();
        let mut ended = std::pin::pin!(ended);
        loop {
            let busy = tokio::select! {
                biased;
                _ = &mut ended => break,
                busy = self.round(&mut memory) => busy,
            };
            tokio::select! {
                biased;
                _ = &mut ended => break,
                () = sleep(if busy { SOON } else { SELDOM }) => {}
            }
        }
    }

    /// Looks until nothing is left to be done, so often at most. Gives whether more is to come soon.
    async fn round(&self, memory: &mut Memory) -> bool {
        for _ in 0..LOOKS {
            match self.look(memory).await {
                Ok(Done::Nothing) => {
                    if memory.failed.take().is_some() {
                        tracing::info!("declared services are looked after again");
                    }
                    return false;
                }
                Ok(Done::Waits) => return true,
                Ok(Done::Something) => {}
                Err(error) => {
                    let error = error.to_string();
                    if memory.failed.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "declared services can't be looked after; they go on without it"
                        );
                    }
                    memory.failed = Some(error);
                    return false;
                }
            }
        }
        true
    }

    async fn look(&self, memory: &mut Memory) -> Result<Done, LookError> {
        if !(self.leads)() {
            return Ok(Done::Nothing);
        }
        let (mut objects, pods) = self.declarations.list().await?;
        // Who was first has a name, a port.
        objects.sort_by_key(|object| {
            (object.metadata.creation_timestamp.as_ref().map(|time| time.0), object.name().to_owned())
        });
        let name = self.inventory.display().to_string();
        let text = reload::read(&self.inventory).map_err(LookError::Inventory)?;
        let (plain, before) = self.inventory_and_declared(&name, &text)?;
        memory.trouble.retain(|known, _| objects.iter().any(|object| object.name() == known));
        if objects.is_empty() {
            self.write(&BTreeMap::new())?;
            return Ok(Done::Nothing);
        }
        let fleet = self.world.fleet(&plain).await?;
        let told = Told::by(&fleet).await;
        memory.addresses.retain(|node, _| plain.nodes.contains_key(node));
        memory.addresses.extend(told.addresses.clone());
        // As they are declared, and as they are read with the inventory.
        let (mut described_so_far, mut declared) = (BTreeMap::new(), BTreeMap::new());
        let mut all = Vec::new();
        for object in objects {
            let service = ServiceName::from(object.name());
            let room =
                place::Room { continuum: &plain, others: &described_so_far, told: &told, desk: &self.desk };
            let (place, described) = described(&object, &service, &room, &plain);
            let seen = Seen {
                agents: memory.addresses.clone(),
                look: Look {
                    place,
                    whereabouts: told.whereabouts(&service),
                    stand_in: pods.iter().find(|pod| stands_for(pod) == Some(object.name())).cloned(),
                    tells: None,
                    trouble: memory.trouble.get(object.name()).cloned(),
                    described,
                    object,
                },
            };
            let seen = self.admit(seen, &service, &mut declared, &before, (&name, &text));
            if let (Ok(described), true) = (&seen.look.described, declared.contains_key(&service)) {
                described_so_far.insert(service, described.service.clone());
            }
            all.push(seen);
        }
        self.write(&declared)?;
        let mut done = Done::Nothing;
        for seen in &all {
            done = done.max(self.act(seen, &fleet, memory).await);
        }
        Ok(done)
    }

    /// The inventory without what is declared, and what was declared the last time. Where both don't go together, as when the
    /// inventory has a service of that name now, the inventory alone is taken.
    fn inventory_and_declared(
        &self,
        name: &str,
        text: &str,
    ) -> Result<(Continuum, BTreeMap<ServiceName, Service>), LookError> {
        let tables = self.declared.text().map_err(LookError::Inventory)?;
        let names = Declared::names(&tables);
        // Users may be said to use what is declared: then the inventory makes sense with that alone.
        if let Ok(both) = inventory::load(name, &written::together(text, &tables)) {
            let mut plain = both.value;
            let of_objects = |service: &ServiceName| names.contains(service);
            let declared = plain.services.extract_if(.., |service, _| of_objects(service)).collect();
            return Ok((plain, declared));
        }
        let plain =
            inventory::load(name, text).map_err(|invalid| LookError::Inventory(invalid.to_string()))?;
        Ok((plain.value, BTreeMap::new()))
    }

    fn write(&self, services: &BTreeMap<ServiceName, Service>) -> Result<(), LookError> {
        // Another one may lead by now, and write elsewhere.
        if (self.leads)() && self.declared.write(services)? {
            self.desk.ring();
        }
        Ok(())
    }

    /// Takes an object's service among those that are declared, if the inventory can have it beside them.
    fn admit(
        &self,
        mut seen: Seen,
        service: &ServiceName,
        declared: &mut BTreeMap<ServiceName, Service>,
        before: &BTreeMap<ServiceName, Service>,
        (name, text): (&str, &str),
    ) -> Seen {
        let look = &mut seen.look;
        let started = look.object.said().started;
        if look.object.is_to_go() {
            return seen;
        }
        let wanted = match &look.described {
            Ok(described) => Some(described.service.clone()),
            Err(_) if started => before.get(service).cloned(),
            Err(_) => None,
        };
        let Some(mut wanted) = wanted else { return seen };
        // Of one that has been started it says no more how that is done: by the inventory nobody is to start it, and where that was
        // first may be no node any more.
        if started {
            wanted.run = None;
        }
        declared.insert(service.clone(), wanted);
        let fits = beside(name, text, declared);
        if let Some(wanted) = declared.get_mut(service) {
            wanted.run = None;
        }
        if let Err(invalid) = fits {
            declared.remove(service);
            look.described = Err(vec![Refusal::new("inventory", in_a_line(&invalid.to_string()))]);
        }
        if let Ok(described) = &look.described
            && let Ok(config) = stand(&self.image, &look.object, described, &seen.agents).config()
        {
            look.tells = Some(stand_in::digest(&config));
        }
        seen
    }

    /// Does what is due of an object.
    async fn act(&self, seen: &Seen, fleet: &sterna_executor::fleet::Fleet, memory: &mut Memory) -> Done {
        let look = &seen.look;
        let name = look.object.name();
        let steps = reconcile(look, self.clock.now());
        let mut done = if look.waits() { Done::Waits } else { Done::Nothing };
        for step in steps {
            // Another one may lead by now.
            if !(self.leads)() {
                return Done::Nothing;
            }
            let of = if matches!(step, Step::TellStandIn | Step::MakeStandIn | Step::RemoveStandIn(_)) {
                Part::StandIn
            } else {
                Part::Service
            };
            match self.step(step, seen, fleet, memory).await {
                Ok(did) => {
                    done = done.max(did);
                    if did == Done::Something && memory.trouble.get(name).is_some_and(|known| known.of == of)
                    {
                        memory.trouble.remove(name);
                    }
                }
                Err(trouble) => {
                    let (reason, why) = (trouble.reason, &trouble.message);
                    if memory.trouble.get(name) != Some(&trouble) {
                        tracing::warn!(service = name, reason, why, "a declared service");
                    }
                    memory.trouble.insert(name.to_owned(), trouble);
                    done = done.max(Done::Waits);
                }
            }
        }
        done
    }

    async fn step(
        &self,
        step: Step,
        seen: &Seen,
        fleet: &sterna_executor::fleet::Fleet,
        memory: &mut Memory,
    ) -> Result<Done, Trouble> {
        let (object, described) = (&seen.look.object, &seen.look.described);
        let of_service = |error: DeclarationError| trouble(Part::Service, "NotWritten", error.to_string());
        let of_stand_in = |error: DeclarationError| trouble(Part::StandIn, "NotMade", error.to_string());
        match step {
            Step::Hold => self.declarations.keep(object, true).await.map_err(of_service)?,
            Step::Free => {
                memory.starts.forget(object.name());
                self.declarations.keep(object, false).await.map_err(of_service)?;
            }
            Step::Tell(status) => self.declarations.tell(object, &status).await.map_err(of_service)?,
            Step::Start(node) => {
                let Ok(described) = described else { return Ok(Done::Nothing) };
                return memory.starts.start(
                    (object.name(), object.metadata.uid.as_deref()),
                    &node,
                    described,
                    fleet,
                    &self.leads,
                );
            }
            Step::Remove(node) => {
                let service = ServiceName::from(object.name());
                let removed = async {
                    let agent = fleet.agent(&node).map_err(|error| error.to_string())?;
                    let removing = agent.remove_service(&service);
                    let told = |error: ClientError| error.to_string();
                    timeout(TO_REMOVE, removing)
                        .await
                        .map_err(|_| format!("`{node}` does not answer in time"))?
                        .map_err(told)
                };
                let told =
                    |why| trouble(Part::Service, "NotEnded", format!("it can't be ended on `{node}`: {why}"));
                removed.await.map_err(told)?;
            }
            Step::TellStandIn | Step::MakeStandIn => {
                let Ok(described) = described else { return Ok(Done::Nothing) };
                let stand = stand(&self.image, object, described, &seen.agents);
                if step == Step::TellStandIn {
                    self.declarations.tell_stand_in(&stand).await.map_err(of_stand_in)?;
                } else {
                    let no_certificate =
                        |error: IdentityError| trouble(Part::StandIn, "NotMade", error.to_string());
                    let credentials = self.authority.issue(&Role::Front).map_err(no_certificate)?;
                    self.declarations.make_stand_in(&stand, &credentials).await.map_err(of_stand_in)?;
                }
            }
            Step::RemoveStandIn(uid) => {
                let name = stand_in::name(object.name());
                self.declarations.remove_stand_in(&name, &uid).await.map_err(of_stand_in)?;
            }
        }
        Ok(Done::Something)
    }
}

/// What came of a look, or of a step; the most of all counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// Nothing was to be done.
    Nothing,
    /// Something is to be waited for.
    Waits,
    /// Something was done, and another look is due at once.
    Something,
}

fn trouble(of: Part, reason: &'static str, message: String) -> Trouble {
    Trouble { of, reason, message }
}

fn stand<'a>(
    image: &'a str,
    object: &'a MigratableService,
    described: &'a Described,
    agents: &'a BTreeMap<NodeName, String>,
) -> Stand<'a> {
    Stand { object, described, image, agents }
}

/// What an object describes, and where its service is to be started first.
fn described(
    object: &MigratableService,
    service: &ServiceName,
    room: &place::Room<'_>,
    plain: &Continuum,
) -> (Result<NodeName, String>, Result<Described, Vec<Refusal>>) {
    let said = object.said().first_on.map(|node| NodeName::from(node.as_str()));
    let wanted = object.spec.on.as_deref().map(NodeName::from);
    // Where it has never been said, any node will do to see whether the template makes sense.
    let any = || plain.nodes.keys().next().cloned().unwrap_or_default();
    let some = said
        .clone()
        .or_else(|| wanted.clone())
        .filter(|node| plain.nodes.contains_key(node))
        .unwrap_or_else(any);
    let mut described = describe(object.name(), &object.spec, &some);
    if said.is_none()
        && let Some(node) = &wanted
        && !plain.nodes.contains_key(node)
    {
        let known = plain.nodes.keys().map(|node| format!("`{node}`")).collect::<Vec<_>>().join(", ");
        let refusal = Refusal::new("on", format!("there is no node `{node}`; there are {known}"));
        match &mut described {
            Ok(_) => described = Err(vec![refusal]),
            Err(refusals) => refusals.push(refusal),
        }
    }
    let place = match (said.or(wanted), &mut described) {
        (Some(node), _) => Ok(node),
        (None, Ok(described)) => {
            let place = room.first(service, &described.service);
            if let (Ok(node), Some(run)) = (&place, &mut described.service.run) {
                run.on.clone_from(node);
            }
            place
        }
        (None, Err(_)) => Err("what it asks for is not known".to_owned()),
    };
    (place, described)
}

fn in_a_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
