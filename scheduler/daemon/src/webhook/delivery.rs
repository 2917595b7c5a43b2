//! One event on its way to one receiver: the request, its signature, which failures pass.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};
use ring::hmac;
use thiserror::Error;

use super::{Waiting, Webhook, WebhookError};

/// A shorter secret could be guessed.
pub(super) const SHORTEST: usize = 16;

/// How long a receiver may take, and how often it is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// One try.
    pub timeout: Duration,
    /// The pause after the first try; each is twice as long as the one before.
    pub first: Duration,
    /// The longest pause.
    pub last: Duration,
    /// Tries after the first.
    pub again: usize,
}

impl Default for Pace {
    /// A receiver that is started anew is away for a minute or two.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            first: Duration::from_secs(1),
            last: Duration::from_secs(60),
            again: 8,
        }
    }
}

/// Why an event did not arrive. No text of it holds the address, which is often a secret.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The receiver says so.
    #[error("it answers {}", answers(.0))]
    Status(StatusCode),
    /// It can't be reached, or does not answer in time.
    #[error("{0}")]
    Transport(String),
}

fn answers(status: &StatusCode) -> String {
    let more =
        if status.is_redirection() { "; redirects are not followed, name the new address" } else { "" };
    format!("{status}{more}")
}

impl Failure {
    /// Whether it may be over in a moment.
    pub fn passes(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Status(status) => {
                let later =
                    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                status.is_server_error() || later.contains(status)
            }
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::Transport(text)
    }
}

/// Where events are posted to.
pub(super) struct Receiver {
    http: reqwest::Client,
    url: Url,
    key: Option<hmac::Key>,
    pace: Pace,
}

impl Receiver {
    /// Reads the secret; nothing is sent yet.
    pub fn new(webhook: &Webhook, pace: Pace) -> Result<Self, WebhookError> {
        let key = match &webhook.secret_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| WebhookError::Secret { path: path.clone(), source })?;
                let secret = text.trim();
                if secret.len() < SHORTEST {
                    return Err(WebhookError::Short { path: path.clone() });
                }
                Some(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
            }
        };
        let http = reqwest::Client::builder()
            // What is signed for one address is not for another to have.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(pace.timeout)
            .connect_timeout(pace.timeout)
            .user_agent(concat!("sterna/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self { http, url: webhook.url.clone(), key, pace })
    }

    /// Posts an event, again and again where that may help.
    pub async fn deliver(&self, waiting: &Waiting) -> Result<(), Failure> {
        let Pace { first, last, again, .. } = self.pace;
        let pauses = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(last)
            .with_max_times(again)
            .with_jitter();
        (|| self.post(waiting))
            .retry(pauses)
            .when(Failure::passes)
            .notify(|failure, pause| {
                tracing::debug!(delivery = %waiting.id, %failure, ?pause, "a webhook is tried again");
            })
            .await
    }

    async fn post(&self, waiting: &Waiting) -> Result<(), Failure> {
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("sterna-delivery", waiting.id.to_string())
            .header("sterna-event", waiting.kind.name())
            .body(waiting.body.clone());
        if let Some(key) = &self.key {
            request = request.header("sterna-signature", signature(key, &waiting.body));
        }
        // What it answers besides is of no interest and is not read.
        let status = request.send().await?.status();
        if status.is_success() { Ok(()) } else { Err(Failure::Status(status)) }
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
fn signature(key: &hmac::Key, body: &[u8]) -> String {
    let tag = hmac::sign(key, body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_compute() {
        // The second case of RFC 4231.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            signature(&key, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn only_what_may_be_over_in_a_moment_is_tried_again() {
        let passes = |code| Failure::Status(StatusCode::from_u16(code).unwrap()).passes();
        assert!([408, 425, 429, 500, 502, 503, 504].into_iter().all(passes));
        assert!(![301, 307, 400, 401, 403, 404, 410, 413, 422].into_iter().any(passes));
    }
}
