//! The certificate authority of one continuum.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Credentials, IdentityError, Role, create_private_folder, read_secret, write_private};

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key.pem";

/// A peer whose clock is this far behind still accepts a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());
const CERTIFICATE_LIFE: Duration = Duration::from_secs(2 * 365 * DAY.as_secs());

/// The certificate authority of one continuum, in a folder of its own (0700, keys 0600).
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
    certificate_pem: String,
}

impl Authority {
    /// Opens the authority in `folder`, and makes it on first use. Two processes that do so at once get the same one.
    ///
    /// # Errors
    /// When the folder can't be written, holds other things, or its key may be read by others.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        if !folder.join(CERTIFICATE_FILE).exists() {
            found(folder)?;
        }
        let certificate = folder.join(CERTIFICATE_FILE);
        let certificate_pem =
            std::fs::read_to_string(&certificate).map_err(IdentityError::file(&certificate))?;
        let authority = Self { folder: folder.to_owned(), certificate_pem };
        authority.key()?;
        Ok(authority)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a fresh key and a certificate for `role`, valid for two years.
    ///
    /// # Errors
    /// When a node's name can't be part of a host name, or the authority's own key is unusable.
    pub fn issue(&self, role: &Role) -> Result<Credentials, IdentityError> {
        role.check()?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, self.key()?)?;
        let mut parameters = CertificateParams::new([role.host_name()])?;
        parameters.distinguished_name.push(DnType::CommonName, role.host_name());
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        valid_for(&mut parameters, CERTIFICATE_LIFE);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &issuer)?;
        Ok(Credentials::new(self.certificate_pem.clone(), certificate.pem(), key.serialize_pem()))
    }

    fn key(&self) -> Result<KeyPair, IdentityError> {
        Ok(KeyPair::from_pem(&read_secret(&self.folder.join(KEY_FILE))?)?)
    }
}

/// Makes a new authority beside `folder` and moves it there in one step: a rename onto a folder that holds something fails,
/// so the first of two processes wins and the other one uses what it finds.
fn found(folder: &Path) -> Result<(), IdentityError> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_private_folder(parent)?;
    let draft = tempfile::Builder::new()
        .prefix(".authority-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(IdentityError::file(parent))?;

    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "Sterna");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut parameters, AUTHORITY_LIFE);
    write_private(&draft.path().join(KEY_FILE), &key.serialize_pem())?;
    write_private(&draft.path().join(CERTIFICATE_FILE), &parameters.self_signed(&key)?.pem())?;

    match std::fs::rename(draft.path(), folder) {
        Ok(()) => Ok(()),
        Err(_) if folder.join(CERTIFICATE_FILE).exists() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
            Err(IdentityError::Occupied { folder: folder.to_owned() })
        }
        Err(source) => Err(IdentityError::File { path: folder.to_owned(), source }),
    }
}

fn valid_for(parameters: &mut CertificateParams, life: Duration) {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::NodeName;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_folder_and_the_key_are_the_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state/demo/authority");
        Authority::open(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&home.path().join("state")), 0o700);
        assert_eq!(mode(&folder.join(KEY_FILE)), 0o600);
        let left: Vec<_> = std::fs::read_dir(folder.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the authority stays: {left:?}");
    }

    #[test]
    fn opening_again_finds_the_same_authority() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("authority");
        let first = Authority::open(&folder).unwrap();
        assert_eq!(Authority::open(&folder).unwrap().certificate_pem, first.certificate_pem);
    }

    #[test]
    fn many_that_open_at_once_agree() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("authority");
        let barrier = std::sync::Barrier::new(8);
        let certificates: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let open = || {
                barrier.wait();
                Authority::open(&folder).unwrap().certificate_pem
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(certificates.len(), 1);
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("notes"), "mine").unwrap();
        let refused = Authority::open(home.path());
        assert!(matches!(refused, Err(IdentityError::Occupied { .. })), "{refused:?}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("authority");
        Authority::open(&folder).unwrap();
        std::fs::set_permissions(folder.join(KEY_FILE), std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Authority::open(&folder);
        assert!(matches!(refused, Err(IdentityError::Exposed { mode: 0o640, .. })), "{refused:?}");
    }

    #[test]
    fn certificates_name_their_role_and_allow_both_ends() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let role = Role::Agent(NodeName::from("edge-a"));
        let credentials = authority.issue(&role).unwrap();
        let chain = credentials.chain().unwrap();
        assert_eq!(Role::of_certificate(&chain[0]).unwrap(), role);
        let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && !usage.any);
        assert!(!certificate.is_ca());
        let validity = certificate.validity();
        let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
        assert_eq!(days, 730);
        assert!(matches!(
            authority.issue(&Role::Agent(NodeName::from("no good"))),
            Err(IdentityError::NotAHostName(_))
        ));
    }
}
