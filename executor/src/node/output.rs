//! What a service has written, on its way from its node: the engine's own frames. Each is a byte for the stream, three of zero, four
//! for the length, and as much of text: when the engine read it, a space, and what the service wrote, byte for byte.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes as Data, BytesMut};
use futures_util::{Stream, TryStreamExt as _};
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::StreamReader;

use super::api::{Output, StdStream};

/// Bytes before each piece.
const HEADER: usize = 8;
/// Most bytes of a piece. The engine breaks longer lines at 16 KiB.
const PIECE: usize = 1 << 20;

/// A piece as the engine tells it, as a frame.
pub(super) fn frame(stream: StdStream, told: &[u8]) -> Data {
    let mut frame = BytesMut::with_capacity(HEADER + told.len());
    frame.put_u32(match stream {
        StdStream::Out => 1 << 24,
        StdStream::Err => 2 << 24,
    });
    // What is longer could not be read; the engine makes none.
    frame.put_u32(u32::try_from(told.len()).unwrap_or(u32::MAX));
    frame.put_slice(told);
    frame.freeze()
}

/// The pieces of an answer, as they come. One that breaks off ends with an error.
pub(super) fn pieces<E: std::error::Error + Send + Sync + 'static>(
    answer: impl Stream<Item = Result<Data, E>> + Send + 'static,
) -> impl Stream<Item = Result<Output, io::Error>> + Send + 'static {
    FramedRead::new(StreamReader::new(Box::pin(answer.map_err(io::Error::other))), Frames)
}

struct Frames;

impl Decoder for Frames {
    type Item = Output;
    type Error = io::Error;

    fn decode(&mut self, read: &mut BytesMut) -> io::Result<Option<Output>> {
        let Some((head, told)) = read.split_at_checked(HEADER) else { return Ok(None) };
        let stream = match head[0] {
            0 | 1 => StdStream::Out,
            2 => StdStream::Err,
            other => return Err(wrong(&format!("stream {other} is none"))),
        };
        let length = head[4..].iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if length > PIECE {
            return Err(wrong(&format!("a piece of {length} bytes exceeds {PIECE}")));
        }
        if told.len() < length {
            read.reserve(HEADER + length - read.len());
            return Ok(None);
        }
        read.advance(HEADER);
        let told = read.split_to(length).freeze();
        let space = told.iter().position(|byte| *byte == b' ');
        let time = |end: usize| std::str::from_utf8(&told[..end]).ok()?.parse().ok();
        let (at, begin) = space
            .and_then(|end| Some((time(end)?, end + 1)))
            .ok_or_else(|| wrong("a piece does not begin with its time"))?;
        Ok(Some(Output { at, stream, bytes: told.slice(begin..) }))
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what a service has written can't be read: {why}"))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    const TIME: &str = "2026-11-28T01:02:03.000000004Z";

    async fn read(bytes: Vec<u8>, at_once: usize) -> Vec<io::Result<Output>> {
        let chunks: Vec<io::Result<Data>> =
            bytes.chunks(at_once).map(|chunk| Ok(Data::copy_from_slice(chunk))).collect();
        pieces(futures_util::stream::iter(chunks)).collect().await
    }

    fn told(text: &[u8]) -> Vec<u8> {
        [TIME.as_bytes(), b" ", text].concat()
    }

    #[tokio::test]
    async fn pieces_are_read_as_they_were_written_however_they_come() {
        let written: [(StdStream, &[u8]); 4] = [
            (StdStream::Out, b"one\n"),
            (StdStream::Err, b""),
            (StdStream::Out, b"\x00\xff without an end"),
            (StdStream::Err, b" \n\r\n"),
        ];
        let bytes: Vec<u8> = written.iter().flat_map(|(stream, text)| frame(*stream, &told(text))).collect();
        for at_once in [1, 7, 1000] {
            let read = read(bytes.clone(), at_once).await;
            let read: Vec<Output> = read.into_iter().map(Result::unwrap).collect();
            let same = |(output, (stream, text)): (&Output, &(StdStream, &[u8]))| {
                output.stream == *stream && output.bytes == *text && output.at.to_string() == TIME
            };
            assert!(read.len() == written.len() && read.iter().zip(&written).all(same), "{read:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_piece_or_breaks_off_is_an_error() {
        let whole = frame(StdStream::Out, &told(b"one\n")).to_vec();
        let mut long = whole.clone();
        long[4] = 0xff;
        let mut strange = whole.clone();
        strange[0] = 3;
        let timeless = frame(StdStream::Out, b"one two").to_vec();
        let spaceless = frame(StdStream::Out, b"").to_vec();
        for bad in
            [whole[..whole.len() - 1].to_vec(), whole[..5].to_vec(), long, strange, timeless, spaceless]
        {
            let read = read(bad.clone(), 5).await;
            assert!(matches!(&read[..], [Err(_)]), "{bad:?}: {read:?}");
        }
        let broken = futures_util::stream::iter([Ok(Data::from(whole)), Err(io::Error::other("broken"))]);
        let read: Vec<io::Result<Output>> = pieces(broken).collect().await;
        assert!(matches!(&read[..], [Ok(_), Err(_)]), "{read:?}");
    }
}
