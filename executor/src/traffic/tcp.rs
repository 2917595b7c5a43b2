//! TCP of any protocol. What is said is not understood, so a connection can't go on elsewhere once something was said: it is
//! ended when its service has moved, after what was asked has been answered if that takes no longer than a moment.
//!
//! Small amounts go through a buffer; where much flows, the kernel moves it from socket to socket by `splice`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::consume_budget;
use tokio::time::{Instant, sleep};

use super::gate::{Gate, Permit, Phase};
use super::place::Place;
use super::reach::{self, connect};

/// Bytes that are moved through a buffer.
const BUFFER: usize = 16 << 10;
/// After so many bytes in one direction the kernel moves them.
const BULK: u64 = 256 << 10;
/// Wanted for a pipe. The kernel gives less where many are open.
const PIPE: i32 = 1 << 20;
/// Most that is moved at once.
const MOST: usize = 1 << 20;
/// Where so much or more is moved at once, and less than [`MOST`], it is worth waiting for more.
const WORTH: usize = 64 << 10;
/// How long that is waited for.
const GATHER: Duration = Duration::from_millis(1);
/// A service that has said nothing for so long after it answered has said all.
const SILENCE: Duration = Duration::from_millis(5);
/// Time for a service to take a connection from its backlog.
const TAKEN: Duration = Duration::from_millis(10);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both have said all.
    Closed,
    /// The service has moved.
    Moved,
}

/// Serves one client until it or the service ends the connection, or the service moves.
pub async fn serve(client: TcpStream, gate: Arc<Gate>) {
    reach::tune(&client);
    let begin = Instant::now();
    let mut kept = Stock::new();
    loop {
        let (behind, permit) = match connect(&gate, begin, &mut None).await {
            Ok(connected) => connected,
            Err(why) => {
                tracing::debug!(%why, "a connection is ended");
                break;
            }
        };
        let place = Arc::clone(permit.place());
        let talk = Talk::new(&gate, place, permit);
        match talk.run(&client, &behind, &mut kept).await {
            Ok(End::Moved) if talk.said_nothing() => {
                gate.meters().handed_over.inc();
                continue;
            }
            Ok(End::Moved) if talk.unanswered.load(Ordering::Relaxed) => {
                gate.meters().closed_in_request.inc();
            }
            Ok(End::Moved) => {
                gate.meters().closed_at_boundary.inc();
            }
            Ok(End::Closed) => {}
            Err(error) => tracing::debug!(%error, "a connection broke"),
        }
        break;
    }
    reach::end(&client).await;
}

/// A connection between a client and one place.
struct Talk<'a> {
    gate: &'a Arc<Gate>,
    place: Arc<Place>,
    permit: std::sync::Mutex<Option<Permit>>,
    sent: AtomicU64,
    received: AtomicU64,
    /// The client said something and nothing came back since.
    unanswered: AtomicBool,
}

impl<'a> Talk<'a> {
    fn new(gate: &'a Arc<Gate>, place: Arc<Place>, permit: Permit) -> Self {
        let permit = std::sync::Mutex::new(Some(permit));
        let (sent, received, unanswered) = Default::default();
        Self { gate, place, permit, sent, received, unanswered }
    }

    fn said_nothing(&self) -> bool {
        let nothing = |count: &AtomicU64| count.load(Ordering::Relaxed) == 0;
        nothing(&self.sent) && nothing(&self.received) && !self.unanswered.load(Ordering::Relaxed)
    }

    async fn run(&self, client: &TcpStream, behind: &TcpStream, kept: &mut Stock) -> io::Result<End> {
        let mut changes = self.gate.changes();
        let mut back = Stock::new();
        let (mut there_ended, mut back_ended) = (false, false);
        let opened = Instant::now();
        while !(there_ended && back_ended) {
            let phase = changes.borrow_and_update().clone();
            if let Some(open) = phase.open()
                && **open != *self.place
            {
                return Ok(End::Moved);
            }
            let (open, ends) = (phase.open().is_some(), self.gate.ends());
            if ends && self.permit().is_none() {
                return Ok(End::Closed);
            }
            let there = async {
                if there_ended || !open {
                    return std::future::pending().await;
                }
                self.there(client, behind, kept).await
            };
            let coming = async {
                if back_ended {
                    return std::future::pending().await;
                }
                self.back(behind, client, &mut back).await
            };
            // Whoever has nothing to say any more must not keep a move waiting.
            let rests = self.rests(opened, matches!(phase, Phase::Closing(_)) || ends);
            tokio::select! {
                ended = there => {
                    ended?;
                    there_ended = true;
                }
                ended = coming => match ended {
                    Ok(()) => back_ended = true,
                    // The place is left: what was restored elsewhere has closed its connections.
                    Err(_) if !open => return Ok(End::Moved),
                    Err(error) => return Err(error),
                },
                () = rests => {}
                _ = changes.changed() => {}
            }
            if back_ended && !open {
                return Ok(End::Moved);
            }
        }
        Ok(End::Closed)
    }

    fn permit(&self) -> std::sync::MutexGuard<'_, Option<Permit>> {
        self.permit.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether something may be sent there now; then it is under way.
    fn may_send(&self) -> bool {
        let mut permit = self.permit();
        if permit.is_none() {
            *permit = self.gate.try_admit().filter(|permit| *permit.place() == self.place);
        }
        permit.is_some()
    }

    /// Gives the permit back when all was answered and nothing came for a moment; then waits for ever, unless the front ends.
    async fn rests(&self, opened: Instant, closing: bool) {
        loop {
            let before = self.received.load(Ordering::Relaxed);
            if self.permit().is_none() && !closing {
                return std::future::pending().await;
            }
            sleep(if self.said_nothing() { TAKEN } else { SILENCE }).await;
            let silent = before == self.received.load(Ordering::Relaxed);
            if silent && !self.unanswered.load(Ordering::Relaxed) && opened.elapsed() >= TAKEN {
                *self.permit() = None;
                if self.gate.ends() {
                    return;
                }
                return std::future::pending().await;
            }
        }
    }

    /// Moves what the client says, until it says nothing more.
    async fn there(&self, client: &TcpStream, behind: &TcpStream, stock: &mut Stock) -> io::Result<()> {
        loop {
            // One that always has more to say must not keep the rest of the connection from its turn: the gate may have closed.
            consume_budget().await;
            if stock.is_empty() && stock.fill(client).await? == 0 {
                reach::shut(behind);
                return Ok(());
            }
            if !self.may_send() {
                // The gate has closed meanwhile, and that is about to be seen.
                return std::future::pending().await;
            }
            self.unanswered.store(true, Ordering::Relaxed);
            let bytes = stock.empty(behind).await?;
            self.sent.fetch_add(bytes, Ordering::Relaxed);
            self.gate.meters().sent.inc_by(bytes);
        }
    }

    /// Moves what the service says, until it says nothing more.
    async fn back(&self, behind: &TcpStream, client: &TcpStream, stock: &mut Stock) -> io::Result<()> {
        loop {
            consume_budget().await;
            if stock.is_empty() {
                let bytes = stock.fill(behind).await?;
                if bytes == 0 {
                    reach::shut(client);
                    return Ok(());
                }
                self.received.fetch_add(bytes, Ordering::Relaxed);
                self.unanswered.store(false, Ordering::Relaxed);
            }
            let bytes = stock.empty(client).await?;
            self.gate.meters().received.inc_by(bytes);
        }
    }
}

/// What was read in one direction and not written yet. Every step of it may be given up at any time.
struct Stock {
    moved: u64,
    buffer: Vec<u8>,
    written: usize,
    pipe: Option<Pipe>,
    no_pipe: bool,
    /// Much flows, but less than could be moved at once: more is waited for.
    gather: bool,
}

struct Pipe {
    inlet: OwnedFd,
    outlet: OwnedFd,
    filled: usize,
}

impl Stock {
    fn new() -> Self {
        Self { moved: 0, buffer: Vec::new(), written: 0, pipe: None, no_pipe: false, gather: false }
    }

    fn is_empty(&self) -> bool {
        self.written == self.buffer.len() && self.pipe.as_ref().is_none_or(|pipe| pipe.filled == 0)
    }

    /// Takes what a stream has; 0 at its end. Only when nothing is left of what was taken before.
    async fn fill(&mut self, from: &TcpStream) -> io::Result<u64> {
        if self.moved > BULK && self.pipe.is_none() && !self.no_pipe {
            match Pipe::new() {
                Ok(pipe) => self.pipe = Some(pipe),
                Err(error) => {
                    tracing::debug!(%error, "no pipe for bulk data");
                    self.no_pipe = true;
                }
            }
        }
        if self.gather {
            // Taken at once, it would cost as many wake-ups as segments come.
            sleep(GATHER).await;
        }
        loop {
            from.readable().await?;
            let read = match &mut self.pipe {
                Some(pipe) => pipe.fill(from),
                None => {
                    self.written = 0;
                    self.buffer.clear();
                    self.buffer.reserve(BUFFER);
                    from.try_read_buf(&mut self.buffer)
                }
            };
            match read {
                Ok(read) => {
                    self.moved += read as u64;
                    self.gather = self.pipe.is_some() && (WORTH..MOST).contains(&read);
                    return Ok(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives all of it to a stream; how many bytes.
    async fn empty(&mut self, to: &TcpStream) -> io::Result<u64> {
        let mut bytes = 0;
        while !self.is_empty() {
            let written = match &mut self.pipe {
                Some(pipe) if self.written == self.buffer.len() => pipe.empty(to),
                _ => to.try_write(self.buffer.get(self.written..).unwrap_or_default()).inspect(|written| {
                    self.written += written;
                }),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes += written as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Where the kernel refuses, the usual size will do.
        let sized = |size| fcntl(&inlet, FcntlArg::F_SETPIPE_SZ(size));
        let _ = sized(PIPE).or_else(|_| sized(PIPE / 4));
        Ok(Self { inlet, outlet, filled: 0 })
    }

    fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let moved = from.try_io(Interest::READABLE, || splice_some(from, &self.inlet, MOST))?;
        self.filled += moved;
        Ok(moved)
    }

    fn empty(&mut self, to: &TcpStream) -> io::Result<usize> {
        let moved = to.try_io(Interest::WRITABLE, || splice_some(&self.outlet, to, self.filled))?;
        self.filled -= moved;
        Ok(moved)
    }
}

fn splice_some(from: &impl std::os::fd::AsFd, to: &impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
