//! What a migration model results in.

use sterna_core::plan::MoveCost;
use sterna_policies::quantity::{Bytes, Millis};

/// How the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// It runs as ever.
    Runs,
    /// It stands still.
    Stands,
    /// It runs, and waits for its memory over the link.
    Waits,
}

/// What is done in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// What the image lacks at the destination is fetched.
    Pull,
    /// Both ends are checked and made ready.
    Prepare,
    /// A round of memory is sent while the service runs; counted from 0.
    Round(u32),
    /// The service is stopped.
    Stop,
    /// It is frozen, proved, committed, released.
    Around,
    /// Its memory is written down.
    Dump,
    /// What is left is sent.
    Send,
    /// It is restored, or started.
    Start,
    /// Its memory is fetched by the destination.
    Fetch,
    /// What is done is undone.
    Undo,
    /// What is left over is removed.
    Clean,
}

/// From when to when, since the start of the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub from: Millis,
    /// To.
    pub to: Millis,
}

impl Span {
    /// How long that is.
    pub fn length(self) -> Millis {
        self.to.saturating_sub(self.from)
    }

    /// What lies in both; `None` where nothing does.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What is done.
    pub work: Work,
    /// From when to when.
    pub span: Span,
    /// What crosses the link.
    pub sent: Bytes,
    /// How the service stands meanwhile.
    pub service: Service,
}

/// How one migration goes: stages without a gap, from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// While the source holds what the service asks for: from the start.
    pub source: Span,
    /// While the destination does; to the end, and beyond where the service has arrived.
    pub destination: Span,
    /// While the source holds a copy of the memory besides.
    pub image: Option<Span>,
    /// From when on there is no way back; `None` where there never was none.
    pub no_return: Option<Millis>,
}

/// Puts stages one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Stages {
    stages: Vec<Stage>,
    now: Millis,
}

impl Stages {
    /// The next stage. One of no length in which nothing is sent is left out.
    pub(super) fn then(&mut self, work: Work, took: Millis, sent: Bytes, service: Service) -> &mut Self {
        let span = Span { from: self.now, to: self.now.saturating_add(took.max(Millis::ZERO)) };
        if span.length() > Millis::ZERO || sent > Bytes::ZERO {
            self.stages.push(Stage { work, span, sent, service });
        }
        self.now = span.to;
        self
    }

    /// Now.
    pub(super) fn now(&self) -> Millis {
        self.now
    }

    /// The stages.
    pub(super) fn stages(self) -> Vec<Stage> {
        self.stages
    }
}

impl Passage {
    fn while_it(&self, how: Service) -> Millis {
        let spans = self.stages.iter().filter(|stage| stage.service == how).map(|stage| stage.span.length());
        spans.fold(Millis::ZERO, Millis::saturating_add)
    }

    /// How long the service stands still.
    pub fn downtime(&self) -> Millis {
        self.while_it(Service::Stands)
    }

    /// How long it runs and waits for its memory.
    pub fn waits(&self) -> Millis {
        self.while_it(Service::Waits)
    }

    /// From start to end.
    pub fn duration(&self) -> Millis {
        self.stages.last().map_or(Millis::ZERO, |stage| stage.span.to)
    }

    /// What crosses the link.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.stages.iter().fold(0, |sum, stage| stage.sent.0.saturating_add(sum)))
    }

    /// What of it has crossed by then; within a stage evenly.
    pub fn sent_by(&self, at: Millis) -> Bytes {
        let nanos = |span: Millis| u128::from(span.as_micros().unsigned_abs());
        let sent =
            self.stages.iter().filter(|stage| stage.span.from < at || stage.span.to <= at).map(|stage| {
                let whole = nanos(stage.span.length());
                let over = nanos(at.min(stage.span.to).saturating_sub(stage.span.from));
                // A stage of no length is over once it has begun.
                let sent = u128::from(stage.sent.0);
                (sent * over).checked_div(whole).unwrap_or(sent)
            });
        Bytes(u64::try_from(sent.sum::<u128>()).unwrap_or(u64::MAX))
    }

    /// From when to when the service stands still; `None` where it never does.
    pub fn standstill(&self) -> Option<Span> {
        let mut still =
            self.stages.iter().filter(|stage| stage.service == Service::Stands).map(|stage| stage.span);
        let first = still.next()?;
        Some(Span { from: first.from, to: still.next_back().map_or(first.to, |last| last.to) })
    }

    /// While both ends hold what the service asks for.
    pub fn doubled(&self) -> Option<Span> {
        self.source.overlap(self.destination)
    }

    /// As predictions and reports have it.
    pub fn cost(&self) -> MoveCost {
        MoveCost { downtime: self.downtime(), duration: self.duration(), bytes: self.bytes() }
    }
}

#[cfg(test)]
pub(super) mod checks {
    //! What holds of every passage.

    use super::*;

    /// Stages without a gap, nothing before the start, capacity held as long as the service needs it.
    pub fn sound(passage: &Passage) {
        let mut now = Millis::ZERO;
        for stage in &passage.stages {
            assert_eq!(stage.span.from, now, "{passage:?}");
            assert!(stage.span.to >= now, "{passage:?}");
            now = stage.span.to;
        }
        assert_eq!(passage.source.from, Millis::ZERO);
        assert!(passage.source.to <= now && passage.destination.to == now, "{passage:?}");
        assert!(passage.destination.from <= passage.source.to, "nobody holds it meanwhile: {passage:?}");
        assert!(passage.no_return.is_none_or(|at| at <= now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_overlap_where_both_are() {
        let span = |from: i64, to: i64| Span { from: Millis::from_micros(from), to: Millis::from_micros(to) };
        assert_eq!(span(0, 5).overlap(span(3, 9)), Some(span(3, 5)));
        assert_eq!(span(0, 5).overlap(span(5, 9)), None);
    }

    #[test]
    fn what_has_crossed_goes_by_stages() {
        let ms = |millis: i64| Millis::from_micros(millis * 1_000_000);
        let mut stages = Stages::default();
        stages.then(Work::Prepare, ms(100), Bytes::ZERO, Service::Runs);
        stages.then(Work::Round(0), ms(1000), Bytes(500), Service::Runs);
        stages.then(Work::Send, ms(100), Bytes(200), Service::Stands);
        stages.then(Work::Start, ms(50), Bytes::ZERO, Service::Stands);
        stages.then(Work::Fetch, ms(0), Bytes(7), Service::Waits);
        let end = Span { from: ms(0), to: stages.now() };
        let passage =
            Passage { source: end, destination: end, image: None, no_return: None, stages: stages.stages() };
        let sent = [0, 100, 600, 1100, 1150, 1200, 1250].map(|at| passage.sent_by(ms(at)).0);
        assert_eq!(sent, [0, 0, 250, 500, 600, 700, 707]);
        assert_eq!(passage.standstill(), Some(Span { from: ms(1100), to: ms(1250) }));
    }
}
