//! A caller that may say anything: bytes over TLS, or over nothing, and what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sterna_executor::identity::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer of this status, with as much of its body as it announced.
    Answered(u16, String),
    /// The connection was closed without one.
    Closed,
    /// Nothing, for as long as was waited.
    Silence,
}

/// One who calls.
#[derive(Clone)]
pub struct Caller {
    to: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Caller {
    /// Calls the agent of `node` as whoever these credentials are for.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn new(to: SocketAddr, node: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        Self::with(to, node, credentials.client_config()?)
    }

    /// Calls it as nobody, trusting whom these credentials trust.
    ///
    /// # Errors
    /// As above.
    pub fn nobody(to: SocketAddr, node: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(credentials.ca_pem.as_bytes())?)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::with(to, node, tls)
    }

    fn with(to: SocketAddr, node: &str, tls: ClientConfig) -> anyhow::Result<Self> {
        let name = ServerName::try_from(format!("{node}.node.sterna")).context("a node's host name")?;
        Ok(Self { to, name, tls: Arc::new(tls) })
    }

    /// A connection with TLS.
    ///
    /// # Errors
    /// When the other end does not accept it.
    pub async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await
    }

    /// A connection without.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn plain(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.to).await
    }

    /// Sends these bytes on a connection of their own and waits for an answer, for so long. Nothing is sent after them, and
    /// the connection stays open.
    pub async fn call(&self, bytes: &[u8], patience: Duration) -> Outcome {
        let call = async {
            let Ok(stream) = self.connect().await else { return Outcome::Closed };
            exchange(stream, bytes).await
        };
        tokio::time::timeout(patience, call).await.unwrap_or(Outcome::Silence)
    }
}

/// Writes and reads at once: an answer may come before everything is said.
async fn exchange(stream: TlsStream<TcpStream>, bytes: &[u8]) -> Outcome {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        // Whoever has answered need not listen any more.
        let _ = writing.write_all(bytes).await;
        let _ = writing.flush().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = write => Outcome::Silence,
        answer = answer(&mut reading) => answer,
    }
}

async fn answer(reading: &mut (impl tokio::io::AsyncRead + Unpin)) -> Outcome {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(answer) = parse(&seen, false) {
            return answer;
        }
        match reading.read(&mut buffer).await {
            Ok(0) | Err(_) => return parse(&seen, true).unwrap_or(Outcome::Closed),
            Ok(length) => seen.extend_from_slice(&buffer[..length]),
        }
    }
}

/// The answer, once it is whole or the connection has ended.
fn parse(seen: &[u8], ended: bool) -> Option<Outcome> {
    let text = String::from_utf8_lossy(seen);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let whole = ended || length.is_none_or(|length| body.len() >= length) || head.contains("chunked");
    whole.then(|| Outcome::Answered(status, body.to_owned()))
}
