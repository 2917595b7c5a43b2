//! A collector on loopback that reads what comes as the protocol has it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use prost::Message as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// The messages of OTLP, of which only what is looked at here.
mod otlp {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub resource_spans: Vec<ResourceSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub scope_spans: Vec<ScopeSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub spans: Vec<Span>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub name: String,
        #[prost(fixed64, tag = "7")]
        pub start: u64,
        #[prost(fixed64, tag = "8")]
        pub end: u64,
        #[prost(message, repeated, tag = "9")]
        pub attributes: Vec<KeyValue>,
        #[prost(message, repeated, tag = "13")]
        pub links: Vec<Link>,
        #[prost(message, optional, tag = "15")]
        pub status: Option<Status>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Link {
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(int32, tag = "3")]
        pub code: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AnyValue {
        #[prost(string, optional, tag = "1")]
        pub text: Option<String>,
    }
}

#[derive(Default)]
struct Collector {
    resources: Mutex<Vec<otlp::Resource>>,
    spans: Mutex<Vec<otlp::Span>>,
}

async fn take(State(collector): State<Arc<Collector>>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    for of_resource in otlp::Request::decode(body).unwrap().resource_spans {
        collector.resources.lock().unwrap().extend(of_resource.resource);
        let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        collector.spans.lock().unwrap().extend(spans);
    }
}

/// What arrives of the spans that `make` makes.
fn sent(sample: f64, make: impl FnOnce()) -> Arc<Collector> {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Arc::new(Collector::default());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&collector));
    runtime.spawn(async move { axum::serve(listener, routes).await });
    let endpoint = format!("http://{address}/").parse().unwrap();
    let (layer, spans) = layer(&Traces { endpoint, sample }).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), make);
    drop(spans);
    collector
}

#[test]
fn a_migration_arrives_as_a_trace_of_its_own_that_is_linked_to_its_cycle() {
    let collector = sent(1.0, || {
        let cycle = tracing::info_span!("cycle", n = 1);
        let migration =
            tracing::info_span!(parent: None, "migration", service = "shop", outcome = tracing::field::Empty);
        migration.follows_from(&cycle);
        let phase = tracing::info_span!(parent: &migration, "phase", otel.name = "planned");
        phase.record("otel.name", "dumped");
        migration.record("outcome", "moved");
        let failed = tracing::info_span!("failed", otel.status_code = tracing::field::Empty);
        failed.record("otel.status_code", "ERROR");
        tracing::info_span!(target: "hyper", "of_others");
        tracing::debug_span!("too_fine");
    });
    let spans = collector.spans.lock().unwrap();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (cycle, migration, phase) = (named("cycle"), named("migration"), named("dumped"));
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert_ne!(cycle.trace_id, migration.trace_id);
    assert!(migration.parent_span_id.is_empty());
    assert_eq!(migration.links[0].span_id, cycle.span_id);
    assert_eq!((&phase.trace_id, &phase.parent_span_id), (&migration.trace_id, &migration.span_id));
    assert!(migration.start <= phase.start && phase.end <= migration.end);
    let text = |attributes: &[otlp::KeyValue], key: &str| {
        let found = attributes.iter().find(|one| one.key == key).unwrap();
        found.value.as_ref().unwrap().text.clone().unwrap()
    };
    assert_eq!(text(&migration.attributes, "service"), "shop");
    assert_eq!(text(&migration.attributes, "outcome"), "moved");
    assert_eq!(named("failed").status.as_ref().unwrap().code, 2);
    assert!(spans.iter().all(|span| span.attributes.iter().all(|one| !one.key.starts_with("code."))));
    assert_eq!(text(&collector.resources.lock().unwrap()[0].attributes, "service.name"), "sterna");
}

#[test]
fn a_sample_of_nothing_sends_nothing() {
    let collector = sent(0.0, || drop(tracing::info_span!("cycle")));
    assert_eq!(collector.spans.lock().unwrap().len(), 0);
}

#[test]
fn a_collector_that_is_not_there_keeps_nobody_waiting_for_long() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let (layer, spans) = layer(&Traces { endpoint, sample: 1.0 }).unwrap();
    let began = std::time::Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        (0..5000).for_each(|_| drop(tracing::info_span!("cycle")));
    });
    drop(spans);
    assert!(began.elapsed() < LAST_WORDS + Duration::from_secs(5), "{:?}", began.elapsed());
}
