//! The stream of a call, which may be of any length but must not stand still.

use std::io;

use axum::body::{Body, Bytes};
use futures_util::{Stream, TryStreamExt};
use tokio_stream::StreamExt as _;

use super::limits::STALLED;

/// What comes, until nothing came for too long.
pub(super) fn flowing(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    let pieces = body.into_data_stream().map_err(io::Error::other);
    let timed = pieces.timeout(STALLED).map(|piece| {
        piece.unwrap_or_else(|_| {
            let text = format!("nothing came for {} s", STALLED.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    });
    // After an error nothing of it is meant any more.
    Box::pin(until_error(timed))
}

fn until_error<S>(pieces: S) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    futures_util::stream::try_unfold(Box::pin(pieces), |mut pieces| async move {
        Ok(TryStreamExt::try_next(&mut pieces).await?.map(|piece| (piece, pieces)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_stream_is_read_and_one_that_stands_still_ends() {
        let pauses = futures_util::stream::unfold(0, |sent| async move {
            let pause = if sent < 5 { STALLED / 2 } else { STALLED * 2 };
            tokio::time::sleep(pause).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), sent + 1))
        });
        let read: Vec<io::Result<Bytes>> = flowing(Body::from_stream(pauses)).collect().await;
        assert_eq!(read.len(), 6);
        let error = read[5].as_ref().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("60 s"), "{error}");
    }
}
