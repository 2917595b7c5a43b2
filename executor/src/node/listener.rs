//! Mutual TLS in front of the API: nobody without a certificate of this continuum gets a word in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identity::Role;

/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

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
}

/// Handshakes run beside each other: a peer that says nothing holds up nobody.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, Peer)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
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
        tokio::spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => match role(&stream) {
                    Some(role) => drop(ready.send((stream, Peer { role, address })).await),
                    None => tracing::warn!(%address, "a peer's certificate speaks for nobody"),
                },
                Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%address, "a handshake took too long"),
            }
        });
    }
}

fn role(stream: &TlsStream<TcpStream>) -> Option<Role> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    Role::of_certificate(certificates.first()?).ok()
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Peer { role: Role::Scheduler, address: self.local })
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}
