//! All that one service writes, wherever it goes: each place's output to its end, then the next one's from its beginning.
//!
//! The engine keeps what a container has written, and what a service writes after it has moved stands in its new container
//! alone. So whoever reads one after the other has every byte once, also where a line was half written when the service was
//! frozen. A reading may break off, or end because the service ended and was started again: then the same place is read once
//! more, and what was delivered already is passed over by the engine's times.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName, ServiceName};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::identity::Credentials;
use crate::node::api::{Output, StdStream};
use crate::node::client::{AgentClient, ClientError};
use crate::platform::addresses::Remembered;

use super::roster::{self, Roster};

/// First pause until the same place is read again; doubles up to [`LAST_PAUSE`] while that brings nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Time for a place that the service has left to be heard once more, before what it may still have is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time for a place to be asked while another one is read.
const TO_BEGIN: Duration = Duration::from_secs(2);

/// Where a service is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: NodeName,
    /// How often the service had changed owners. No two places have the same.
    pub epoch: u64,
}

impl From<&super::place::Place> for Place {
    fn from(place: &super::place::Place) -> Self {
        Self { node: place.node.clone(), epoch: place.epoch }
    }
}

/// A place that can't be read now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unread {
    /// The service does not stand there, and what it wrote there is gone.
    #[error("{0}")]
    Absent(String),
    /// It can't be asked.
    #[error("{0}")]
    Silent(String),
}

/// Not everything was delivered.
#[derive(Debug, Error)]
pub enum FollowError {
    /// It can't be written where it is to go.
    #[error("what the service writes can't be passed on: {0}")]
    Print(#[from] io::Error),
    /// The last place can't be read to its end.
    #[error("what the service wrote last on node `{node}` can't be read: {why}")]
    Unread {
        /// The node.
        node: NodeName,
        /// What happened.
        why: String,
    },
}

/// Reads what a service writes.
pub trait Reading: Send + Sync {
    /// From the beginning of its container at a place, until that container ends or goes.
    fn read(
        &self,
        place: &Place,
    ) -> impl Future<Output = Result<BoxStream<'static, io::Result<Output>>, Unread>> + Send;
}

/// Takes what a service writes.
pub trait Printing: Send {
    /// Takes a piece.
    fn print(&mut self, piece: Output) -> impl Future<Output = io::Result<()>> + Send;
}

/// Passes on all that a service writes at one place after the other, in the order of their epochs. Once `places` ends, what the last
/// one has is read to its end.
///
/// # Errors
/// When it can't be printed, or the last place not be read to its end.
pub async fn follow_output(
    places: impl Stream<Item = Place> + Send,
    reading: &impl Reading,
    printing: &mut impl Printing,
) -> Result<(), FollowError> {
    let mut follower = Follower {
        places: pin!(places),
        course: Course::default(),
        delivered: Delivered::default(),
        ahead: BTreeMap::new(),
    };
    let (mut pause, mut left_at) = (FIRST_PAUSE, None);
    loop {
        let Some(place) = follower.course.current.clone() else {
            if follower.course.over {
                return Ok(());
            }
            follower.hear().await;
            continue;
        };
        let knew = follower.course.is_left();
        let (end, fresh) = follower.read(&place, reading, printing).await?;
        if fresh {
            pause = FIRST_PAUSE;
        }
        let done = match &end {
            End::Absent => true,
            // It may have ended and begun again between the end of that reading and now.
            End::Whole => knew && !fresh,
            End::Broken(why) => {
                tracing::debug!(node = %place.node, why, "reading what a service writes broke off");
                let left = follower.course.is_left();
                left && left_at.get_or_insert_with(Instant::now).elapsed() > PATIENCE
            }
        };
        if done && follower.course.advance() {
            if let End::Broken(why) = &end {
                tracing::warn!(node = %place.node, why, "what a service wrote last where it was is lost");
            }
            follower.delivered = Delivered::default();
            (pause, left_at) = (FIRST_PAUSE, None);
        } else if done && follower.course.over {
            return match end {
                End::Broken(why) => Err(FollowError::Unread { node: place.node, why }),
                End::Absent | End::Whole => Ok(()),
            };
        } else if !(follower.course.is_left() && matches!(end, End::Whole)) {
            follower.wait(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// How a reading ended.
enum End {
    /// After the last that the container wrote.
    Whole,
    Absent,
    Broken(String),
}

struct Follower<'a, P> {
    places: Pin<&'a mut P>,
    course: Course,
    delivered: Delivered,
    /// Readings, by epoch, of places that come later. Once begun they outlast the container.
    ahead: BTreeMap<u64, Pieces>,
}

/// What a service has written, as it comes.
type Pieces = BoxStream<'static, io::Result<Output>>;

impl<P: Stream<Item = Place> + Send> Follower<'_, P> {
    /// Hears of the next place, or that there is none.
    async fn hear(&mut self) {
        match self.places.next().await {
            Some(place) => self.course.heard(place),
            None => self.course.over = true,
        }
    }

    /// Begins to read the place that was heard of last: the service may have left it before it is its turn.
    async fn begin_next(&mut self, reading: &impl Reading) {
        let Some(next) = self.course.next.back() else { return };
        if self.ahead.contains_key(&next.epoch) {
            return;
        }
        // Where it can't be now it is tried again when it is its turn.
        if let Ok(Ok(pieces)) = tokio::time::timeout(TO_BEGIN, reading.read(next)).await {
            self.ahead.insert(next.epoch, pieces);
        }
    }

    /// Waits, but not longer than until a place is heard of.
    async fn wait(&mut self, pause: Duration) {
        if self.course.over {
            tokio::time::sleep(pause).await;
        } else {
            // Of places nothing is lost when the wait is given up: they are heard one by one.
            let _ = tokio::time::timeout(pause, self.hear()).await;
        }
    }

    /// Reads a place and prints what was not printed yet; whether there was any. Meanwhile places are heard of.
    async fn read(
        &mut self,
        place: &Place,
        reading: &impl Reading,
        printing: &mut impl Printing,
    ) -> Result<(End, bool), FollowError> {
        self.delivered.begin();
        let mut fresh = false;
        let opened = match self.ahead.remove(&place.epoch) {
            Some(pieces) => Ok(pieces),
            None => tokio::time::timeout(PATIENCE, reading.read(place))
                .await
                .unwrap_or_else(|_| Err(Unread::Silent(silent()))),
        };
        let mut pieces = match opened {
            Ok(pieces) => pieces,
            Err(Unread::Absent(_)) => return Ok((End::Absent, fresh)),
            Err(Unread::Silent(why)) => return Ok((End::Broken(why), fresh)),
        };
        let mut last = Instant::now();
        loop {
            let left = self.course.is_left();
            tokio::select! {
                biased;
                piece = pieces.next() => match piece {
                    Some(Ok(piece)) => {
                        last = Instant::now();
                        if self.delivered.is_new(&piece) {
                            fresh = true;
                            printing.print(piece).await?;
                        }
                    }
                    Some(Err(error)) => return Ok((End::Broken(error.to_string()), fresh)),
                    None => return Ok((End::Whole, fresh)),
                },
                () = self.hear(), if !self.course.over => {
                    last = Instant::now();
                    self.begin_next(reading).await;
                }
                // It is kept open by nobody: the service is elsewhere.
                () = tokio::time::sleep_until(last + PATIENCE), if left => {
                    return Ok((End::Broken(silent()), fresh));
                }
            }
        }
    }
}

fn silent() -> String {
    format!("nothing came for {} s", PATIENCE.as_secs())
}

/// Which place is read, and which ones after it.
#[derive(Debug, Default)]
struct Course {
    current: Option<Place>,
    next: VecDeque<Place>,
    /// No further place will be heard of.
    over: bool,
}

impl Course {
    /// A service owned somewhere at a lower epoch was there before what is known.
    fn heard(&mut self, place: Place) {
        let known = self.next.back().or(self.current.as_ref());
        if known.is_some_and(|known| place.epoch <= known.epoch) {
            return;
        }
        match self.current {
            None => self.current = Some(place),
            Some(_) => self.next.push_back(place),
        }
    }

    /// Whether nothing more is written at the place that is read.
    fn is_left(&self) -> bool {
        self.over || !self.next.is_empty()
    }

    /// Goes on to the next place, if there is one.
    fn advance(&mut self) -> bool {
        let next = self.next.pop_front();
        let there = next.is_some();
        if there {
            self.current = next;
        }
        there
    }
}

/// How much was delivered of one place: of each stream the time of the last piece, and how many pieces have that time.
#[derive(Debug, Default)]
struct Delivered {
    last: [Option<(Timestamp, usize)>; 2],
    /// What is still to be passed over in this reading.
    known: [Option<(Timestamp, usize)>; 2],
}

impl Delivered {
    /// A reading begins, from the beginning.
    fn begin(&mut self) {
        self.known = self.last;
    }

    /// Whether a piece was not delivered yet; from here on it is.
    fn is_new(&mut self, piece: &Output) -> bool {
        let stream = match piece.stream {
            StdStream::Out => 0,
            StdStream::Err => 1,
        };
        if let Some((until, count)) = &mut self.known[stream] {
            if piece.at < *until {
                return false;
            }
            if piece.at == *until && *count > 0 {
                *count -= 1;
                return false;
            }
            // The clock may be set back later on.
            self.known[stream] = None;
        }
        self.last[stream] = match self.last[stream] {
            Some((at, count)) if at == piece.at => Some((at, count + 1)),
            _ => Some((piece.at, 1)),
        };
        true
    }
}

/// Prints on two writers, each piece at once.
#[derive(Debug)]
pub struct Printer<O, E> {
    /// For what the service writes to its standard output.
    pub out: O,
    /// And to its standard error.
    pub err: E,
}

impl<O: AsyncWrite + Send + Unpin, E: AsyncWrite + Send + Unpin> Printing for Printer<O, E> {
    async fn print(&mut self, piece: Output) -> io::Result<()> {
        match piece.stream {
            StdStream::Out => {
                self.out.write_all(&piece.bytes).await?;
                self.out.flush().await
            }
            StdStream::Err => {
                self.err.write_all(&piece.bytes).await?;
                self.err.flush().await
            }
        }
    }
}

/// Reads what a service writes from the agents of a continuum. The address of each is looked up anew for each reading.
#[derive(Debug)]
pub struct Agents {
    service: ServiceName,
    nodes: roster::Told,
    credentials: Credentials,
    remembered: Remembered,
}

impl Agents {
    /// As the scheduler or a front.
    pub fn new(service: ServiceName, continuum: Arc<Continuum>, credentials: Credentials) -> Self {
        Self::of_nodes(service, watch::channel(Arc::new(Roster::Inventory(continuum))).1, credentials)
    }

    /// The same, where nodes come and go.
    pub fn of_nodes(service: ServiceName, nodes: roster::Told, credentials: Credentials) -> Self {
        Self { service, nodes, credentials, remembered: Remembered::default() }
    }
}

impl Reading for Agents {
    async fn read(&self, place: &Place) -> Result<BoxStream<'static, io::Result<Output>>, Unread> {
        let roster = self.nodes.borrow().clone();
        let address = roster.address(&place.node, &self.remembered).await.map_err(Unread::Silent)?;
        let client = AgentClient::new(&self.credentials, &place.node, &address).await;
        let client = client.map_err(|error| Unread::Silent(error.to_string()))?;
        match client.logs_at(&self.service, Some(place.epoch), true).await {
            Ok(pieces) => Ok(pieces.boxed()),
            Err(error @ ClientError::Absent { .. }) => Err(Unread::Absent(error.to_string())),
            Err(error) => Err(Unread::Silent(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
