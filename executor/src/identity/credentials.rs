//! What one party holds, and the TLS that follows from it: version 1.3, both ends proven by this authority, no other root.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{IdentityError, Role, create_private_folder, read_secret, write_private};

const AUTHORITY_FILE: &str = "ca.pem";
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The authority's certificate, a certificate of one's own, and its key, all PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The authority's certificate.
    pub ca_pem: String,
    /// One's own certificate.
    pub cert_pem: String,
    /// Its private key. Never printed, never logged.
    pub key_pem: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Credentials {
    pub(super) fn new(ca_pem: String, cert_pem: String, key_pem: String) -> Self {
        Self { ca_pem, cert_pem, key_pem }
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` (0600) into `folder` (made 0700 if it is not there).
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn store(&self, folder: &Path) -> Result<(), IdentityError> {
        create_private_folder(folder)?;
        for (name, content) in self.files() {
            write_private(&folder.join(name), content)?;
        }
        Ok(())
    }

    /// Names and contents of the files that [`Credentials::load`] reads.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [(AUTHORITY_FILE, &self.ca_pem), (CERTIFICATE_FILE, &self.cert_pem), (KEY_FILE, &self.key_pem)]
    }

    /// Reads what [`Credentials::store`] wrote.
    ///
    /// # Errors
    /// When a file can't be read, or the key may be read by others.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        let read = |name| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(IdentityError::file(&path))
        };
        Ok(Self::new(read(AUTHORITY_FILE)?, read(CERTIFICATE_FILE)?, read_secret(&folder.join(KEY_FILE))?))
    }

    /// Who the certificate speaks for.
    ///
    /// # Errors
    /// When it can't be read, or speaks for nobody.
    pub fn role(&self) -> Result<Role, IdentityError> {
        let chain = self.chain()?;
        let first = chain.first().ok_or_else(|| unsuitable("there is no certificate"))?;
        Role::of_certificate(first)
    }

    /// TLS for a server that speaks only with peers whose certificate this authority made.
    ///
    /// # Errors
    /// When the certificates or the key can't be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let peers = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .build()
            .map_err(unsuitable)?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unsuitable)?
            .with_client_cert_verifier(peers)
            .with_single_cert(self.chain()?, self.key()?)
            .map_err(unsuitable)?;
        Ok(Arc::new(config))
    }

    /// TLS for a client that trusts this authority alone and proves who it is.
    ///
    /// # Errors
    /// When the certificates or the key can't be used.
    pub fn client_config(&self) -> Result<ClientConfig, IdentityError> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unsuitable)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain()?, self.key()?)
            .map_err(unsuitable)
    }

    /// An HTTP client over [`Credentials::client_config`]: no plain HTTP, no proxies, no redirects, 5 s to connect.
    /// Address a peer by its role's host name (`https://<node>.node.sterna:PORT/`) and tell the builder where that is
    /// with `resolve`.
    ///
    /// # Errors
    /// When the certificates or the key can't be used.
    pub fn client(&self) -> Result<reqwest::ClientBuilder, IdentityError> {
        Ok(reqwest::Client::builder()
            .tls_backend_preconfigured(self.client_config()?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT))
    }

    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect::<Result<_, _>>().map_err(unsuitable)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(unsuitable)
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(unsuitable)?).map_err(unsuitable)?;
        }
        Ok(roots)
    }
}

/// Named explicitly, so that it does not matter which provider the process installed.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unsuitable(error: impl fmt::Display) -> IdentityError {
    IdentityError::Unsuitable(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::ServerName;
    use sterna_core::continuum::NodeName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::identity::Authority;

    fn agent(name: &str) -> Role {
        Role::Agent(NodeName::from(name))
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        (home, authority)
    }

    /// One request and one answer over a real loopback connection. The server answers with the role it saw.
    async fn talk(
        server: Arc<ServerConfig>,
        client: ClientConfig,
        host: &str,
    ) -> (std::io::Result<Role>, std::io::Result<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let (stream, _) = listener.accept().await?;
            let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(stream).await?;
            let role =
                Role::of_certificate(&stream.get_ref().1.peer_certificates().unwrap_or_default()[0]).unwrap();
            stream.write_all(role.host_name().as_bytes()).await?;
            stream.shutdown().await?;
            Ok(role)
        };
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let ask = async move {
            let stream = TcpStream::connect(address).await?;
            let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        tokio::join!(serve, ask)
    }

    #[tokio::test]
    async fn peers_of_one_authority_know_each_other() {
        let (_home, authority) = authority();
        let server = authority.issue(&agent("edge-a")).unwrap().server_config().unwrap();
        for role in [Role::Scheduler, agent("edge-b")] {
            let client = authority.issue(&role).unwrap().client_config().unwrap();
            let (served, answer) = talk(server.clone(), client, "edge-a.node.sterna").await;
            assert_eq!(served.unwrap(), role);
            assert_eq!(answer.unwrap(), role.host_name());
        }
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let (_home, authority) = authority();
        let credentials = authority.issue(&agent("edge-a")).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(credentials.roots().unwrap())
            .with_no_client_auth();
        let (served, answer) = talk(credentials.server_config().unwrap(), client, "edge-a.node.sterna").await;
        assert!(served.unwrap_err().to_string().contains("peer sent no certificates"));
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn a_client_of_another_authority_is_refused() {
        let (_home, ours) = authority();
        let (_elsewhere, theirs) = authority();
        let server = ours.issue(&agent("edge-a")).unwrap();
        // It trusts our authority, so that only the server can be the one who refuses.
        let mut impostor = theirs.issue(&Role::Scheduler).unwrap();
        impostor.ca_pem = server.ca_pem.clone();
        let (served, answer) =
            talk(server.server_config().unwrap(), impostor.client_config().unwrap(), "edge-a.node.sterna")
                .await;
        assert!(served.is_err());
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn a_server_that_is_not_the_one_asked_for_is_refused() {
        let (_home, ours) = authority();
        let (_elsewhere, theirs) = authority();
        let client = || ours.issue(&Role::Scheduler).unwrap().client_config().unwrap();
        let server = ours.issue(&agent("edge-a")).unwrap().server_config().unwrap();
        let (served, answer) = talk(server, client(), "edge-b.node.sterna").await;
        assert!(served.is_err());
        assert!(answer.unwrap_err().to_string().contains("not valid for name"));
        let server = theirs.issue(&agent("edge-a")).unwrap().server_config().unwrap();
        let (served, answer) = talk(server, client(), "edge-a.node.sterna").await;
        assert!(served.is_err());
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn the_http_client_proves_who_it_is_and_speaks_nothing_but_tls() {
        let (_home, authority) = authority();
        let server = authority.issue(&agent("edge-a")).unwrap().server_config().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(stream).await.unwrap();
            let role = Role::of_certificate(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await.unwrap();
            let body = role.host_name();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let client = authority.issue(&Role::Scheduler).unwrap().client().unwrap();
        let client = client.resolve("edge-a.node.sterna", address).build().unwrap();
        let url = format!("https://edge-a.node.sterna:{}/", address.port());
        let answer = client.get(url).send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, "scheduler.sterna");
        serving.await.unwrap();
        let plain = client.get(format!("http://edge-a.node.sterna:{}/", address.port())).send().await;
        assert!(plain.is_err());
    }

    #[test]
    fn what_is_stored_is_loaded_and_is_the_owners_alone() {
        let (home, authority) = authority();
        let folder = home.path().join("identity");
        let credentials = authority.issue(&agent("edge-a")).unwrap();
        credentials.store(&folder).unwrap();
        credentials.store(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for (name, _) in credentials.files() {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        let loaded = Credentials::load(&folder).unwrap();
        assert_eq!(loaded.files(), credentials.files());
        assert_eq!(loaded.role().unwrap(), agent("edge-a"));
        std::fs::set_permissions(folder.join(KEY_FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Credentials::load(&folder), Err(IdentityError::Exposed { .. })));
    }

    #[test]
    fn a_key_is_never_printed() {
        let (_home, authority) = authority();
        let credentials = authority.issue(&agent("edge-a")).unwrap();
        let shown = format!("{credentials:?} {credentials:#?} {authority:?}");
        let secret = credentials.key_pem.lines().nth(1).unwrap();
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE KEY"), "{shown}");
    }
}
