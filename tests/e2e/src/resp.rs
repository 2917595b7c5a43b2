//! As much of the Redis protocol as a client needs that sends commands and reads answers.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longest bulk answer that is read.
const LONGEST: usize = 16 * 1024 * 1024;

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status: `OK`, `PONG`, a digest.
    Simple(String),
    /// The server refused the command.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value; `None` where there is none.
    Bulk(Option<Vec<u8>>),
    /// Several answers.
    Array(Vec<Reply>),
}

impl Reply {
    /// The answer as text, where it is a status, a number or a value.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Bulk(Some(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Error(_) | Self::Bulk(None) | Self::Array(_) => None,
        }
    }
}

/// One connection to a Redis server.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// When the connection breaks or what comes is not an answer. A refusal by the server is [`Reply::Error`].
    pub async fn command(&mut self, words: &[&str]) -> std::io::Result<Reply> {
        let mut request = Vec::new();
        encode(words, &mut request);
        self.stream.get_mut().write_all(&request).await?;
        self.answer().await
    }

    /// Sends many commands in one go and waits for all answers, in order. The caller bounds how many.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub async fn commands<'a>(
        &mut self,
        all: impl IntoIterator<Item = Vec<&'a str>>,
    ) -> std::io::Result<Vec<Reply>> {
        let mut request = Vec::new();
        let mut count = 0;
        for words in all {
            encode(&words, &mut request);
            count += 1;
        }
        self.stream.get_mut().write_all(&request).await?;
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(self.answer().await?);
        }
        Ok(answers)
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn answer(&mut self) -> std::io::Result<Reply> {
        // Arrays are flat in every answer that we ask for; deeper ones are refused.
        match self.element().await? {
            Element::Whole(reply) => Ok(reply),
            Element::ArrayOf(count) => {
                let mut all = Vec::new();
                for _ in 0..count {
                    match self.element().await? {
                        Element::Whole(reply) => all.push(reply),
                        Element::ArrayOf(_) => return Err(malformed("an array within an array")),
                    }
                }
                Ok(Reply::Array(all))
            }
        }
    }

    async fn element(&mut self) -> std::io::Result<Element> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
        Ok(Element::Whole(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_negative) => Reply::Bulk(None),
                Ok(length) if length <= LONGEST => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Bulk(Some(bytes))
                }
                Ok(_) => return Err(malformed(&line)),
            },
            "*" => return Ok(Element::ArrayOf(number()?.max(0))),
            _ => return Err(malformed(&line)),
        }))
    }
}

enum Element {
    Whole(Reply),
    ArrayOf(i64),
}

fn malformed(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not an answer of Redis: {what}"))
}

fn encode(words: &[&str], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word.as_bytes());
        into.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 14]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        Connection::open(address).await.unwrap()
    }

    #[tokio::test]
    async fn reads_every_kind_of_answer() {
        let cases: [(&[u8], Reply); 6] = [
            (b"+PONG\r\n", Reply::Simple("PONG".into())),
            (b"-ERR no\r\n", Reply::Error("ERR no".into())),
            (b":-7\r\n", Reply::Integer(-7)),
            (b"$3\r\na\r\n\r\n", Reply::Bulk(Some(b"a\r\n".to_vec()))),
            (b"$-1\r\n", Reply::Bulk(None)),
            (b"*2\r\n:1\r\n$-1\r\n", Reply::Array(vec![Reply::Integer(1), Reply::Bulk(None)])),
        ];
        for (bytes, expected) in cases {
            assert_eq!(answering(bytes).await.command(&["PING"]).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_broken_answer_is_an_error() {
        for bytes in
            [b"+PON".as_slice(), b"\r\n", b"$9\r\nab\r\n", b"?\r\n", b":x\r\n", b"*1\r\n*1\r\n:1\r\n"]
        {
            assert!(answering(bytes).await.command(&["PING"]).await.is_err(), "{bytes:?}");
        }
    }
}
