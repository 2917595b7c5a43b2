//! Streams into the parts of services: one at a time into each, and none that was ended.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ArrivalError;
use crate::migration::order::MigrationId;
use crate::node::api::{Part, StreamId};
use crate::transfer::manifest::Received;

/// Time for a stream that was ended to let go of its files: what it had read is written, or compared, first.
const TO_END: Duration = Duration::from_secs(20);
/// Most streams into a part that are ended: more than a source tries to send within any deadline.
const MOST_ENDED: usize = 10_000;

/// What is known of the streams into each part.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Parts>>);

type Parts = HashMap<(MigrationId, Part), OfPart>;

#[derive(Debug, Default)]
struct OfPart {
    /// Whoever has it may write.
    turn: Arc<tokio::sync::Mutex<Last>>,
    under_way: Option<(StreamId, CancellationToken)>,
    /// A call that was delayed on its way must not write over what came after it.
    ended: HashSet<StreamId>,
}

/// What the last stream left.
#[derive(Debug, Default)]
pub(super) struct Last {
    stream: Option<StreamId>,
    /// Without it files are read again.
    received: Received,
}

impl Last {
    /// To be filled by the stream that has the turn.
    pub fn received(&mut self) -> &mut Received {
        &mut self.received
    }

    /// What this stream left, if it was the last.
    pub fn of(&self, stream: StreamId) -> Option<&Received> {
        (self.stream == Some(stream)).then_some(&self.received)
    }
}

impl Streams {
    /// The turn of a stream, and what tells it that it was ended.
    pub fn begin(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
    ) -> Result<(OwnedMutexGuard<Last>, CancellationToken), ArrivalError> {
        let mut parts = self.parts();
        let of = parts.entry((id, part.clone())).or_default();
        if of.ended.contains(&stream) {
            return Err(ArrivalError::Wrong(format!("stream {stream} of migration {id} was ended")));
        }
        let turn = Arc::clone(&of.turn).try_lock_owned();
        let mut turn = turn.map_err(|_| ArrivalError::Receiving { id, part: part.path() })?;
        turn.stream = Some(stream);
        let token = CancellationToken::new();
        of.under_way = Some((stream, token.clone()));
        Ok((turn, token))
    }

    /// Ends a stream, whether it has begun or not, and gives the turn after it.
    pub async fn end(
        &self,
        id: MigrationId,
        part: &Part,
        stream: StreamId,
    ) -> Result<OwnedMutexGuard<Last>, ArrivalError> {
        let turn = {
            let mut parts = self.parts();
            let of = parts.entry((id, part.clone())).or_default();
            if of.ended.len() >= MOST_ENDED {
                return Err(ArrivalError::Wrong(format!(
                    "{MOST_ENDED} streams of migration {id} were ended"
                )));
            }
            of.ended.insert(stream);
            if let Some((_, token)) = of.under_way.take_if(|(other, _)| *other == stream) {
                token.cancel();
            }
            Arc::clone(&of.turn)
        };
        let turn = timeout(TO_END, turn.lock_owned()).await;
        turn.map_err(|_| ArrivalError::Receiving { id, part: part.path() })
    }

    /// Ends all streams of a migration that is over, and forgets what they left.
    pub async fn forget(&self, id: MigrationId) {
        let mut over = Vec::new();
        self.parts().retain(|(other, _), of| {
            if *other == id {
                over.push(std::mem::take(of));
            }
            *other != id
        });
        for of in over {
            if let Some((_, token)) = of.under_way {
                token.cancel();
            }
            // What is still written then goes into files that are being removed.
            let _ended = timeout(TO_END, of.turn.lock()).await;
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_was_ended_lets_go_and_never_comes_again() {
        let (streams, id, part) = (Streams::default(), MigrationId::new(), Part::Layer);
        let (one, two, late) = (StreamId::new(), StreamId::new(), StreamId::new());
        let (turn, ended) = streams.begin(id, &part, one).unwrap();
        assert!(matches!(streams.begin(id, &part, two), Err(ArrivalError::Receiving { .. })));
        streams.begin(id, &Part::Memory, two).unwrap();

        let writing = tokio::spawn(async move {
            ended.cancelled().await;
            tokio::time::sleep(TO_END / 2).await;
            drop(turn);
        });
        let after = streams.end(id, &part, one).await.unwrap();
        assert!(writing.is_finished(), "it is waited for");
        assert!(after.of(one).is_some() && after.of(two).is_none());
        drop(after);
        assert!(matches!(streams.begin(id, &part, one), Err(ArrivalError::Wrong(_))));

        let after = streams.end(id, &part, late).await.unwrap();
        assert!(after.of(late).is_none(), "nothing came of it");
        drop(after);
        assert!(matches!(streams.begin(id, &part, late), Err(ArrivalError::Wrong(_))));
        let (turn, _ended) = streams.begin(id, &part, two).unwrap();
        assert!(matches!(streams.end(id, &part, two).await, Err(ArrivalError::Receiving { .. })));
        drop(turn);
    }
}
