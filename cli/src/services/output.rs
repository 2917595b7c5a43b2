//! `sterna services logs`: what a service writes, wherever it is.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::{Stream, unfold};
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use sterna_executor::fleet::Fleet;
use sterna_executor::identity::{Credentials, Role};
use sterna_executor::node::api::ServiceFacts;
use sterna_executor::traffic::announcement::{Held, Standing};
use sterna_executor::traffic::follow::{Agent, Announcer as _};
use sterna_executor::traffic::output::{Agents, FollowError, Place, Printer, Printing as _, follow_output};
use sterna_executor::traffic::roster::Roster;
use tokio::sync::mpsc;

use crate::wiring::StateArgs;

/// Pause between two looks whether the service has ended, and between two tries to hear an agent.
const LOOK: Duration = Duration::from_millis(500);
/// An agent says something every five seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// What a look finds of a service.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It is owned there.
    At(Place),
    /// As above, and it has ended there for good.
    EndedAt(Place),
    /// No node has it.
    Nowhere,
    /// It is between two nodes, or a node that may have it does not answer.
    Unsure,
}

/// Prints all that a service has written where it is; with `follow` also what it is going to write, there and elsewhere.
pub async fn logs(
    continuum: Continuum,
    state: &StateArgs,
    service: &ServiceName,
    follow: bool,
) -> anyhow::Result<ExitCode> {
    let authority = state.authority(&continuum)?;
    let fleet = Fleet::connect(&continuum, &authority).await?;
    let mut printer = Printer { out: tokio::io::stdout(), err: tokio::io::stderr() };
    if follow {
        let (continuum, front) = (Arc::new(continuum), authority.issue(&Role::Front)?);
        let places = places(&fleet, &continuum, &front, service);
        let agents = Agents::new(service.clone(), Arc::clone(&continuum), front.clone());
        ended_by_reader(follow_output(places, &agents, &mut printer).await)?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = match look(&fleet, service).await {
        (Seen::At(place) | Seen::EndedAt(place), _) => place,
        (_, Some(why)) => anyhow::bail!("`{service}` is not found, and not every node answers: {why}"),
        (_, None) => anyhow::bail!("`{service}` stands on no node: `sterna services status` shows what does"),
    };
    let pieces = fleet.agent(&place.node)?.logs_at(service, Some(place.epoch), false).await?;
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece.with_context(|| format!("what `{service}` wrote on `{}` broke off", place.node))?;
        if let Err(error) = printer.print(piece).await {
            ended_by_reader(Err(error.into()))?;
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever reads may have had enough.
fn ended_by_reader(end: Result<(), FollowError>) -> Result<(), FollowError> {
    match end {
        Err(FollowError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Where a service is, as its agents tell it, until it has ended.
fn places(
    fleet: &Fleet,
    continuum: &Arc<Continuum>,
    front: &Credentials,
    service: &ServiceName,
) -> impl Stream<Item = Place> + Send {
    let (tell, told) = mpsc::unbounded_channel();
    let roster = Arc::new(Roster::Inventory(Arc::clone(continuum)));
    for node in continuum.nodes.keys() {
        let agent = Agent::new(node.clone(), Arc::clone(&roster), front.clone());
        tokio::spawn(listen(agent, service.clone(), tell.clone()));
    }
    let words = continuum.nodes.keys().map(|node| (node.clone(), Word::Silent)).collect();
    let state = Heard { words, last: None, told };
    unfold(Some(state), move |state| async move {
        let mut state = state?;
        loop {
            let heard = tokio::time::timeout(LOOK, state.told.recv()).await;
            if let Ok(Some((node, word))) = &heard {
                state.words.insert(node.clone(), *word);
            }
            if let Some(place) = state.moved() {
                return Some((place, Some(state)));
            }
            // Between two nodes it may be told of by neither, so they are asked.
            if heard.is_err() && state.may_have_ended() {
                match look(fleet, service).await.0 {
                    Seen::EndedAt(place) => return Some((place, None)),
                    Seen::Nowhere => return None,
                    Seen::At(_) | Seen::Unsure => {}
                }
            }
        }
    })
}

/// What the agent of a node says of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It is not heard.
    Silent,
    /// It does not have it.
    Nothing,
    /// It has it at this epoch.
    Has(u64),
    /// As above, and it has ended there.
    Ended(u64),
}

/// What all of them said last.
struct Heard {
    words: BTreeMap<NodeName, Word>,
    /// The last place that was told on.
    last: Option<u64>,
    told: mpsc::UnboundedReceiver<(NodeName, Word)>,
}

impl Heard {
    /// Where the service is, if that is another place than before.
    fn moved(&mut self) -> Option<Place> {
        let places = self.words.iter().filter_map(|(node, word)| match word {
            Word::Has(epoch) | Word::Ended(epoch) => Some(Place { node: node.clone(), epoch: *epoch }),
            Word::Silent | Word::Nothing => None,
        });
        let place = places.max_by_key(|place| place.epoch)?;
        if self.last.is_some_and(|last| place.epoch <= last) {
            return None;
        }
        self.last = Some(place.epoch);
        Some(place)
    }

    /// Whether nobody has it running and everybody is heard.
    fn may_have_ended(&self) -> bool {
        self.words.values().all(|word| matches!(word, Word::Nothing | Word::Ended(_)))
    }
}

/// Listens to an agent, for ever, and answers it as a front that sends nothing.
async fn listen(agent: Agent, service: ServiceName, tell: mpsc::UnboundedSender<(NodeName, Word)>) {
    let services = [service];
    let [service] = &services;
    while !tell.is_closed() {
        if let Ok(mut heard) = agent.listen(&services).await {
            while let Ok(Some(Ok(said))) = tokio::time::timeout(SILENCE, heard.said.next()).await {
                let word = match (said.services.get(service), said.ended.get(service)) {
                    (Some(one), _) => Word::Has(one.epoch),
                    (None, Some(ended)) => Word::Ended(ended.epoch),
                    (None, None) => Word::Nothing,
                };
                let freeze = match said.services.get(service).map(|one| one.standing) {
                    Some(Standing::Stops(migration)) => Some((service.clone(), migration)),
                    _ => None,
                };
                // It waits for that no longer than a tenth of a second.
                let _ = agent.held(&Held { listener: said.listener, freeze }).await;
                if tell.send((agent.node().clone(), word)).is_err() {
                    return;
                }
            }
        }
        let _ = tell.send((agent.node().clone(), Word::Silent));
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks every agent; also why one does not answer, where one does not.
async fn look(fleet: &Fleet, service: &ServiceName) -> (Seen, Option<String>) {
    let answers = fleet.agents().map(|(node, agent)| async move {
        let said = match agent {
            Ok(agent) => agent.services().await.map_err(|error| error.to_string()),
            Err(why) => Err(why.to_owned()),
        };
        (node.clone(), said)
    });
    let (mut silent, mut claims) = (None, Vec::new());
    for (node, said) in futures_util::future::join_all(answers).await {
        match said {
            Ok(all) => claims.extend(
                all.into_iter()
                    .filter(|facts| facts.service == *service)
                    .map(|facts| (Place { node: node.clone(), epoch: facts.epoch }, facts)),
            ),
            Err(why) => silent = Some(why),
        }
    }
    (judge(claims, silent.is_none()), silent)
}

/// What follows from the nodes that name the service.
fn judge(claims: Vec<(Place, ServiceFacts)>, all_answer: bool) -> Seen {
    let leaves = claims.iter().any(|(_, facts)| facts.committed.is_some());
    let owner = claims.into_iter().filter(|(_, facts)| facts.committed.is_none());
    match owner.max_by_key(|(place, _)| place.epoch) {
        Some((place, facts)) if facts.ended.is_some() && all_answer => Seen::EndedAt(place),
        Some((place, _)) => Seen::At(place),
        None if all_answer && !leaves => Seen::Nowhere,
        None => Seen::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use sterna_executor::migration::order::MigrationId;
    use sterna_policies::quantity::Bytes;

    use super::*;

    fn claim(node: &str, epoch: u64, committed: bool, ended: Option<i64>) -> (Place, ServiceFacts) {
        let facts = ServiceFacts {
            service: "s".into(),
            container: String::new(),
            image: String::new(),
            running: ended.is_none(),
            ended,
            frozen: false,
            memory: Bytes::ZERO,
            epoch,
            leaving_for: None,
            committed: committed.then(MigrationId::new),
        };
        (Place { node: node.into(), epoch }, facts)
    }

    #[test]
    fn each_place_is_told_on_once_and_the_end_is_looked_for_where_nobody_has_it_running() {
        let (_tell, told) = mpsc::unbounded_channel();
        let mut heard = Heard {
            words: BTreeMap::from([("a".into(), Word::Has(1)), ("b".into(), Word::Silent)]),
            last: None,
            told,
        };
        let place = |node: &str, epoch| Some(Place { node: node.into(), epoch });
        assert_eq!((heard.moved(), heard.moved()), (place("a", 1), None));
        heard.words.insert("b".into(), Word::Has(2));
        assert_eq!((heard.moved(), heard.moved(), heard.may_have_ended()), (place("b", 2), None, false));
        heard.words = BTreeMap::from([("a".into(), Word::Silent), ("b".into(), Word::Ended(2))]);
        assert!(!heard.may_have_ended(), "it may run where nobody is heard");
        heard.words.insert("a".into(), Word::Nothing);
        assert!(heard.may_have_ended() && heard.moved().is_none());
    }

    #[test]
    fn the_highest_epoch_has_it_and_who_has_let_go_does_not() {
        let place = |node: &str, epoch| Place { node: node.into(), epoch };
        let both = vec![claim("a", 1, false, None), claim("b", 2, false, None)];
        assert_eq!(judge(both, true), Seen::At(place("b", 2)));
        assert_eq!(judge(vec![claim("a", 1, true, None)], true), Seen::Unsure);
        assert_eq!(judge(vec![], false), Seen::Unsure);
        assert_eq!(judge(vec![], true), Seen::Nowhere);
        assert_eq!(judge(vec![claim("a", 1, false, Some(3))], true), Seen::EndedAt(place("a", 1)));
        assert_eq!(
            judge(vec![claim("a", 1, false, Some(3))], false),
            Seen::At(place("a", 1)),
            "it may run elsewhere"
        );
    }
}
