//! A migration as spans: one for the whole, and in it one for the way to each phase.
//!
//! They are what the agents tell, as it is heard here; the agents log the phases themselves.

use sterna_executor::migration::order::Order;
use sterna_executor::migration::phase::Phase;
use sterna_executor::migration::report::Event;
use tracing::Span;
use tracing::field::Empty;

/// The spans of one migration.
pub(super) struct Trail {
    migration: Span,
    /// The way to the phase that comes next.
    way: Span,
    reached: Option<Phase>,
}

impl Trail {
    /// It begins now. It is a trace of its own, linked to the cycle that ordered it: who looks for a migration finds it alone.
    pub fn begin(order: &Order, decision: i64) -> Self {
        let migration = tracing::info_span!(
            parent: None,
            "migration",
            id = %order.id,
            decision,
            service = %order.service,
            from = %order.from,
            to = %order.to,
            outcome = Empty,
            otel.status_code = Empty,
        );
        migration.follows_from(Span::current());
        let way = way(&migration, Phase::ALL[0]);
        Self { migration, way, reached: None }
    }

    /// The span of the whole.
    pub fn migration(&self) -> Span {
        self.migration.clone()
    }

    /// A sign of life.
    pub fn follow(&mut self, event: &Event) {
        let Event::Reached(record) = event else { return };
        // An agent that was started anew tells the story again.
        if self.reached.is_some_and(|reached| reached >= record.phase) {
            return;
        }
        self.reached = Some(record.phase);
        // Most often it is the one that was expected.
        let name = record.phase.name();
        self.way.record("otel.name", name).record("phase", name);
        self.way.record("took_ms", record.took.as_f64()).record("bytes", record.bytes.0);
        let next = Phase::ALL.into_iter().find(|phase| *phase > record.phase);
        self.way = next.map_or_else(Span::none, |phase| way(&self.migration, phase));
    }

    /// It ended, well or not; the way that was not walked to its end ends too.
    pub fn end(self, outcome: &str, well: bool) {
        self.migration.record("outcome", outcome);
        if !well {
            self.way.record("otel.status_code", "ERROR");
            self.migration.record("otel.status_code", "ERROR");
        }
    }
}

fn way(migration: &Span, phase: Phase) -> Span {
    tracing::info_span!(
        parent: migration,
        "phase",
        otel.name = phase.name(),
        %phase,
        took_ms = Empty,
        bytes = Empty,
        otel.status_code = Empty,
    )
}
