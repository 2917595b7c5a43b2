//! Logging to standard error, and, in builds with the feature `otlp`, spans to an OpenTelemetry collector.

use std::io::{self, Write};

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

/// Begins each line that stands among those of a service.
const OWN: &str = "sterna: ";

/// What else is written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing but what a command says itself.
    Nothing,
    /// What a service writes: our own lines are left out unless `STERNA_LOG` asks for some.
    Service,
}

/// Logs to standard error, at `info` unless `STERNA_LOG` says otherwise, and sends spans where `traces` says so.
///
/// # Errors
/// When there can be no client for the collector.
pub fn start(json: bool, traces: Option<&Traces>, beside: Beside) -> anyhow::Result<Sending> {
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        let (layer, spans) = otlp::layer(traces)?;
        tracing_subscriber::registry().with(layer).with(lines(json, beside)).init();
        return Ok(Sending { _spans: Some(spans) });
    }
    // Without the feature `run` refuses it.
    let _not_sent = traces;
    tracing_subscriber::registry().with(lines::<Registry>(json, beside)).init();
    Ok(Sending {
        #[cfg(feature = "otlp")]
        _spans: None,
    })
}

/// Lines on standard error.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(
    json: bool,
    beside: Beside,
) -> Box<dyn Layer<S> + Send + Sync> {
    let otherwise = match beside {
        // What fails there is said by ourselves, with the node that it concerns.
        Beside::Nothing => "info,kube_client=off",
        Beside::Service => "off",
    };
    let filter = EnvFilter::try_from_env("STERNA_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match (json, beside) {
        (true, _) => lines.json().with_filter(filter).boxed(),
        (false, Beside::Nothing) => lines.with_target(false).with_filter(filter).boxed(),
        (false, Beside::Service) => {
            lines.with_writer(|| Marked).with_ansi(false).with_target(false).with_filter(filter).boxed()
        }
    }
}

/// Marks lines as our own. Each comes as one piece.
struct Marked;

impl Write for Marked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&[OWN.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
