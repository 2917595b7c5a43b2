//! Spans to an OpenTelemetry collector, over HTTP in protobuf.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use sterna_daemon::settings::Traces;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::{Layer, Registry};

/// Longest time that the collector may take for one batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// And for what is left at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Nothing longer is read of what it answers.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Spans on their way: what is left is sent when it is dropped. Of a queue that is full, the newest are lost.
pub struct Spans(SdkTracerProvider);

impl Drop for Spans {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// What hands the spans of this program to the collector.
///
/// # Errors
/// When there can be no client for it.
pub fn layer(traces: &Traces) -> anyhow::Result<(Box<dyn Layer<Registry> + Send + Sync>, Spans)> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces.url())
        .with_timeout(PATIENCE)
        .build()?;
    let resource = Resource::builder()
        .with_service_name("sterna")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.sample)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let ours = filter_fn(|metadata| metadata.target().starts_with("sterna"));
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("sterna"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(ours.and(LevelFilter::INFO));
    Ok((layer.boxed(), Spans(provider)))
}

/// Posts batches from the exporter's own thread, which has no runtime.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            // Between two batches nobody would notice that a connection was closed.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { http, runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()? })
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.http.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = std::mem::take(answer.headers_mut());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err("the collector's answer is too long".into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response.body(body.into())?)
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(self.post(request))
    }
}

#[cfg(test)]
mod tests;
