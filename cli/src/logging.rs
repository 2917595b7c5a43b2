//! Logging to standard error, and, in builds with the feature `otlp`, spans to an OpenTelemetry collector.

use sterna_daemon::settings::Traces;
use tracing::Subscriber;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

#[cfg(feature = "otlp")]
mod otlp;

/// Whether this build can send spans.
pub const SENDS_SPANS: bool = cfg!(feature = "otlp");

/// Spans on their way to a collector, if any are sent. What is left is sent when it is dropped.
pub struct Sending {
    #[cfg(feature = "otlp")]
    _spans: Option<otlp::Spans>,
}

/// Logs to standard error, at `info` unless `STERNA_LOG` says otherwise, and sends spans where `traces` says so.
///
/// # Errors
/// When there can be no client for the collector.
pub fn start(json: bool, traces: Option<&Traces>) -> anyhow::Result<Sending> {
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        let (layer, spans) = otlp::layer(traces)?;
        tracing_subscriber::registry().with(layer).with(lines(json)).init();
        return Ok(Sending { _spans: Some(spans) });
    }
    // Without the feature `run` refuses it.
    let _not_sent = traces;
    tracing_subscriber::registry().with(lines::<Registry>(json)).init();
    Ok(Sending {
        #[cfg(feature = "otlp")]
        _spans: None,
    })
}

/// Lines on standard error.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(json: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let filter = EnvFilter::try_from_env("STERNA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        lines.json().with_filter(filter).boxed()
    } else {
        lines.with_target(false).with_filter(filter).boxed()
    }
}
