//! The way to the destination: streams that are resumed when they break.
//!
//! A stream that breaks for a reason that may be over in a moment is ended at the other end, which tells how far it came, and
//! what did not arrive is sent by another. How long that goes on is for the migration's deadline and the freeze lease to say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _, RetryableWithContext as _};
use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _};
use sterna_policies::quantity::Bytes;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::migration::machine::StepError;
use crate::migration::order::MigrationId;
use crate::node::api::{Part, StreamId};
use crate::node::bandwidth::Limits;
use crate::node::client::{AgentClient, ClientError};
use crate::node::progress::Progress;
use crate::transfer::manifest::Digest;
use crate::transfer::stream::Writer;

use super::failed;

/// What is buffered between reading files and the link.
const PIPE: usize = 4 << 20;
/// Pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What a stream is written to.
pub(super) type Wire = Writer<io::BufWriter<SyncIoBridge<tokio::io::DuplexStream>>>;

/// What a stream carries.
pub(super) trait Payload: Send + 'static {
    /// Writes what is not at the destination yet.
    fn write(&mut self, writer: Wire) -> io::Result<()>;
    /// All that was written last arrived.
    fn arrived(&mut self);
    /// The stream broke, and this is what the destination has of it; `None` where it does not know.
    fn broke(&mut self, there: Option<&Digest>);
}

/// Why a stream did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    /// The destination did not answer, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It lies at this end.
    #[error(transparent)]
    Here(#[from] StepError),
}

impl Cut {
    const fn passes(&self) -> bool {
        matches!(self, Self::Client(error) if error.passes())
    }

    fn into_step_error(self) -> StepError {
        match self {
            Self::Client(error) => failed(error),
            Self::Here(error) => error,
        }
    }
}

/// What is carried, over all its tries.
struct Carrying<P> {
    /// `None` only after a panic of its own.
    payload: Option<P>,
    crossed: Bytes,
    /// The stream that has to be ended first.
    broken: Option<StreamId>,
}

/// The pauses between tries.
fn patience() -> ExponentialBuilder {
    let growing = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LAST_PAUSE);
    growing.with_factor(2.0).with_jitter().without_max_times()
}

/// Makes a call that has the same effect twice as once, again while it fails for what may be over in a moment.
pub(super) async fn insist<T, F>(call: impl FnMut() -> F) -> Result<T, StepError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let done =
        call.retry(patience()).when(ClientError::passes).notify(|error: &ClientError, pause: Duration| {
            tracing::warn!(%error, ?pause, "trying again");
        });
    done.await.map_err(failed)
}

/// The way to the destination, for one migration.
#[derive(Clone)]
pub(super) struct Link {
    destination: AgentClient,
    id: MigrationId,
    limits: Limits,
    progress: Progress,
}

impl Link {
    pub(super) const fn new(
        destination: AgentClient,
        id: MigrationId,
        limits: Limits,
        progress: Progress,
    ) -> Self {
        Self { destination, id, limits, progress }
    }

    /// Brings a part of the service to the destination. Gives it back, with what crossed the link for it.
    pub(super) async fn carry<P: Payload>(&self, part: Part, payload: P) -> Result<(Bytes, P), StepError> {
        let carrying = Carrying { payload: Some(payload), crossed: Bytes::ZERO, broken: None };
        let part = &part;
        let attempt = |mut carrying: Carrying<P>| async move {
            let tried = self.attempt(part, &mut carrying).await;
            (carrying, tried)
        };
        let (carrying, done) = attempt
            .retry(patience())
            .context(carrying)
            .when(Cut::passes)
            .notify(|error: &Cut, pause: Duration| {
                tracing::warn!(migration = %self.id, part = part.path(), %error, ?pause, "the stream broke; going on");
            })
            .await;
        done.map_err(Cut::into_step_error)?;
        let payload =
            carrying.payload.ok_or_else(|| StepError::Failed("what was sent is lost".to_owned()))?;
        Ok((carrying.crossed, payload))
    }

    async fn attempt<P: Payload>(&self, part: &Part, carrying: &mut Carrying<P>) -> Result<(), Cut> {
        if let Some(stream) = carrying.broken {
            let there = self.destination.end_part(self.id, part, stream).await?;
            if let Some(payload) = &mut carrying.payload {
                payload.broke(there.as_ref());
            }
            carrying.broken = None;
        }
        let stream = StreamId::new();
        let sent = self.send(part, stream, carrying).await;
        match &sent {
            Ok(()) => carrying.payload.iter_mut().for_each(P::arrived),
            Err(_) => carrying.broken = Some(stream),
        }
        sent
    }

    /// Streams what the payload writes to the destination, without holding it in memory.
    async fn send<P: Payload>(
        &self,
        part: &Part,
        stream: StreamId,
        carrying: &mut Carrying<P>,
    ) -> Result<(), Cut> {
        let Some(mut payload) = carrying.payload.take() else { return Ok(()) };
        let (near, far) = tokio::io::duplex(PIPE);
        let near = SyncIoBridge::new(near);
        let writing = tokio::task::spawn_blocking(move || {
            let written = payload.write(Writer::new(io::BufWriter::with_capacity(1 << 20, near)));
            (payload, written)
        });
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let data = self.paced(ReaderStream::with_capacity(far, 1 << 18)).inspect(move |piece| {
            counter.fetch_add(piece.as_ref().map_or(0, |piece| piece.len() as u64), Ordering::Relaxed);
        });
        let data = crate::fault::spoil(part, data);
        let sending = self.destination.send_part(self.id, part, stream, data);
        let (written, sent) = tokio::join!(writing, sending);
        carrying.crossed.0 += count.load(Ordering::Relaxed);
        let (payload, written) = written.map_err(failed)?;
        carrying.payload = Some(payload);
        match (written, sent) {
            (Ok(()), Ok(())) => Ok(()),
            // A reader that went away breaks the writer's pipe: then the reader's reason is the cause.
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(StepError::Failed(format!("reading {}: {error}", part.path())).into())
            }
            (_, Err(error)) => Err(error.into()),
            (Err(error), Ok(())) => {
                Err(StepError::Failed(format!("sending {}: {error}", part.path())).into())
            }
        }
    }

    /// A stream that keeps to the limits and is counted.
    pub(super) fn paced<E: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<Data, E>> + Send + 'static,
    ) -> impl Stream<Item = Result<Data, E>> + Send + 'static {
        let (limits, progress) = (self.limits.clone(), self.progress.clone());
        stream.then(move |piece| {
            let (limits, progress) = (limits.clone(), progress.clone());
            async move {
                if let Ok(piece) = &piece {
                    limits.pass(piece.len()).await;
                    progress.count(piece.len());
                }
                piece
            }
        })
    }
}
