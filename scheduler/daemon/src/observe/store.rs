//! What the daemon asks of a metrics store, and how the asking can fail.

use std::collections::BTreeMap;
use std::future::Future;

use jiff::Timestamp;
use sterna_policies::quantity::Millis;
use thiserror::Error;

/// A store that evaluates PromQL expressions.
pub trait MetricStore: Send + Sync {
    /// The store's own clock. All queries of one cycle are evaluated at one such instant, so that a difference between its
    /// clock and ours can't make fresh numbers look old.
    fn now(&self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// Evaluates an expression at an instant. Samples older than `lookback` at that instant are not used by instant
    /// selectors, where the store can be told so (older servers ignore it); ages are judged apart in any case.
    fn instant(
        &self,
        query: &str,
        at: Timestamp,
        lookback: Millis,
    ) -> impl Future<Output = Result<Answer, StoreError>> + Send;
}

/// An instant vector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The series.
    pub rows: Vec<Row>,
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its labels, without the metric's name.
    pub labels: BTreeMap<String, String>,
    /// Its value as the store gave it: may be NaN or infinite. `None` for a native histogram.
    pub value: Option<f64>,
    /// The instant the store gives with the value. Prometheus gives the evaluation time here, not the sample's own.
    pub at: Timestamp,
}

/// The metrics store could not be asked, or did not answer with numbers. The texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The address can't be used.
    #[error(
        "`{url}` is not an address of a Prometheus server ({reason}); write it like http://127.0.0.1:9090"
    )]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered.
    #[error(
        "Prometheus at {url} can't be reached ({reason}); check that it runs and that `prometheus.url` is right"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The answer took too long.
    #[error(
        "Prometheus at {url} did not answer within {after}; make the query cheaper, record it by a rule, or raise \
         `prometheus.timeout`"
    )]
    Timeout {
        /// Where.
        url: String,
        /// How long was waited.
        after: Millis,
    },
    /// The server refused the query.
    #[error("Prometheus refused the query ({kind}): {message}")]
    Refused {
        /// Kind of error, as the server names it.
        kind: String,
        /// What it said.
        message: String,
    },
    /// Something else than Prometheus answered.
    #[error("what answers at {url} is not a Prometheus API ({reason}); check `prometheus.url` and proxies")]
    NotPrometheus {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The answer came with warnings, so it may be partial.
    #[error("the store answered with warnings, so its numbers may be partial: {0}")]
    Partial(String),
    /// More than any query for sites and user groups should give.
    #[error("the answer has more than {most}; aggregate in the query, such as `max by (site) (…)`")]
    TooMuch {
        /// What was read at most.
        most: String,
    },
    /// The expression does not give an instant vector.
    #[error(
        "the query gives a {0} and not an instant vector; select by labels or aggregate so that each site has one value"
    )]
    NotVector(String),
}
