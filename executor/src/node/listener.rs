//! Mutual TLS in front of the API: nobody without a certificate of this continuum gets a word in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identity::Role;

/// Handshakes under way at once. The oldest gives way to a further one: who has something to say is through in an instant, so
/// connections that say nothing keep nobody out.
pub(super) const HANDSHAKES: usize = 256;
/// Time for a handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for which a peer may take nothing of what it asked for, or give no sign of life at all.
pub(super) const UNTAKEN: Duration = Duration::from_secs(60);

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What its certificate says.
    pub role: Role,
    /// Where from.
    pub address: SocketAddr,
}

/// Accepts connections whose peer has proved who it is.
#[derive(Debug)]
pub struct TlsListener {
    local: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
}

impl TlsListener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address can't be used.
    pub async fn bind(address: &str, config: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(HANDSHAKES);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), sender));
        Ok(Self { local, ready })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// The next connection whose peer has proved who it is.
    pub async fn accept(&mut self) -> (TlsStream<TcpStream>, Peer) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the runtime.
            None => std::future::pending().await,
        }
    }
}

/// Handshakes run beside each other: a peer that says nothing holds up nobody.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, Peer)>,
) {
    let mut under_way = UnderWay::default();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be given back.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        let handshake = tokio::spawn(async move {
            if let Err(error) = watch_over(&stream) {
                return tracing::debug!(%address, %error, "a connection can't be watched over");
            }
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => match role(&stream) {
                    Some(role) => drop(ready.send((stream, Peer { role, address })).await),
                    None => tracing::warn!(%address, "a peer's certificate speaks for nobody"),
                },
                Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%address, "a handshake took too long"),
            }
        });
        under_way.add(handshake.abort_handle());
    }
}

/// Handshakes under way, the oldest first.
#[derive(Debug, Default)]
struct UnderWay(VecDeque<AbortHandle>);

impl UnderWay {
    fn add(&mut self, handshake: AbortHandle) {
        self.0.retain(|one| !one.is_finished());
        if self.0.len() >= HANDSHAKES
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(handshake);
    }
}

/// Has the kernel end a connection whose peer is gone, or takes nothing of what is sent to it.
fn watch_over(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNTAKEN))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNTAKEN / 2).with_interval(UNTAKEN / 6))
}

fn role(stream: &TlsStream<TcpStream>) -> Option<Role> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    Role::of_certificate(certificates.first()?).ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::identity::{Authority, Credentials};

    async fn listening() -> (tempfile::TempDir, Authority, TlsListener) {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let own = authority.issue(&Role::Agent("a".into())).unwrap();
        let listener = TlsListener::bind("127.0.0.1:0", own.server_config().unwrap()).await.unwrap();
        (home, authority, listener)
    }

    async fn connect(credentials: &Credentials, to: SocketAddr) -> io::Result<()> {
        let config = Arc::new(credentials.client_config().unwrap());
        let name = rustls::pki_types::ServerName::try_from("a.node.sterna").unwrap();
        let stream = TcpStream::connect(to).await?;
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map(drop)
    }

    #[tokio::test]
    async fn those_that_say_nothing_keep_nobody_out() {
        let (_home, authority, mut listener) = listening().await;
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES + 50 {
            silent.push(TcpStream::connect(listener.address()).await.unwrap());
        }
        let scheduler = authority.issue(&Role::Scheduler).unwrap();
        let genuine = async {
            connect(&scheduler, listener.local).await.unwrap();
            listener.ready.recv().await.unwrap().1
        };
        let peer = tokio::time::timeout(HANDSHAKE / 2, genuine).await.unwrap();
        assert_eq!(peer.role, Role::Scheduler);
        let ended = tokio::time::timeout(HANDSHAKE / 2, silent[0].read(&mut [0; 1])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "the oldest gave way: {ended:?}");
    }
}
