//! What is to be done next, so that a declared service runs once and is shown as it is.
//!
//! The choice of the node on which a service is first started is written down before it is started, and the agent there starts it
//! only if it never had it. So schedulers that follow each other, or two at once, can't start it twice.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use sterna_core::continuum::{NodeName, Restart};

use super::fields::Refusal;
use super::resource::{MigratableService, MigratableServiceStatus};
use super::stand_in::TEMPLATE;
use super::status::due;
use super::template::Described;

/// Where a service is, as the agents say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// A node has it.
    On(NodeName, Standing),
    /// No node that answers has it, but it stands restored at `at`, on its way from `from`: nobody may run it there who was not told to.
    Held {
        /// The node that holds it.
        at: NodeName,
        /// The node that it left.
        from: NodeName,
    },
    /// All nodes answered, and none has it.
    Nowhere,
    /// Not all nodes answered, for this reason, and none of the others has it.
    Unknown(String),
}

/// How it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or stands frozen for a moment.
    Runs,
    /// It is being moved to that node.
    Moving(NodeName),
    /// Its container was made and has never run: whoever was to start it ended before.
    Made,
    /// Its container does not run any more.
    Ended,
}

/// What something that did not work belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The service.
    Service,
    /// Its stand-in.
    StandIn,
}

/// Something that did not work, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it belongs to.
    pub of: Part,
    /// In a word.
    pub reason: &'static str,
    /// In a line.
    pub message: String,
}

/// All that is known of one object at a look.
#[derive(Debug, Clone)]
pub struct Look {
    /// The object.
    pub object: MigratableService,
    /// What it describes, or why it can't be honoured.
    pub described: Result<Described, Vec<Refusal>>,
    /// The node that it would be started on first, were it started now; an error where there is none for it.
    pub place: Result<NodeName, String>,
    /// Where its service is.
    pub whereabouts: Whereabouts,
    /// The pod that stands for it.
    pub stand_in: Option<Pod>,
    /// A digest of what the stand-in should be told, where it can be made.
    pub tells: Option<String>,
    /// What did not work the last time.
    pub trouble: Option<Trouble>,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Keep the object until its service is gone.
    Hold,
    /// Let the object go.
    Free,
    /// Say this of it.
    Tell(Box<MigratableServiceStatus>),
    /// Start the service there, for the first time.
    Start(NodeName),
    /// End the service, and remove what it had.
    Remove(NodeName),
    /// Tell its stand-in where agents are, and what it is to do.
    TellStandIn,
    /// Make its stand-in.
    MakeStandIn,
    /// Remove the stand-in of this UID.
    RemoveStandIn(String),
}

impl Look {
    /// What did not work of a part.
    pub fn trouble_of(&self, part: Part) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.of == part)
    }

    /// Whether it has been started from another template than it has now.
    pub fn is_outdated(&self) -> bool {
        let said = self.object.said();
        said.started && said.template.is_some_and(|template| template != self.object.digest())
    }

    /// Whether something is bound to change soon.
    pub fn waits(&self) -> bool {
        let said = self.object.said();
        let ready = self.stand_in.as_ref().is_some_and(is_ready);
        self.object.is_to_go()
            || self.described.is_ok() && (!said.started || !ready && !self.has_ended())
            || matches!(self.whereabouts, Whereabouts::On(_, Standing::Moving(_)))
    }

    /// Whether the service has ended for good.
    fn has_ended(&self) -> bool {
        let always = self.described.as_ref().is_ok_and(|described| {
            described.service.run.as_ref().is_none_or(|run| run.restart == Restart::Always)
        });
        matches!(self.whereabouts, Whereabouts::On(_, Standing::Ended)) && !always
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|one| one.type_ == "Ready").any(|one| one.status == "True")
}

/// What is to be done of one object. What comes of it is seen at the next look.
pub fn reconcile(look: &Look, now: Timestamp) -> Vec<Step> {
    let object = &look.object;
    let said = object.said();
    if object.is_to_go() {
        return if object.is_held() { leaving(look, now) } else { Vec::new() };
    }
    if look.described.is_ok() && !object.is_held() {
        return vec![Step::Hold];
    }
    let tell = due(look, now).map(|status| Step::Tell(Box::new(status)));
    let start = look.described.is_ok().then(|| start(look, &said)).flatten();
    // Already while it is started: what it writes first is to be heard too.
    let stand_in = if said.first_on.is_some() { stand_in(look, &said) } else { Vec::new() };
    tell.into_iter().chain(start).chain(stand_in).collect()
}

/// Starts it, once it has been said where.
fn start(look: &Look, said: &MigratableServiceStatus) -> Option<Step> {
    let first_on = said.first_on.as_ref()?;
    let current = said.template.as_deref() == Some(&look.object.digest());
    let there = match &look.whereabouts {
        Whereabouts::Nowhere => true,
        Whereabouts::On(node, Standing::Made) => node.as_str() == first_on,
        _ => false,
    };
    let due = !said.started && current && there;
    due.then(|| Step::Start(NodeName::from(first_on.as_str())))
}

/// Sees to it that something stands for it, and knows what it has to.
fn stand_in(look: &Look, said: &MigratableServiceStatus) -> Vec<Step> {
    if look.described.is_err() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if look.tells.is_some() && look.tells != said.told {
        steps.push(Step::TellStandIn);
    }
    let Some(pod) = &look.stand_in else {
        // Of what has ended its pod may have been cleared away; it would end again at once.
        if !look.has_ended() {
            steps.push(Step::MakeStandIn);
        }
        return steps;
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let over = matches!(phase, Some("Succeeded" | "Failed"));
    let made_from = pod.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE));
    // One of a template that is not in force stands for what was started, and stays.
    let other = !look.is_outdated() && made_from != Some(&look.object.digest());
    let stays = over && look.has_ended();
    if (over || other) && !stays && pod.metadata.deletion_timestamp.is_none() {
        steps.extend(pod.metadata.uid.clone().map(Step::RemoveStandIn));
    }
    steps
}

/// Ends it, its stand-in first, and lets the object go.
fn leaving(look: &Look, now: Timestamp) -> Vec<Step> {
    let said = look.object.said();
    if let Some(pod) = &look.stand_in {
        let uid = pod.metadata.uid.clone().filter(|_| pod.metadata.deletion_timestamp.is_none());
        return uid.map(Step::RemoveStandIn).into_iter().collect();
    }
    // What it never had started is not its own: somebody else's service may have that name.
    if said.first_on.is_none() {
        return vec![Step::Free];
    }
    let tell = due(look, now).map(|status| Step::Tell(Box::new(status)));
    let next = match &look.whereabouts {
        Whereabouts::Nowhere => Some(Step::Free),
        Whereabouts::On(_, Standing::Moving(_)) | Whereabouts::Held { .. } | Whereabouts::Unknown(_) => None,
        Whereabouts::On(node, _) => Some(Step::Remove(node.clone())),
    };
    tell.into_iter().chain(next).collect()
}
