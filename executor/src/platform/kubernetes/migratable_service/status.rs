//! What an object should say.

use jiff::Timestamp;
use sterna_core::continuum::NodeName;

use super::fields::Refusal;
use super::reconcile::{Look, Part, Standing, Whereabouts};
use super::resource::MigratableServiceStatus;
use crate::platform::kubernetes::object_condition::Word;

/// Whether all that its template says is honoured.
pub const ACCEPTED: &str = "Accepted";
/// Whether the service runs.
pub const STARTED: &str = "Started";
/// Whether clients may come.
pub const READY: &str = "Ready";

/// What may be said in a line at most.
const LINE: usize = 2048;

fn word(kind: &'static str, status: Option<bool>, reason: &str, message: impl Into<String>) -> Word {
    Word::new(kind, status, reason, &message.into(), LINE)
}

/// What an object should say; `None` where it says that already.
pub fn due(look: &Look, now: Timestamp) -> Option<MigratableServiceStatus> {
    let before = look.object.said();
    let mut wanted = before.clone();
    let accepted = accepted(look);
    if look.described.is_ok() && !before.started {
        // The choice is made once: a second one might start it twice.
        if wanted.first_on.is_none() && look.whereabouts == Whereabouts::Nowhere {
            wanted.first_on = look.place.as_ref().ok().map(ToString::to_string);
        }
        wanted.template = wanted.first_on.as_ref().map(|_| look.object.digest());
        wanted.started = before.first_on.is_some()
            && match &look.whereabouts {
                Whereabouts::On(_, standing) => *standing != Standing::Made,
                Whereabouts::Held { .. } => true,
                Whereabouts::Nowhere | Whereabouts::Unknown(_) => false,
            };
    }
    wanted.node = match &look.whereabouts {
        _ if wanted.first_on.is_none() => None,
        Whereabouts::On(node, _) => Some(node.to_string()),
        Whereabouts::Nowhere => None,
        Whereabouts::Unknown(_) | Whereabouts::Held { .. } => before.node.clone(),
    };
    let (phase, started) = started(look, &before, &wanted);
    wanted.phase = Some(phase.to_owned());
    let words = [accepted, started, ready(look, wanted.first_on.is_some())];
    let generation = look.object.metadata.generation;
    wanted.conditions =
        words.into_iter().map(|word| word.condition(&before.conditions, generation, now)).collect();
    (look.object.status.as_ref() != Some(&wanted)).then_some(wanted)
}

fn accepted(look: &Look) -> Word {
    match &look.described {
        Err(refusals) => {
            let list = |refusal: &Refusal| format!("{}: {}", refusal.path, refusal.reason);
            let all = refusals.iter().map(list).collect::<Vec<_>>().join("; ");
            let goes_on =
                if look.object.said().started { "; what was started before runs on as it was" } else { "" };
            word(ACCEPTED, Some(false), "Refused", format!("{all}{goes_on}"))
        }
        Ok(_) if look.is_outdated() => {
            let message = "the template is another one than the service was started from, which runs on; delete this object and \
                make it anew to start it from this one, empty";
            word(ACCEPTED, Some(false), "NotApplied", message)
        }
        Ok(_) => word(ACCEPTED, Some(true), "Honoured", "all that the template says is honoured"),
    }
}

fn started(
    look: &Look,
    before: &MigratableServiceStatus,
    wanted: &MigratableServiceStatus,
) -> (&'static str, Word) {
    let say = |phase, status, reason: &str, message: String| (phase, word(STARTED, status, reason, message));
    if look.object.is_to_go() {
        let message = match &look.whereabouts {
            Whereabouts::Unknown(why) => format!("it is ended once all nodes answer: {why}"),
            Whereabouts::Held { at, from } => format!("it is ended once it runs: {}", held(at, from)),
            Whereabouts::On(_, Standing::Moving(to)) => format!("it is ended once it has moved to `{to}`"),
            Whereabouts::On(node, _) => match look.trouble_of(Part::Service) {
                Some(trouble) => trouble.message.clone(),
                None => format!("it is being ended on `{node}`"),
            },
            Whereabouts::Nowhere => "no node has it any more".to_owned(),
        };
        return say("Leaving", Some(false), "Leaving", message);
    }
    if !wanted.started {
        if look.described.is_err() {
            return say(
                "Refused",
                Some(false),
                "Refused",
                "what can't be honoured is not started".to_owned(),
            );
        }
        if let Some(trouble) = look.trouble_of(Part::Service) {
            return say("Pending", Some(false), trouble.reason, trouble.message.clone());
        }
        return match (&look.whereabouts, &look.place, &wanted.first_on) {
            (Whereabouts::Unknown(why), _, _) => {
                let message =
                    format!("it is started once all nodes answer, so that it is not started twice: {why}");
                say("Pending", Some(false), "NodesAreSilent", message)
            }
            (Whereabouts::Held { at, from }, _, _) => {
                let message = format!(
                    "a service of this name is there already, and is not started twice: {}",
                    held(at, from)
                );
                say("Pending", Some(false), "Held", message)
            }
            (Whereabouts::On(node, _), _, None) => {
                let message = format!(
                    "a service of this name is on `{node}` already and was not started by this object: give this one another name"
                );
                say("Pending", Some(false), "Exists", message)
            }
            (_, Err(why), None) => say("Pending", Some(false), "NoPlace", why.clone()),
            (_, _, Some(on)) => say("Pending", Some(false), "Starting", format!("it is started on `{on}`")),
            (_, Ok(on), None) => say("Pending", Some(false), "Starting", format!("it is started on `{on}`")),
        };
    }
    match &look.whereabouts {
        Whereabouts::On(node, Standing::Runs) => {
            say("Running", Some(true), "Running", format!("it runs on `{node}`"))
        }
        Whereabouts::On(node, Standing::Moving(to)) => {
            say("Moving", Some(true), "Moving", format!("it is being moved from `{node}` to `{to}`"))
        }
        Whereabouts::On(node, Standing::Ended | Standing::Made) => {
            say("Ended", Some(false), "Ended", format!("its container on `{node}` does not run"))
        }
        Whereabouts::Held { at, from } => say("Held", Some(false), "Held", held(at, from)),
        Whereabouts::Nowhere => {
            // Where it was last is known at the first look alone.
            if let Some(said) =
                before.conditions.iter().find(|one| one.type_ == STARTED && one.reason == "Lost")
            {
                return say("Lost", Some(false), "Lost", said.message.clone());
            }
            let last = before.node.as_deref().or(before.first_on.as_deref()).unwrap_or("none");
            let message = format!(
                "no node has it; `{last}` had it last, and what was not on its way when that ended is lost. Delete this object and \
                 make it anew to start it empty"
            );
            say("Lost", Some(false), "Lost", message)
        }
        Whereabouts::Unknown(why) => {
            let message = format!("no node that answers has it: {why}");
            say("Unknown", None, "NodesAreSilent", message)
        }
    }
}

fn held(at: &NodeName, from: &NodeName) -> String {
    format!(
        "`{at}` holds it, on its way from `{from}`. The nodes settle that by themselves once they reach each other; if `{from}` is gone \
         for good, `sterna fence {from}` has it run there"
    )
}

/// As the cluster sees its stand-in.
fn ready(look: &Look, placed: bool) -> Word {
    let Some(pod) = &look.stand_in else {
        if let Some(trouble) = look.trouble_of(Part::StandIn) {
            return word(READY, Some(false), trouble.reason, trouble.message.clone());
        }
        let message = if placed { "its stand-in is about to be made" } else { "it has no node yet" };
        return word(READY, Some(false), "NoStandIn", message);
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.rfind(|one| one.type_ == "Ready") {
        Some(one) if one.status == "True" => word(READY, Some(true), "Ready", format!("pod {name} is ready")),
        _ => {
            let waiting = status.into_iter().flat_map(|status| {
                status.init_container_statuses.iter().chain(&status.container_statuses).flatten()
            });
            let waits = waiting.filter_map(|one| one.state.as_ref()?.waiting.as_ref());
            let why = waits.filter_map(|one| one.reason.as_deref()).next_back().unwrap_or("NotReady");
            word(READY, Some(false), "NotReady", format!("pod {name} is not ready: {why}"))
        }
    }
}
