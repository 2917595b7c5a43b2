//! Connecting to the place, and closing without a reset.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::gate::{Gate, HeldHere, Permit, Refused};

/// Time for a place to take a connection before it is tried again: a lost SYN is repeated by the kernel after a second only.
const CONNECT: Duration = Duration::from_millis(800);
/// Pause between two tries; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// Time in which a peer that is gone is noticed, while nothing is said.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Time for a client to close its side after we have closed ours.
const LINGER: Duration = Duration::from_secs(2);

/// Connects to wherever the service is, holding meanwhile what wants to go there, but for no longer than the gate has it
/// since `since`. The permit comes with it, for what is sent first. `held` is the guard that holds it, if one does already.
///
/// # Errors
/// When nothing takes the connection in time, or too much is held.
pub async fn connect(
    gate: &Arc<Gate>,
    since: Instant,
    held: &mut Option<HeldHere>,
) -> Result<(TcpStream, Permit), Refused> {
    let mut pause = FIRST_PAUSE;
    loop {
        let permit = gate.admit(since, held).await?;
        let place = Arc::clone(permit.place());
        match timeout(CONNECT, TcpStream::connect(place.address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok((stream, permit));
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %place.node, address = %place.address, %error, "can't connect")
            }
            Err(_) => tracing::debug!(node = %place.node, address = %place.address, "no connection in time"),
        }
        // Given back while we wait: it would keep a move waiting.
        drop(permit);
        if held.is_none() {
            *held = Some(gate.hold()?);
        }
        if since.elapsed() + pause >= gate.longest() {
            return Err(gate.too_long());
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Small writes go out at once, and a peer that is gone is noticed.
pub fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
    if let Err(error) =
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(%error, "a connection can't be tuned");
    }
}

/// Says that nothing more is sent.
pub fn shut(stream: &TcpStream) {
    // It may be closed already.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

/// Ends a connection so that its peer sees an end and not a reset: what it still sends is read, and thrown away, until it
/// ends too or some time has passed.
pub async fn end(stream: &TcpStream) {
    shut(stream);
    let mut waste = [0; 4096];
    let drain = async {
        loop {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut waste) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGER, drain).await;
}
