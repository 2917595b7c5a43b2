//! What there is only with the feature `faults`: waiting at points, and doing damage.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes as Data;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use sterna_policies::quantity::{Bytes, Millis};

use super::{Call, Carried, Point};
use crate::migration::forecast::{Forecast, Load};
use crate::migration::machine::{Register, StepError, Steps};
use crate::migration::phase::Phase;
use crate::migration::register::Decision;
use crate::migration::report::Report;
use crate::migration::table::Undo;
use crate::node::api::Part;

/// Where points are armed, in the file system of the agent that gets to them.
pub const FOLDER: &str = "/run/sterna/faults";

const ARMED: &str = "armed";
const REACHED: &str = "reached";
/// Longest time to stand at a point: whoever armed it may have died.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(3);
/// How much of a stream crosses before its connection breaks.
const BREAKS: usize = 32 << 20;

/// Whether this point is armed; then it no longer is, and `reached` says so.
fn take(folder: &Path, point: Point) -> bool {
    let armed = folder.join(ARMED);
    let Ok(text) = std::fs::read_to_string(&armed) else { return false };
    // Of two that get there at once, one renames it.
    text.parse() == Ok(point) && std::fs::rename(&armed, folder.join(REACHED)).is_ok()
}

/// Like `take`, for damage that waits for nobody.
fn strikes(point: Point) -> bool {
    let struck = take(Path::new(FOLDER), point);
    if struck {
        tracing::warn!(%point, "a fault strikes");
    }
    struck
}

async fn gate_in(folder: &Path, point: Point, patience: Duration) {
    if !take(folder, point) {
        return;
    }
    tracing::warn!(%point, "standing at a fault point");
    let start = Instant::now();
    while folder.join(REACHED).exists() && start.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
    }
    tracing::warn!(%point, stood = ?start.elapsed(), "going on");
}

/// Stands still at a point that is armed, until it is let go.
pub async fn gate(point: Point) {
    gate_in(Path::new(FOLDER), point, PATIENCE).await;
}

/// [`gate`] for code that can't wait for a future, such as a register that writes.
fn gate_blocking(point: Point) {
    if Path::new(FOLDER).join(ARMED).exists() {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(gate(point)));
    }
}

/// The steps of a migration or its register, with the points before and after each.
#[derive(Debug)]
pub struct Pointed<T>(T);

/// Puts points around steps or a register.
pub const fn pointed<T>(inner: T) -> Pointed<T> {
    Pointed(inner)
}

impl<S: Steps> Steps for Pointed<S> {
    async fn enter(&mut self, phase: Phase) -> Result<Bytes, StepError> {
        gate(Point::Before(phase)).await;
        let bytes = self.0.enter(phase).await?;
        gate(Point::Done(phase)).await;
        Ok(bytes)
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), StepError> {
        gate(Point::BeforeUndo(undo)).await;
        self.0.undo(undo).await?;
        gate(Point::DoneUndo(undo)).await;
        Ok(())
    }

    fn load(&self) -> Option<Load> {
        self.0.load()
    }

    fn forecast(&self) -> Option<Forecast> {
        self.0.forecast()
    }

    fn started_anew(&self) -> Option<String> {
        self.0.started_anew()
    }
}

impl<R: Register> Register for Pointed<R> {
    fn reached(&mut self, phase: Phase) -> Result<(), StepError> {
        self.0.reached(phase)?;
        gate_blocking(Point::After(phase));
        Ok(())
    }

    fn freezing(&mut self) -> Result<(), StepError> {
        self.0.freezing()
    }

    fn frozen_for(&self) -> Option<Millis> {
        self.0.frozen_for()
    }

    fn decide(&mut self, decision: Decision) -> Result<Decision, StepError> {
        if decision != Decision::Commit {
            return self.0.decide(decision);
        }
        gate_blocking(Point::BeforeCommit);
        let stands = self.0.decide(decision)?;
        gate_blocking(Point::DoneCommit);
        Ok(stands)
    }

    fn ended(&mut self, report: &Report) -> Result<(), StepError> {
        self.0.ended(report)
    }
}

/// A stream on which a byte may go wrong, the end be lost, or the connection. Where only the end is lost the other end sees a
/// stream that ends in order.
pub fn spoil<S: Stream<Item = io::Result<Data>> + Send + 'static>(
    part: &Part,
    stream: S,
) -> BoxStream<'static, io::Result<Data>> {
    let carried = match part {
        Part::Memory => Carried::Memory,
        Part::Ahead => Carried::Ahead,
        Part::Layer => Carried::Layer,
        Part::Volume(_) => Carried::Volume,
    };
    if strikes(Point::Break(carried)) {
        return breaking(stream, BREAKS).boxed();
    }
    let corrupt = strikes(Point::Corrupt(carried));
    let truncate = !corrupt && strikes(Point::Truncate(carried));
    damaged(stream, corrupt, truncate).boxed()
}

fn damaged<E>(
    stream: impl Stream<Item = Result<Data, E>>,
    corrupt: bool,
    truncate: bool,
) -> impl Stream<Item = Result<Data, E>> {
    let most = if truncate { 1 } else { usize::MAX };
    stream.take(most).enumerate().map(move |(at, piece)| {
        let mut piece = piece?;
        let middle = piece.len() / 2;
        if truncate {
            piece.truncate(middle);
        }
        if corrupt && at == 0 && !piece.is_empty() {
            let mut bytes = piece.to_vec();
            bytes[middle] ^= 0x10;
            piece = bytes.into();
        }
        Ok(piece)
    })
}

/// A stream whose connection breaks in the piece with this byte, or in its last.
fn breaking(
    stream: impl Stream<Item = io::Result<Data>> + Send + 'static,
    breaks: usize,
) -> impl Stream<Item = io::Result<Data>> + Send + 'static {
    let pieces = stream.boxed().peekable();
    let until = futures_util::stream::unfold(Some((pieces, 0)), move |left| async move {
        let (mut pieces, passed) = left?;
        let mut piece = match pieces.next().await? {
            Ok(piece) => piece,
            Err(error) => return Some((Err(error), None)),
        };
        let passed = passed + piece.len();
        let breaks = passed >= breaks || std::pin::Pin::new(&mut pieces).peek().await.is_none();
        if breaks {
            piece.truncate(piece.len() / 2);
        }
        Some((Ok(piece), (!breaks).then_some((pieces, passed))))
    });
    until.chain(futures_util::stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) }))
}

/// Which call a request makes; `None` for those that no fault is named for.
fn call_of(method: &reqwest::Method, path: &str) -> Option<Call> {
    let path = path.strip_prefix("/v1/").filter(|path| path.starts_with("arrivals"))?;
    let last = path.rsplit('/').next().unwrap_or_default();
    match *method {
        reqwest::Method::DELETE => Some(Call::Discard),
        reqwest::Method::PUT => None,
        _ if last == "arrivals" => Some(Call::Reserve),
        _ => Call::ALL.into_iter().find(|call| call.name() == last),
    }
}

/// Makes a call, once or twice as is armed. `None` when it was carried out and its answer is to be lost.
pub async fn call(request: reqwest::RequestBuilder) -> Option<reqwest::Result<reqwest::Response>> {
    let copy = request.try_clone();
    let named =
        copy.and_then(|copy| copy.build().ok()).and_then(|built| call_of(built.method(), built.url().path()));
    let Some(named) = named else { return Some(request.send().await) };
    if let Some(copy) = request.try_clone() {
        if strikes(Point::Duplicate(named)) {
            let answer = copy.send().await;
            tracing::warn!(call = named.name(), answer = ?answer.map(|answer| answer.status()), "made once, and now again");
        } else if strikes(Point::Race(named)) {
            tokio::spawn(copy.send());
        }
    }
    let answer = request.send().await;
    (!strikes(Point::DropAnswer(named))).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_armed_point_holds_and_only_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let point = Point::Before(Phase::Frozen);
        let (armed, reached) = (folder.path().join(ARMED), folder.path().join(REACHED));
        gate_in(folder.path(), point, PATIENCE).await;
        std::fs::write(&armed, "before:frozen\n").unwrap();
        gate_in(folder.path(), Point::Done(Phase::Frozen), PATIENCE).await;
        assert!(armed.exists(), "another point leaves it armed");

        let path = folder.path().to_owned();
        let waiting = tokio::spawn(async move { gate_in(&path, point, PATIENCE).await });
        while !reached.exists() {
            tokio::time::sleep(LOOK).await;
        }
        assert!(!armed.exists());
        tokio::time::sleep(10 * LOOK).await;
        assert!(!waiting.is_finished(), "it stands until it is let go");
        std::fs::remove_file(&reached).unwrap();
        waiting.await.unwrap();
        // Reached once, it is past.
        gate_in(folder.path(), point, PATIENCE).await;
    }

    #[tokio::test]
    async fn nobody_stands_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(ARMED), "arrival-finish").unwrap();
        let start = Instant::now();
        gate_in(folder.path(), Point::Arrival(super::super::AtArrival::Finish), Duration::from_millis(50))
            .await;
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert!(folder.path().join(REACHED).exists());
    }

    async fn through(corrupt: bool, truncate: bool) -> Vec<u8> {
        let pieces = ["abcd", "efgh"].map(|piece| Ok::<_, std::io::Error>(Data::from(piece)));
        let all = damaged(futures_util::stream::iter(pieces), corrupt, truncate);
        all.collect::<Vec<_>>().await.into_iter().flat_map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn a_stream_is_damaged_in_one_place() {
        assert_eq!(through(false, false).await, b"abcdefgh");
        assert_eq!(through(true, false).await, b"absdefgh");
        assert_eq!(through(false, true).await, b"ab");
    }

    #[tokio::test]
    async fn a_stream_breaks_once_much_of_it_has_crossed_or_at_its_end() {
        for (breaks, whole) in [(1, "ab"), (5, "abcdef"), (100, "abcdef")] {
            let pieces = ["abcd", "efgh"].map(|piece| Ok::<_, io::Error>(Data::from(piece)));
            let all = breaking(futures_util::stream::iter(pieces), breaks);
            let mut all: Vec<_> = all.take(3).collect().await;
            assert_eq!(all.pop().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let crossed: Vec<u8> = all.into_iter().flat_map(Result::unwrap).collect();
            assert_eq!(crossed, whole.as_bytes());
        }
    }

    #[test]
    fn calls_are_known_by_their_requests() {
        let of = |method: &str, path: &str| call_of(&method.parse().unwrap(), &format!("/v1/{path}"));
        assert_eq!(of("POST", "arrivals"), Some(Call::Reserve));
        assert_eq!(of("POST", "arrivals/check"), Some(Call::Check));
        assert_eq!(of("GET", "arrivals/1/restored"), Some(Call::Restored));
        assert_eq!(of("DELETE", "arrivals/1"), Some(Call::Discard));
        assert_eq!(of("PUT", "arrivals/1/parts/memory"), None);
        assert_eq!(of("GET", "services"), None);
    }
}
