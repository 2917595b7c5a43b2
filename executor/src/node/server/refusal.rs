//! Calls that are refused: with which status, in which words.

use std::error::Error;
use std::io;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bollard::errors::Error as BollardError;

use crate::engine::docker::EngineError;
use crate::error_chain::chain;
use crate::migration::holding::Refusal as RuledOut;
use crate::node::api::Problem;
use crate::node::arrival::ArrivalError;
use crate::node::precheck::bounds::OutOfBounds;
use crate::node::running::OrderError;
use crate::node::store::StoreError;

/// Most characters of a refusal's words.
const WORDS: usize = 2000;

/// A call that was refused.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // What was said may be repeated in it.
        let error = match self.1.char_indices().nth(WORDS) {
            Some((end, _)) => format!("{} …", &self.1[..end]),
            None => self.1,
        };
        (self.0, Json(Problem { error })).into_response()
    }
}

macro_rules! refusal_from {
    ($($error:ty => $status:expr),+ $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self($status, chain(&error))
            }
        }
    )+};
}

refusal_from! {
    StoreError => StatusCode::INTERNAL_SERVER_ERROR,
    OrderError => StatusCode::CONFLICT,
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            _ if timed_out(&error) => StatusCode::REQUEST_TIMEOUT,
            EngineError::NoService(_) => StatusCode::NOT_FOUND,
            EngineError::Malformed(_) => StatusCode::BAD_REQUEST,
            // It answered that it can't be done: that lies with the call.
            EngineError::Engine {
                source: BollardError::DockerResponseServerError { status_code, .. },
                ..
            } if (400..500).contains(status_code) => StatusCode::CONFLICT,
            // So does what no registry gives.
            EngineError::Pull { .. } => StatusCode::CONFLICT,
            EngineError::Engine { .. } | EngineError::Late { .. } | EngineError::Silent { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self(status, chain(&error))
    }
}

/// Whether something did not arrive in time.
fn timed_out(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.filter_map(|error| error.downcast_ref::<io::Error>()).any(is_timeout)
}

/// An error of the system may hold another one, which is not among its sources.
fn is_timeout(error: &io::Error) -> bool {
    let inner = || error.get_ref().is_some_and(|inner| timed_out(inner));
    error.kind() == io::ErrorKind::TimedOut || inner()
}

impl From<ArrivalError> for Refusal {
    fn from(error: ArrivalError) -> Self {
        let status = match &error {
            _ if timed_out(&error) => StatusCode::REQUEST_TIMEOUT,
            ArrivalError::Busy(_) | ArrivalError::Receiving { .. } => StatusCode::TOO_MANY_REQUESTS,
            ArrivalError::Certificate(_) => StatusCode::FORBIDDEN,
            ArrivalError::Refused { refusal: RuledOut::Unknown, .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::CONFLICT,
        };
        Self(status, chain(&error))
    }
}

impl From<OutOfBounds> for Refusal {
    fn from(error: OutOfBounds) -> Self {
        Self(StatusCode::BAD_REQUEST, chain(&error))
    }
}

/// Carries a call through to its end, also when the caller goes away: a container that is made for a call that nobody waits
/// for must still be known to belong to its migration, and one that is made to be started must be.
pub(super) async fn whole<T: Send + 'static, E: Into<Refusal> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    match tokio::spawn(work).await {
        Ok(done) => done.map(Json).map_err(Into::into),
        Err(error) => {
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("the call was cut short: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_few_whatever_was_said() {
        let answer = Refusal(StatusCode::BAD_REQUEST, "é".repeat(100_000)).into_response();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.error.chars().count(), WORDS + 2);
    }

    #[test]
    fn a_stream_that_stood_still_is_told_from_one_that_is_wrong() {
        let status = |kind: io::ErrorKind| {
            let source = io::Error::other(io::Error::from(kind));
            Refusal::from(ArrivalError::File { what: "x".into(), source }).0
        };
        assert_eq!(status(io::ErrorKind::TimedOut), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(status(io::ErrorKind::InvalidData), StatusCode::CONFLICT);
    }
}
