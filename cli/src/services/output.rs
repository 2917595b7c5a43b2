//! `sterna services logs`: what a service writes, wherever it is.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::{Stream, unfold};
use sterna_core::continuum::{Continuum, ServiceName};
use sterna_executor::fleet::Fleet;
use sterna_executor::identity::Role;
use sterna_executor::node::api::ServiceFacts;
use sterna_executor::traffic::output::{Agents, Place, Printer, Printing as _, follow_output};

use crate::wiring::StateArgs;

/// Pause between two looks where the service is.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row must find that it has ended: between two nodes it may be seen at neither.
const ENDED: usize = 3;

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
        let agents = Agents::new(service.clone(), Arc::new(continuum), authority.issue(&Role::Scheduler)?);
        ended_by_reader(follow_output(places(&fleet, service), &agents, &mut printer).await)?;
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
fn ended_by_reader(
    end: Result<(), sterna_executor::traffic::output::FollowError>,
) -> Result<(), sterna_executor::traffic::output::FollowError> {
    use sterna_executor::traffic::output::FollowError::Print;
    match end {
        Err(Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Where a service is, as often as it is looked for, until it has ended.
fn places<'a>(fleet: &'a Fleet, service: &'a ServiceName) -> impl Stream<Item = Place> + Send + 'a {
    unfold((true, 0), move |(first, mut ended)| async move {
        let mut first = first;
        loop {
            if !first {
                tokio::time::sleep(LOOK).await;
            }
            first = false;
            match look(fleet, service).await.0 {
                Seen::At(place) => return Some((place, (false, 0))),
                Seen::EndedAt(place) => {
                    ended += 1;
                    return (ended <= ENDED).then_some((place, (false, ended)));
                }
                Seen::Nowhere => {
                    ended += 1;
                    if ended > ENDED {
                        return None;
                    }
                }
                Seen::Unsure => ended = 0,
            }
        }
    })
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
