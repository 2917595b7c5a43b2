//! What containers have written, as the engine has kept it.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;

use crate::node::api::StdStream;

use super::{Engine, EngineError, failed};

/// Pieces that wait for their reader.
const AHEAD: usize = 8;

impl Engine {
    /// All that a container has written, from its beginning: each piece is the engine's time for it, a space, and what was
    /// written, byte for byte. With `follow` it goes on until the container ends or is removed, and then ends with the last that
    /// it wrote.
    pub fn output(
        &self,
        container: &str,
        follow: bool,
    ) -> impl Stream<Item = Result<(StdStream, Data), EngineError>> + Send + Unpin + use<> {
        let (docker, container) = (self.docker.clone(), container.to_owned());
        let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let options = LogsOptionsBuilder::default()
                .stdout(true)
                .stderr(true)
                .timestamps(true)
                .follow(follow)
                .build();
            let mut pieces = docker.logs(&container, Some(options));
            // Nobody may be left to read while it writes nothing.
            while let Some(Some(piece)) = tokio::select! {
                piece = pieces.next() => Some(piece),
                () = sender.closed() => None,
            } {
                let piece = piece.map(told).map_err(failed("tell what the container has written"));
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

fn told(piece: LogOutput) -> (StdStream, Data) {
    match piece {
        LogOutput::StdErr { message } => (StdStream::Err, message),
        // A terminal's, which services have not, is all one.
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (StdStream::Out, message)
        }
    }
}
