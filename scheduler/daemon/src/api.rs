//! What others may ask and say over HTTP, under `/api/v1`.
//!
//! Whoever reaches the address may read. Whatever changes something needs the token, so that a page in somebody's browser, or
//! another user of the machine, can't. Every answer is JSON, also an error, which says what to do next.
//!
//! | module | what lives there |
//! |---|---|
//! | [`token`] | who may change something |
//! | [`error`] | answers that are errors |
//! | [`ask`], [`status`] | questions: state, decisions, migrations, what moving brought |
//! | `say` | words that change something: approvals and directives |
//! | [`events`] | what happens, as it happens |
//! | [`view`] | the shapes of the answers |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::error::ApiError;
use self::events::Feed;
use self::token::Token;
use crate::control::desk::Desk;
use crate::control::world::Clock;
use crate::history::HistoryStore;
use crate::telemetry::Telemetry;

pub mod ask;
pub mod error;
pub mod events;
mod say;
pub mod status;
pub mod token;
pub mod view;

/// Nobody has to say more at once.
const LONGEST_BODY: usize = 16 * 1024;
/// An answer takes no longer; a stream of events may.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the API works with.
#[derive(Clone)]
pub struct Api {
    /// What happened.
    pub history: HistoryStore,
    /// What the loop saw last, and its bell.
    pub desk: Arc<Desk>,
    /// Whether the loop works.
    pub telemetry: Arc<Telemetry>,
    /// What happens.
    pub feed: Feed,
    /// Who may change something; `None`: nobody.
    pub token: Option<Token>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who looks far back does so alone, so that many who ask keep nobody waiting.
    pub looking_back: Arc<Semaphore>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sterna",
        description = "What the scheduler sees, decides and does, and what people may say to it. Reading needs nothing; \
            what changes something needs the token as a bearer.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

fn described() -> (Router<Api>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(ask::status))
        .routes(routes!(ask::decisions))
        .routes(routes!(ask::decision))
        .routes(routes!(ask::migrations))
        .routes(routes!(ask::migration))
        .routes(routes!(ask::report))
        .routes(routes!(ask::approvals))
        .routes(routes!(ask::approval, say::approve))
        .routes(routes!(say::pause))
        .routes(routes!(say::resume))
        .routes(routes!(say::cordon))
        .routes(routes!(say::uncordon))
        .routes(routes!(say::drain))
        .routes(routes!(say::undrain))
        .routes(routes!(say::opt_out))
        .routes(routes!(say::opt_in))
        .routes(routes!(events::events))
        .split_for_parts()
}

/// The OpenAPI document, as text.
///
/// # Errors
/// When it can't be written as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    described().1.to_pretty_json()
}

/// The routes.
pub fn routes(api: Api) -> Router {
    let (router, document) = described();
    let document = Arc::new(document);
    let serve = move || async move { Json(document.as_ref().clone()) };
    router
        .route("/api/v1/openapi.json", get(serve))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api)
        .fallback(async || ApiError::path())
}

/// The head of an answer comes in time, or an error does; a stream may go on behind it.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::slow().into_response(),
    }
}

#[cfg(test)]
mod tests;
