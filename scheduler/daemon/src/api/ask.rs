//! Questions.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sterna_core::explain;
use sterna_policies::quantity::Millis;
use utoipa::IntoParams;

use super::Api;
use super::error::ApiError;
use super::view::{DecisionView, Health, MigrationView, Status, Waiting};
use crate::history::approval::Proposal;
use crate::history::list::{DecisionLine, MigrationLine};
use crate::history::summary::Summary;
use crate::history::{HistoryError, HistoryStore};

type Answer<T> = Result<Json<T>, ApiError>;

/// Without a limit so many are told.
const LIMIT: u32 = 100;
/// And never more.
const MOST: u32 = 10_000;

/// Which of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only newer ones: a span before now, such as `7d`, or an instant, such as `2026-01-31T00:00:00Z`. Left out: all.
    since: Option<String>,
    /// At most so many, the newest; at most 10000. Left out: 100.
    limit: Option<u32>,
    /// Of decisions only those with moves. Left out: false.
    moves: Option<bool>,
}

/// Since when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// A span before now, such as `7d`, or an instant, such as `2026-01-31T00:00:00Z`. Left out: `7d`.
    since: Option<String>,
}

/// An instant, or a span before now.
///
/// # Errors
/// What is wrong with the text.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let span: Millis = text.parse().map_err(|_| {
        format!("`{text}` is neither a span such as \"7d\" nor an instant such as \"2026-01-31T00:00:00Z\"")
    })?;
    if span < Millis::ZERO {
        return Err(format!("`{text}` lies in the future"));
    }
    Ok(now.checked_sub(SignedDuration::from_nanos(span.as_micros())).unwrap_or(Timestamp::MIN))
}

fn read_since(text: Option<&str>, api: &Api) -> Result<Option<Timestamp>, ApiError> {
    let read = |text| since(text, api.clock.now());
    text.map(read).transpose().map_err(|message| ApiError::invalid(message, "write `since` like `7d`"))
}

/// How things stand.
#[utoipa::path(get, path = "/api/v1/status", responses((status = OK, body = Status), (status = "default", body = ApiError)))]
pub(super) async fn status(State(api): State<Api>) -> Answer<Status> {
    let ready = api.telemetry.ready();
    let health = Health { ready: ready.is_ok(), reason: ready.err() };
    Ok(Json(super::status::status(&api.history, &api.desk.standing(), Some(health)).await?))
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", params(Which), responses((status = OK, body = Vec<DecisionLine>), (status = "default", body = ApiError)))]
pub(super) async fn decisions(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<DecisionLine>> {
    let Query(which) = which?;
    let since = read_since(which.since.as_deref(), &api)?.unwrap_or(Timestamp::MIN);
    let limit = which.limit.unwrap_or(LIMIT).min(MOST);
    Ok(Json(api.history.decisions(since, which.moves.unwrap_or(false), limit).await?))
}

/// One decision, with everything that went into it.
#[utoipa::path(get, path = "/api/v1/decisions/{id}", params(("id" = i64, Path, description = "Its number")), responses((status = OK, body = DecisionView), (status = "default", body = ApiError)))]
pub(super) async fn decision(
    State(api): State<Api>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<DecisionView> {
    let Path(id) = id?;
    let recorded = api.history.decision(id).await?.ok_or_else(|| {
        ApiError::unknown(format!("there is no decision {id}"), "GET /api/v1/decisions lists them")
    })?;
    let text = explain::text(&recorded.decision);
    let migrations = api.history.migrations_of(id).await?;
    let recorded = serde_json::to_value(recorded)
        .map_err(|error| ApiError::invalid(error.to_string(), "report this bug"))?;
    Ok(Json(DecisionView { id, text, recorded, migrations }))
}

/// Migrations, newest first.
#[utoipa::path(get, path = "/api/v1/migrations", params(Which), responses((status = OK, body = Vec<MigrationLine>), (status = "default", body = ApiError)))]
pub(super) async fn migrations(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<MigrationLine>> {
    let Query(which) = which?;
    let since = read_since(which.since.as_deref(), &api)?.unwrap_or(Timestamp::MIN);
    Ok(Json(api.history.migrations(since, which.limit.unwrap_or(LIMIT).min(MOST)).await?))
}

/// One migration, with its phases.
#[utoipa::path(get, path = "/api/v1/migrations/{id}", params(("id" = String, Path, description = "Its id")), responses((status = OK, body = MigrationView), (status = "default", body = ApiError)))]
pub(super) async fn migration(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<MigrationView> {
    let Path(id) = id?;
    let (line, report) = api.history.migration(id.clone()).await?.ok_or_else(|| {
        ApiError::unknown(format!("there is no migration `{id}`"), "GET /api/v1/migrations lists them")
    })?;
    Ok(Json(MigrationView { line, report }))
}

/// What moving brought, predicted against measured.
#[utoipa::path(get, path = "/api/v1/report", params(Since), responses((status = OK, body = Summary), (status = "default", body = ApiError)))]
pub(super) async fn report(
    State(api): State<Api>,
    which: Result<Query<Since>, QueryRejection>,
) -> Answer<Summary> {
    let Query(which) = which?;
    let since = read_since(Some(which.since.as_deref().unwrap_or("7d")), &api)?.unwrap_or(Timestamp::MIN);
    let alone = Arc::clone(&api.looking_back).try_acquire_owned().map_err(|_| ApiError::busy())?;
    // With a connection of its own, so that words to pause or approve don't wait for it.
    let folder = api.history.path().parent().map(ToOwned::to_owned).unwrap_or_default();
    let history = HistoryStore::read(&folder)?.unwrap_or(api.history);
    let now = api.clock.now();
    let look = async move {
        let summary = history.summary(since, now).await;
        drop(alone);
        summary
    };
    // It goes on to its end where nobody waits for it any more, and only then may the next one begin.
    Ok(Json(tokio::spawn(look).await.map_err(|_| HistoryError::Ending)??))
}

/// Plans that were put up for approval, newest first.
#[utoipa::path(get, path = "/api/v1/approvals", params(Which), responses((status = OK, body = Vec<Proposal>), (status = "default", body = ApiError)))]
pub(super) async fn approvals(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<Proposal>> {
    let Query(which) = which?;
    let since = read_since(which.since.as_deref(), &api)?.unwrap_or(Timestamp::MIN);
    let mut found = api.history.proposals(which.limit.unwrap_or(LIMIT).min(MOST)).await?;
    found.retain(|one| one.at >= since);
    Ok(Json(found))
}

/// A plan that was put up for approval, and what became of it.
#[utoipa::path(get, path = "/api/v1/approvals/{id}", params(("id" = i64, Path, description = "The number of its decision")), responses((status = OK, body = Waiting), (status = "default", body = ApiError)))]
pub(super) async fn approval(
    State(api): State<Api>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<Waiting> {
    let Path(id) = id?;
    Ok(Json(waiting(&api, id).await?))
}

pub(super) async fn waiting(api: &Api, id: i64) -> Result<Waiting, ApiError> {
    let unknown = || {
        let next = "GET /api/v1/approvals lists them";
        ApiError::unknown(format!("no plan {id} was put up for approval"), next)
    };
    let proposal = api.history.proposal(id).await?.ok_or_else(unknown)?;
    let recorded = api.history.decision(id).await?.ok_or_else(unknown)?;
    let migrations = api.history.migrations_of(id).await?;
    Ok(Waiting::new(proposal, &recorded.decision, migrations))
}
