//! How things stand, from what was seen last and from the history.

use sterna_core::directive::Directives;
use sterna_core::explain;

use super::view::{
    Decided, Health, MoveView, NodeView, PolicyView, RefusedFile, ServiceView, Status, Waiting, directed,
};
use crate::control::desk::{Governs, Seen, Standing};
use crate::history::{HistoryError, HistoryStore};

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
    let seen = standing.newest();
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
        policies: standing.policies.iter().map(governs).collect(),
        health,
        nodes: nodes.collect(),
        services: services.collect(),
        under_way: history.open_migrations().await?,
        directives: directed(&directives),
        approvals: waiting(history).await?,
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

fn governs(one: &Governs) -> PolicyView {
    let decision = one.seen.as_deref().map(decided);
    PolicyView { policy: one.policy.clone(), mode: one.mode.name().to_owned(), decision }
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

/// The plans that wait for approval.
async fn waiting(history: &HistoryStore) -> Result<Vec<Waiting>, HistoryError> {
    let mut waiting = Vec::new();
    for proposal in history.open_proposals().await? {
        if let Some(recorded) = history.decision(proposal.id).await? {
            waiting.push(Waiting::new(proposal, &recorded.decision, Vec::new()));
        }
    }
    Ok(waiting)
}
