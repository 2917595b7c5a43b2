//! Cycles and migrations as spans.

use std::collections::BTreeMap;
use std::fmt::Debug;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::*;

/// A span that has ended.
#[derive(Debug, Clone)]
struct Ended {
    name: &'static str,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// Keeps spans, in the order in which they end.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Ended>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions_mut().remove::<Fields>().unwrap_or_default().0;
        let parent = span.parent().map(|parent| parent.name());
        self.0.lock().unwrap().push(Ended { name: span.name(), parent, fields });
    }
}

/// The spans of one cycle in mode `auto`.
async fn spans(fate: Fate) -> Vec<Ended> {
    // Of one subscriber alone, a thread that has none decides for all threads that nobody wants a span.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let keeper = Keeper::default();
    let subscriber = tracing_subscriber::registry().with(keeper.clone());
    let _here = tracing::subscriber::set_default(subscriber);
    bench(Mode::Auto, fate, real()).run(1).await;
    keeper.0.lock().unwrap().clone()
}

fn of<'a>(spans: &'a [Ended], name: &str) -> Vec<&'a Ended> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_migration_is_a_trace_of_its_own_with_a_span_for_each_phase() {
    let spans = spans(Fate::Moves).await;
    for part in ["agents", "observe", "decide"] {
        assert_eq!(of(&spans, part)[0].parent, Some("look"), "{part}");
    }
    let migration = of(&spans, "migration")[0];
    assert_eq!(migration.parent, None);
    let field = |name: &str| migration.fields[name].as_str();
    assert_eq!((field("service"), field("from"), field("to")), ("shop", "a1", "b1"));
    assert_eq!((field("decision"), field("outcome")), ("1", "moved"));
    assert!(!migration.fields.contains_key("otel.status_code"));
    let phases = of(&spans, "phase");
    assert!(phases.iter().all(|phase| phase.parent == Some("migration")));
    // The fake tells of one phase alone.
    assert_eq!((&*phases[0].fields["phase"], &*phases[0].fields["bytes"]), ("synced", "3145728"));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_marked_where_it_failed() {
    for (fate, outcome) in
        [(Fate::RollsBack, "rolled-back"), (Fate::Refused, "not-taken"), (Fate::LosesSight, "lost-sight")]
    {
        let spans = spans(fate).await;
        let migration = of(&spans, "migration")[0];
        assert_eq!(migration.fields["outcome"], outcome);
        assert_eq!(migration.fields["otel.status_code"], "ERROR");
        let last = of(&spans, "phase").pop().unwrap().clone();
        assert_eq!(
            (last.fields["phase"].as_str(), last.fields["otel.status_code"].as_str()),
            ("frozen", "ERROR")
        );
    }
}
