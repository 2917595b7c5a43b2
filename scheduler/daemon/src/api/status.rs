//! How things stand, from what was seen last and from the history.

use sterna_core::directive::Directives;
use sterna_core::explain;

use super::view::{Decided, Health, MoveView, NodeView, RefusedFile, ServiceView, Status, Waiting, directed};
use crate::control::desk::{Seen, Standing};
use crate::history::{HistoryError, HistoryStore};

/// More orders than this are never open.
const MOST: u32 = 1000;

/// How things stand.
///
/// # Errors
/// When the history can't be read.
pub async fn status(
    history: &HistoryStore,
    standing: &Standing,
    health: Option<Health>,
) -> Result<Status, HistoryError> {
    let directives = history.directives().await?;
    let continuum = &*standing.continuum;
    let seen = standing.seen.as_deref();
    let open: Vec<String> = history.open_intents().await?.iter().map(|open| open.id.to_string()).collect();
    let under_way = if open.is_empty() {
        Vec::new()
    } else {
        let lines = history.migrations(jiff::Timestamp::MIN, MOST).await?;
        lines.into_iter().filter(|line| open.contains(&line.id)).collect()
    };
    let nodes = continuum.nodes.iter().map(|(name, about)| NodeView {
        node: name.to_string(),
        site: about.site.to_string(),
        answers: seen.map(|seen| seen.observation.reachable.contains(name)),
        drained: about.drain || directives.drains(continuum, name),
        cordoned: directives.cordons(continuum, name),
    });
    let services = continuum.services.keys().map(|name| ServiceView {
        service: name.to_string(),
        node: seen.and_then(|seen| seen.observation.placement.get(name)).map(ToString::to_string),
        opted_out: is_out(&directives, name),
    });
    Ok(Status {
        continuum: continuum.name.clone(),
        policy: standing.policy.clone(),
        mode: standing.mode.name().to_owned(),
        health,
        decision: seen.map(decided),
        nodes: nodes.collect(),
        services: services.collect(),
        under_way,
        directives: directed(&directives),
        approval: waiting(history).await?,
        refused: standing
            .refused
            .iter()
            .map(|(file, (at, refused))| RefusedFile::new(*file, *at, refused))
            .collect(),
    })
}

fn is_out(directives: &Directives, service: &sterna_core::continuum::ServiceName) -> bool {
    directives.opt_out(service).is_some()
}

fn decided(seen: &Seen) -> Decided {
    Decided {
        id: seen.number,
        at: seen.at,
        verdict: explain::verdict(&seen.decision.report.verdict),
        moves: seen.decision.plan.moves.iter().map(MoveView::from).collect(),
        notes: seen.notes.clone(),
    }
}

/// The plan that waits for approval.
async fn waiting(history: &HistoryStore) -> Result<Option<Waiting>, HistoryError> {
    let Some(proposal) = history.open_proposal().await? else { return Ok(None) };
    let Some(recorded) = history.decision(proposal.id).await? else { return Ok(None) };
    Ok(Some(Waiting::new(proposal, &recorded.decision, Vec::new())))
}
