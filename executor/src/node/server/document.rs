//! The JSON document of a call, which must be small and arrive soon.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::limits::{DOCUMENT, DOCUMENT_TIME};
use super::refusal::Refusal;

/// What was said.
pub(super) struct Document<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Document<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = Json::<T>::from_request(request, state);
        match tokio::time::timeout(DOCUMENT_TIME, read).await {
            Ok(Ok(Json(document))) => Ok(Self(document)),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Refusal(rejection.status(), format!("the document exceeds {DOCUMENT} bytes")))
            }
            Ok(Err(rejection)) => Err(Refusal(rejection.status(), rejection.body_text())),
            Err(_) => {
                let text = format!("the document did not arrive within {} s", DOCUMENT_TIME.as_secs());
                Err(Refusal(StatusCode::REQUEST_TIMEOUT, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::super::limits::around;
    use super::*;

    async fn answer(body: Body) -> (StatusCode, String) {
        let router = around(Router::new().route("/", post(|_: Document<Vec<String>>| async {})));
        let request = Request::post("/").header("content-type", "application/json").body(body).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let status = answer.status();
        let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_document_is_read_and_a_large_one_refused() {
        let of = |length: usize| Body::from(format!("[\"{}\"]", "a".repeat(length - 4)));
        assert_eq!(answer(of(DOCUMENT)).await.0, StatusCode::OK);
        let (status, text) = answer(of(DOCUMENT + 1)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text.contains("262144"), "{text}");
    }

    #[tokio::test]
    async fn nonsense_is_refused_in_few_words() {
        // What is no JSON, and what is another document.
        for (bad, status) in [("", 400), ("{", 422), ("[[[[", 422), ("[1]", 422), ("[\"a\"", 400)] {
            assert_eq!(answer(Body::from(bad)).await.0.as_u16(), status, "{bad}");
        }
        assert!(answer(Body::from("[".repeat(100_000))).await.0.is_client_error());
        let long = format!("{{\"{0}\": \"{0}\"}}", "a".repeat(100_000));
        let (status, text) = answer(Body::from(long)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text.len() < 4096, "{}", text.len());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_arrive_is_not_waited_for() {
        let stalls = futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
        let (status, text) = answer(Body::from_stream(stalls)).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert!(text.contains("within 15 s"), "{text}");
    }
}
