//! Redis: the client's connection stays open while the one behind it is changed, between two commands.
//!
//! Commands and answers are counted, so that it is known when nothing is under way. Then the connection behind can be left and
//! another one opened elsewhere: what the client had said about its connection (AUTH, HELLO, SELECT, CLIENT SETNAME, SETINFO,
//! NO-EVICT, NO-TOUCH, READONLY) is said there again first. Only whole commands are sent, but those longer than the buffer.
//!
//! Closed instead, when the service has moved, is a connection that is subscribed, monitors or has turned answers off, has a
//! transaction open or keys watched, or has tracking on; and one that waits for an answer, also that of a command that blocks:
//! nobody can know whether it was carried out. `CLIENT ID` and what `CLIENT LIST` tells are new after a move.

use std::future::pending;
use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::gate::{Gate, HeldHere, Permit, Phase, Refused};
use super::place::Place;
use super::reach::{self, connect};

pub mod framing;
pub mod session;

use framing::Framing;
use session::Session;

/// Most bytes that are kept in each direction.
const BUFFER: usize = 64 << 10;
/// Time for a place to answer to what is said there first.
const INTRODUCTION: std::time::Duration = std::time::Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One of the two closed it.
    Closed,
    /// The service has moved, and it could not go along.
    Left,
    /// The service could not be reached for too long.
    Refused(Refused),
}

/// Serves one client until it or the service ends the connection.
pub async fn serve(client: TcpStream, gate: Arc<Gate>) {
    reach::tune(&client);
    let mut connection = Connection {
        changes: gate.changes(),
        gate,
        client,
        commands: Framing::commands(),
        answers: Framing::answers(),
        session: Session::default(),
        inbox: BytesMut::new(),
        inside: false,
        outbox: BytesMut::new(),
        replies: BytesMut::new(),
        behind: None,
        permit: None,
        held: None,
        ended: false,
        last: None,
    };
    match connection.run().await {
        Ok(End::Closed) => {}
        Ok(End::Left) => {
            let meters = connection.gate.meters();
            if connection.session.awaits() {
                meters.closed_in_request.inc();
            } else {
                meters.closed_at_boundary.inc();
            }
        }
        Ok(End::Refused(why)) => {
            let text = format!("-LOADING Sterna holds this service, which is being moved: {why}\r\n");
            // It may be gone.
            let _ = connection.client.try_write(text.as_bytes());
        }
        Err(error) => tracing::debug!(%error, "a Redis connection broke"),
    }
    connection.permit = None;
    connection.held = None;
    reach::end(&connection.client).await;
}

struct Connection {
    gate: Arc<Gate>,
    changes: watch::Receiver<Phase>,
    client: TcpStream,
    commands: Framing,
    answers: Framing,
    session: Session,
    /// Read from the client, not sent yet.
    inbox: BytesMut,
    /// Whether the beginning of a command was sent, and its end not yet.
    inside: bool,
    /// To be sent to the service.
    outbox: BytesMut,
    /// To be sent to the client.
    replies: BytesMut,
    behind: Option<(TcpStream, Arc<Place>)>,
    permit: Option<Permit>,
    held: Option<HeldHere>,
    /// The client sends nothing more.
    ended: bool,
    /// Where the last connection behind went.
    last: Option<Arc<Place>>,
}

impl Connection {
    async fn run(&mut self) -> io::Result<End> {
        loop {
            let mut moves = self.read_client()?;
            self.changes.borrow_and_update();
            if let Some(end) = self.look_at_place()? {
                return Ok(end);
            }
            moves |= match self.forward().await {
                Ok(moves) => moves,
                Err(why) => return Ok(End::Refused(why)),
            };
            moves |= self.send()?;
            moves |= match self.read_behind() {
                Ok(moves) => moves,
                Err(_) => match self.lost_behind() {
                    Some(end) => {
                        self.flush();
                        return Ok(end);
                    }
                    None => true,
                },
            };
            moves |= self.reply()?;
            self.settle();
            if (self.ended && self.is_done()) || (self.gate.ends() && self.is_between_commands()) {
                return Ok(End::Closed);
            }
            if moves {
                // Others must have their turn, whatever comes here.
                tokio::task::consume_budget().await;
                continue;
            }
            if let Some(end) = self.wait().await? {
                return Ok(end);
            }
        }
    }

    /// Everything that the client sent was sent on and answered, and it sends nothing more.
    fn is_done(&self) -> bool {
        let sent = self.inbox.is_empty() && self.outbox.is_empty();
        if let (true, true, Some((behind, _))) = (sent, self.session.is_opaque(), &self.behind) {
            // Only the service knows whether it has more to say.
            reach::shut(behind);
            return false;
        }
        sent && self.replies.is_empty() && !self.session.awaits()
    }

    /// Nothing was begun that a close would leave undone. Of one that is only passed through nobody can tell.
    fn is_between_commands(&self) -> bool {
        let nothing =
            self.inbox.is_empty() && self.outbox.is_empty() && self.replies.is_empty() && !self.inside;
        nothing && !self.session.awaits() && !self.session.in_transaction()
    }

    fn read_client(&mut self) -> io::Result<bool> {
        if self.ended || self.inbox.len() >= BUFFER {
            return Ok(false);
        }
        self.inbox.reserve(BUFFER / 4);
        match self.client.try_read_buf(&mut self.inbox) {
            Ok(0) => {
                self.ended = true;
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(error) => would_block(error),
        }
    }

    /// Whether the service takes connections elsewhere than where this one goes.
    fn has_moved(&self) -> bool {
        let behind = self.behind.as_ref().map(|(_, place)| place);
        behind.is_some_and(|place| self.gate.phase().open().is_some_and(|open| open != place))
    }

    /// Leaves the place behind if the service has moved from there.
    fn look_at_place(&mut self) -> io::Result<Option<End>> {
        if !self.has_moved() {
            return Ok(None);
        }
        // What it had answered before it was frozen has long arrived.
        while let Ok(true) = self.read_behind() {
            self.flush();
        }
        if !self.replies_have_room() {
            // The client must take some first.
            return Ok(None);
        }
        let unsent = !self.outbox.is_empty() || self.inside;
        if self.session.awaits() || unsent || self.session.bound().is_some() || !self.answers.at_boundary() {
            self.flush();
            return Ok(Some(End::Left));
        }
        self.behind = None;
        self.permit = None;
        Ok(None)
    }

    /// Sends on what may be sent of what the client said. Whether anything was.
    async fn forward(&mut self) -> Result<bool, Refused> {
        if self.inbox.is_empty() || self.outbox.len() >= BUFFER || !self.replies_have_room() {
            return Ok(false);
        }
        if !self.may_send() {
            if self.held.is_none() && self.gate.phase().open().is_none() {
                self.held = Some(self.gate.hold()?);
            }
            return Ok(false);
        }
        if self.behind.is_none() {
            self.connect_behind().await?;
        }
        self.held = None;
        Ok(self.take_commands())
    }

    fn replies_have_room(&self) -> bool {
        self.replies.len() < BUFFER
    }

    /// Whether commands may go out now. What belongs to a command or a transaction that is under way may until the freeze.
    fn may_send(&mut self) -> bool {
        match self.gate.phase() {
            Phase::Open(_) => {
                if self.has_moved() {
                    return false;
                }
                if self.permit.is_none() && self.behind.is_some() {
                    self.permit = self.gate.try_admit();
                    return self.permit.is_some();
                }
                true
            }
            Phase::Closing(_) => self.permit.is_some() && (self.inside || self.session.in_transaction()),
            Phase::Shut => false,
        }
    }

    async fn connect_behind(&mut self) -> Result<(), Refused> {
        let since = self.held.as_ref().map_or_else(Instant::now, |held| held.until() - self.gate.longest());
        loop {
            let (stream, permit) = connect(&self.gate, since, &mut self.held).await?;
            let place = Arc::clone(permit.place());
            let (said, answers) = self.session.introduction();
            match tokio::time::timeout(INTRODUCTION, introduce(&stream, &said, answers)).await {
                Ok(Ok(())) => {
                    let before = self.last.replace(Arc::clone(&place));
                    if before.is_some_and(|before| before != place) {
                        self.gate.meters().handed_over.inc();
                    }
                    self.answers = Framing::answers();
                    self.behind = Some((stream, place));
                    self.permit = Some(permit);
                    return Ok(());
                }
                Ok(Err(error)) => tracing::debug!(%error, "a connection could not be introduced"),
                Err(_) => tracing::debug!("the introduction of a connection was not answered in time"),
            }
            if since.elapsed() >= self.gate.longest() {
                return Err(self.gate.too_long());
            }
            tokio::time::sleep(INTRODUCTION / 100).await;
        }
    }

    /// Moves whole commands from the inbox to the outbox, or a piece of one that does not fit.
    fn take_commands(&mut self) -> bool {
        let mut taken = 0;
        while let Some(rest) = self.inbox.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.session.is_opaque() {
                taken = self.inbox.len();
                break;
            }
            let mut framing = self.commands.clone();
            let Ok((used, value)) = framing.take(rest) else {
                // The server will say what it thinks of that.
                self.session.give_up();
                self.inside = false;
                continue;
            };
            if value.is_none() && !self.inside && (taken > 0 || self.inbox.len() < BUFFER) {
                // The rest of it will come, or never.
                if self.ended {
                    self.inbox.truncate(taken);
                }
                break;
            }
            if !self.inside {
                self.session.sent(rest.get(..used).unwrap_or_default(), value);
            }
            self.inside = value.is_none();
            self.commands = framing;
            taken += used;
        }
        let sent = self.inbox.split_to(taken);
        self.gate.meters().sent.inc_by(taken as u64);
        if self.outbox.is_empty() {
            self.outbox = sent;
        } else {
            self.outbox.extend_from_slice(&sent);
        }
        taken > 0
    }

    fn send(&mut self) -> io::Result<bool> {
        let (Some((behind, _)), false) = (&self.behind, self.outbox.is_empty()) else { return Ok(false) };
        match behind.try_write(&self.outbox) {
            Ok(written) => {
                self.outbox.advance(written);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => {
                // What it said before it ended is still to be read; that it ended is seen there.
                self.outbox.clear();
                Ok(true)
            }
        }
    }

    /// Takes answers. Whether any came; an error when the service has ended the connection.
    fn read_behind(&mut self) -> io::Result<bool> {
        let (Some((behind, _)), true) = (&self.behind, self.replies_have_room()) else { return Ok(false) };
        let before = self.replies.len();
        self.replies.reserve(BUFFER / 4);
        match behind.try_read_buf(&mut self.replies) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return would_block(error),
        }
        self.gate.meters().received.inc_by((self.replies.len() - before) as u64);
        let mut at = before;
        while let Some(rest) = self.replies.get(at..).filter(|rest| !rest.is_empty()) {
            if self.session.is_opaque() {
                break;
            }
            match self.answers.take(rest) {
                Ok((used, value)) => {
                    at += used;
                    if let Some(value) = value {
                        self.session.answered(value);
                    }
                }
                Err(_) => self.session.give_up(),
            }
        }
        Ok(true)
    }

    /// The service has ended the connection. How that ends the client's, if it does.
    fn lost_behind(&mut self) -> Option<End> {
        let moving = self.gate.phase().open().is_none() || self.has_moved();
        let whole = self.outbox.is_empty() && !self.inside && self.answers.at_boundary();
        let free = whole && !self.session.awaits() && self.session.bound().is_none();
        self.behind = None;
        self.permit = None;
        if free && !self.session.quits() && !self.ended {
            // It may be on its way elsewhere, or restarted: the next command is sent to wherever it is then.
            return None;
        }
        Some(if moving { End::Left } else { End::Closed })
    }

    fn reply(&mut self) -> io::Result<bool> {
        if self.replies.is_empty() {
            return Ok(false);
        }
        match self.client.try_write(&self.replies) {
            Ok(written) => {
                self.replies.advance(written);
                Ok(true)
            }
            Err(error) => would_block(error),
        }
    }

    /// As much of the answers as the client takes without being waited for.
    fn flush(&mut self) {
        while let Ok(true) = self.reply() {}
    }

    /// Gives back the permit when nothing is under way that is worth waiting for.
    fn settle(&mut self) {
        let busy = self.session.is_busy() || self.inside || !self.outbox.is_empty();
        if !busy {
            self.permit = None;
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> io::Result<Option<End>> {
        let mut client = None;
        if !self.ended && self.inbox.len() < BUFFER {
            client = Some(Interest::READABLE);
        }
        if !self.replies.is_empty() {
            client = Some(client.map_or(Interest::WRITABLE, |other| other | Interest::WRITABLE));
        }
        let mut behind = None;
        if self.behind.is_some() {
            if self.replies_have_room() {
                behind = Some(Interest::READABLE);
            }
            if !self.outbox.is_empty() {
                behind = Some(behind.map_or(Interest::WRITABLE, |other| other | Interest::WRITABLE));
            }
        }
        let until = self.held.as_ref().map(HeldHere::until);
        tokio::select! {
            ready = ready(Some(&self.client), client) => ready?,
            ready = ready(self.behind.as_ref().map(|(stream, _)| stream), behind) => ready?,
            _ = self.changes.changed() => {}
            () = at(until) => {
                return Ok(Some(End::Refused(self.gate.too_long())));
            }
        }
        Ok(None)
    }
}

async fn ready(stream: Option<&TcpStream>, interest: Option<Interest>) -> io::Result<()> {
    match (stream, interest) {
        (Some(stream), Some(interest)) => stream.ready(interest).await.map(drop),
        _ => pending().await,
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

fn would_block(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// Says on a new connection what the client had said of its own, and takes the answers.
async fn introduce(stream: &TcpStream, said: &[u8], answers: usize) -> io::Result<()> {
    let mut left = said;
    while !left.is_empty() {
        stream.writable().await?;
        match stream.try_write(left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) => drop(would_block(error)?),
        }
    }
    let (mut framing, mut missing) = (Framing::answers(), answers);
    let mut buffer = [0; 4096];
    while missing > 0 {
        stream.readable().await?;
        let read = match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) => {
                would_block(error)?;
                continue;
            }
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let (used, value) = framing.take(rest).map_err(io::Error::other)?;
            rest = rest.get(used..).unwrap_or_default();
            if let Some(value) = value.filter(|value| value.kind != b'>') {
                if value.kind == b'-' {
                    return Err(io::Error::other("the service refused what it had accepted before"));
                }
                missing = missing.saturating_sub(1);
            }
        }
    }
    Ok(())
}
