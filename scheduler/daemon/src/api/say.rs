//! Words that change something. Whoever says one has the token, says who they are, and is kept with it.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use sterna_core::directive::{Ask, Directive, Place};

use super::Api;
use super::ask::waiting;
use super::error::ApiError;
use super::token::Allowed;
use super::view::{Heard, Said, SaidOfPlace, SaidOfService, Waiting, directed};
use crate::history::approval::{Answer as Approved, Step};

type Answer<T> = Result<Json<T>, ApiError>;
type Body<T> = Result<Json<T>, JsonRejection>;

/// Names and reasons are for people to read.
const LONGEST: usize = 500;

/// Approve a plan that waits: the next look, which begins at once, carries it out if what it was made from still holds.
#[utoipa::path(post, path = "/api/v1/approvals/{id}", params(("id" = i64, Path, description = "The number of its decision")), request_body = Said, responses((status = OK, body = Waiting), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn approve(
    State(api): State<Api>,
    _: Allowed,
    id: Result<Path<i64>, PathRejection>,
    said: Body<Said>,
) -> Answer<Waiting> {
    let (Path(id), Json(said)) = (id?, said?);
    let (by, _) = words(said.by, said.reason)?;
    let next = "GET /api/v1/approvals shows which plan waits, if any";
    match api.history.approve(id, by, api.clock.now()).await? {
        Approved::Approved => api.desk.ring(),
        Approved::Unknown => {
            return Err(ApiError::unknown(format!("no plan {id} was put up for approval"), next));
        }
        Approved::Over(step) => {
            let message = match step {
                Step::Approved => format!("plan {id} is approved already"),
                Step::Begun => format!("plan {id} was carried out already"),
                Step::Refused | Step::Superseded | Step::Expired => {
                    format!("plan {id} does not wait any more: it is {}", step.name())
                }
            };
            return Err(ApiError::conflict(message, next));
        }
    }
    Ok(Json(waiting(&api, id).await?))
}

/// Nothing is moved until `resume`.
#[utoipa::path(post, path = "/api/v1/pause", request_body = Said, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn pause(State(api): State<Api>, _: Allowed, said: Body<Said>) -> Answer<Heard> {
    let Json(said) = said?;
    hear(&api, Ask::Pause, true, said).await
}

/// Moves are made again.
#[utoipa::path(post, path = "/api/v1/resume", request_body = Said, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn resume(State(api): State<Api>, _: Allowed, said: Body<Said>) -> Answer<Heard> {
    let Json(said) = said?;
    hear(&api, Ask::Pause, false, said).await
}

/// Nothing is moved to a node or site; what is there may stay.
#[utoipa::path(post, path = "/api/v1/cordon", request_body = SaidOfPlace, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn cordon(State(api): State<Api>, _: Allowed, said: Body<SaidOfPlace>) -> Answer<Heard> {
    let (place, said) = place(said?.0)?;
    hear(&api, Ask::Cordon { place }, true, said).await
}

/// A node or site may be moved to again.
#[utoipa::path(post, path = "/api/v1/uncordon", request_body = SaidOfPlace, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn uncordon(State(api): State<Api>, _: Allowed, said: Body<SaidOfPlace>) -> Answer<Heard> {
    let (place, said) = place(said?.0)?;
    hear(&api, Ask::Cordon { place }, false, said).await
}

/// Services leave a node or site, and nothing is moved to it.
#[utoipa::path(post, path = "/api/v1/drain", request_body = SaidOfPlace, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn drain(State(api): State<Api>, _: Allowed, said: Body<SaidOfPlace>) -> Answer<Heard> {
    let (place, said) = place(said?.0)?;
    hear(&api, Ask::Drain { place }, true, said).await
}

/// A node or site is used again, unless the inventory drains it.
#[utoipa::path(post, path = "/api/v1/undrain", request_body = SaidOfPlace, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn undrain(State(api): State<Api>, _: Allowed, said: Body<SaidOfPlace>) -> Answer<Heard> {
    let (place, said) = place(said?.0)?;
    hear(&api, Ask::Drain { place }, false, said).await
}

/// A service stays where it is.
#[utoipa::path(post, path = "/api/v1/optout", request_body = SaidOfService, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn opt_out(State(api): State<Api>, _: Allowed, said: Body<SaidOfService>) -> Answer<Heard> {
    let (ask, said) = service(said?.0);
    hear(&api, ask, true, said).await
}

/// A service may be moved again.
#[utoipa::path(post, path = "/api/v1/optin", request_body = SaidOfService, responses((status = OK, body = Heard), (status = "default", body = ApiError)), security(("token" = [])))]
pub(super) async fn opt_in(State(api): State<Api>, _: Allowed, said: Body<SaidOfService>) -> Answer<Heard> {
    let (ask, said) = service(said?.0);
    hear(&api, ask, false, said).await
}

async fn hear(api: &Api, ask: Ask, given: bool, said: Said) -> Answer<Heard> {
    known(api, &ask, given)?;
    let (by, reason) = words(said.by, said.reason)?;
    let directive = Directive { ask, by, at: api.clock.now(), reason };
    tracing::info!(ask = %directive.ask, by = directive.by, given, "directed");
    let changed = api.history.direct(directive, given).await?;
    if changed {
        api.desk.ring();
    }
    Ok(Json(Heard { changed, directives: directed(&api.history.directives().await?) }))
}

/// A word may be taken back also of what the inventory does not have any more.
fn known(api: &Api, ask: &Ask, given: bool) -> Result<(), ApiError> {
    let continuum = api.desk.standing().continuum;
    let next = "GET /api/v1/status lists nodes, sites and services";
    match ask {
        Ask::Cordon { place } | Ask::Drain { place } if given && !place.is_in(&continuum) => {
            Err(ApiError::unknown(format!("the inventory has no {place}"), next))
        }
        Ask::OptOut { service } if given && !continuum.services.contains_key(service) => {
            Err(ApiError::unknown(format!("the inventory has no service `{service}`"), next))
        }
        _ => Ok(()),
    }
}

fn place(said: SaidOfPlace) -> Result<(Place, Said), ApiError> {
    let SaidOfPlace { node, site, by, reason } = said;
    let place = match (node, site) {
        (Some(node), None) => Place::Node(node.as_str().into()),
        (None, Some(site)) => Place::Site(site.as_str().into()),
        _ => {
            return Err(ApiError::invalid(
                "it is of one node or of one site",
                "give either `node` or `site`",
            ));
        }
    };
    Ok((place, Said { by, reason }))
}

fn service(said: SaidOfService) -> (Ask, Said) {
    let SaidOfService { service, by, reason } = said;
    (Ask::OptOut { service: service.as_str().into() }, Said { by, reason })
}

/// Who and why, as they are kept.
fn words(by: String, reason: Option<String>) -> Result<(String, Option<String>), ApiError> {
    let by = by.trim().to_owned();
    let reason = reason.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if by.is_empty() {
        return Err(ApiError::invalid("`by` is empty", "say who you are: it is kept with what you say"));
    }
    for text in [Some(&by), reason.as_ref()].into_iter().flatten() {
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            let message = "`by` and `reason` are one line of at most 500 bytes each";
            return Err(ApiError::invalid(message, "say it shorter"));
        }
    }
    Ok((by, reason))
}
