//! Answers that are errors: what is wrong, and what to do next.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::history::HistoryError;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    /// A word that programs can rely on.
    #[schema(value_type = String)]
    pub error: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub next: String,
}

impl ApiError {
    fn new(
        status: StatusCode,
        error: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { status, error, message: message.into(), next: next.into() }
    }

    /// Nobody may change anything here.
    pub fn read_only() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "read-only",
            "this scheduler has no token, so nobody may change anything over its API",
            "name a file with a token as `token_file` under [api] in the settings, or let the scheduler write its state folder",
        )
    }

    /// The token is missing or wrong.
    pub fn unauthorized(given: bool) -> Self {
        let message =
            if given { "the token is not the right one" } else { "this needs the scheduler's token" };
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            message,
            "send the header `Authorization: Bearer TOKEN`; the token is in the file `api-token` of the continuum's state folder, or in `token_file` of the settings",
        )
    }

    /// There is nothing of that name or number.
    pub fn unknown(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", what, next)
    }

    /// It can't be done as things are.
    pub fn conflict(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message, next)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, next)
    }

    /// There is no such path.
    pub fn path() -> Self {
        Self::unknown("there is nothing at this path", "see /api/v1/openapi.json for what there is")
    }

    /// The path has other methods.
    pub fn method() -> Self {
        let message = "this path is not asked with this method";
        let next = "see /api/v1/openapi.json for what there is";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", message, next)
    }

    /// It took too long.
    pub fn slow() -> Self {
        let message = "no answer was found in time";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "slow", message, "ask for less, or later")
    }

    /// Somebody else looks far back.
    pub fn busy() -> Self {
        let message = "another report is being made";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message, "ask again in a moment")
    }

    /// As many listen as may.
    pub fn crowded() -> Self {
        let message = "as many listen to events as may";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "crowded", message, "close another stream, or ask later")
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        tracing::error!(%error, "the API can't use the history");
        let next = "see the scheduler's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "history", error.to_string(), next)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let next =
            "send a JSON object with `content-type: application/json`; /api/v1/openapi.json has its keys";
        Self::new(rejection.status(), "invalid", rejection.body_text(), next)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text(), "/api/v1/openapi.json has the parameters")
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text(), "/api/v1/openapi.json has the paths")
    }
}
