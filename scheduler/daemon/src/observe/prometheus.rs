//! Prometheus as the metrics store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_http_query::Client;
use serde::Deserialize;
use sterna_policies::quantity::Millis;

use super::store::{Answer, MetricStore, Row, StoreError};

/// More series than this in one answer are refused: a query for sites and user groups never has as many.
const MOST_SERIES: usize = 100_000;
/// A longer answer is not read to its end.
const MOST_BYTES: usize = 64 << 20;

/// A Prometheus server, or what speaks its query API.
#[derive(Clone)]
pub struct Prometheus {
    client: Client,
    url: String,
    timeout: Millis,
}

impl Prometheus {
    /// A client for the server at `url`; nothing is asked yet. A rustls provider must have been installed in the process.
    ///
    /// # Errors
    /// When the address can't be used.
    pub fn new(url: &str, timeout: Millis) -> Result<Self, StoreError> {
        let address = |reason: String| StoreError::Address { url: url.to_owned(), reason };
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(address("no http:// or https:// in front".to_owned()));
        }
        let http = reqwest::Client::builder()
            .timeout(timeout.to_duration())
            .connect_timeout(timeout.to_duration())
            .build()
            .map_err(|error| address(cause(&error)))?;
        let client = Client::from(http, url).map_err(|error| address(error.to_string()))?;
        Ok(Self { client, url: url.to_owned(), timeout })
    }

    async fn ask(
        &self,
        query: &str,
        at: Option<Timestamp>,
        lookback: Option<Millis>,
    ) -> Result<Data, StoreError> {
        // The crate's own typed answer drops `warnings`, takes whole seconds only, and fails as a whole on a native
        // histogram; so its raw response is read here.
        let mut request = self
            .client
            .query(query)
            .timeout(self.timeout.as_micros() / 1_000_000)
            // A server that knows it says in a warning that it left some out; of others the answer is counted.
            .query("limit", MOST_SERIES.to_string());
        if let Some(at) = at {
            request = request.query("time", seconds(at));
        }
        if let Some(lookback) = lookback {
            request = request.query("lookback_delta", format!("{}ms", lookback.as_micros() / 1_000_000));
        }
        let response = request.post_raw().await.map_err(|error| match error {
            prometheus_http_query::Error::Client(error) => self.transport(&error),
            other => self.not_prometheus(other.to_string()),
        })?;
        let status = response.status();
        let body = self.body(response).await?;
        let reply: Reply = serde_json::from_slice(&body)
            .map_err(|_| self.not_prometheus(format!("HTTP status {status}, body is not its JSON")))?;
        match reply {
            Reply::Success { data, warnings, infos } => {
                for info in infos {
                    tracing::debug!(query, info, "note from Prometheus");
                }
                if warnings.is_empty() { Ok(data) } else { Err(StoreError::Partial(warnings.join("; "))) }
            }
            Reply::Error { error_type, error } if error_type == "timeout" => {
                tracing::debug!(error, "query timeout");
                Err(StoreError::Timeout { url: self.url.clone(), after: self.timeout })
            }
            Reply::Error { error_type, error } => {
                Err(StoreError::Refused { kind: error_type, message: error })
            }
        }
    }

    /// The whole answer, as long as that is not longer than any answer should be.
    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(&error))? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(StoreError::TooMuch { most: format!("{} MiB", MOST_BYTES >> 20) });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn transport(&self, error: &(dyn std::error::Error + 'static)) -> StoreError {
        let mut next = Some(error);
        while let Some(one) = next {
            if one.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
                return StoreError::Timeout { url: self.url.clone(), after: self.timeout };
            }
            next = one.source();
        }
        StoreError::Unreachable { url: self.url.clone(), reason: cause(error) }
    }

    fn not_prometheus(&self, reason: String) -> StoreError {
        StoreError::NotPrometheus { url: self.url.clone(), reason }
    }
}

impl MetricStore for Prometheus {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        match self.ask("time()", None, None).await? {
            Data::Scalar(Point(_, value)) => value
                .parse::<f64>()
                .ok()
                .and_then(instant)
                .ok_or_else(|| self.not_prometheus(format!("its time is `{value}`"))),
            other => Err(StoreError::NotVector(other.kind().to_owned())),
        }
    }

    async fn instant(&self, query: &str, at: Timestamp, lookback: Millis) -> Result<Answer, StoreError> {
        let series = match self.ask(query, Some(at), Some(lookback)).await? {
            Data::Vector(series) => series,
            other => return Err(StoreError::NotVector(other.kind().to_owned())),
        };
        if series.len() > MOST_SERIES {
            return Err(StoreError::TooMuch { most: format!("{MOST_SERIES} series") });
        }
        let rows = series
            .into_iter()
            .map(|Series { metric: mut labels, value, histogram: _ }| {
                labels.remove("__name__");
                let at = value.as_ref().and_then(|point| instant(point.0)).unwrap_or(at);
                // Prometheus writes NaN and infinities as text that Rust reads too.
                let value = value.and_then(|point| point.1.parse().ok());
                Row { labels, value, at }
            })
            .collect();
        Ok(Answer { rows })
    }
}

fn instant(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1e3).round() as i64).ok()
}

/// Seconds with three decimals, as exact as Prometheus counts.
fn seconds(at: Timestamp) -> String {
    let millis = at.as_millisecond();
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

/// The innermost two causes: the outer ones say only that a request failed, and repeat the address.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    let last = &causes[causes.len().saturating_sub(2)..];
    match last {
        [outer, inner] if !outer.contains(inner.as_str()) => format!("{outer}: {inner}"),
        [.., inner] if causes.len() > 1 => inner.clone(),
        _ => error.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Reply {
    Success {
        data: Data,
        #[serde(default)]
        warnings: Vec<String>,
        #[serde(default)]
        infos: Vec<String>,
    },
    Error {
        #[serde(rename = "errorType")]
        error_type: String,
        error: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar(Point),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

impl Data {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Vector(_) => "vector",
            Self::Scalar(_) => "scalar",
            Self::Matrix(_) => "range vector",
            Self::String(_) => "string",
        }
    }
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: Option<Point>,
    #[serde(default)]
    #[expect(dead_code, reason = "named so that a series with a native histogram is still read")]
    histogram: Option<serde::de::IgnoredAny>,
}

/// Time in seconds, and the value as text.
#[derive(Deserialize)]
struct Point(f64, String);

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
