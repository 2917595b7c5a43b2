//! Statements that can be carried by anyone and still be known to be whose they are.
//!
//! A commit certificate may reach the destination through the scheduler when the two agents can't see each other, so that
//! mutual TLS alone does not tell who issued it: it is signed with the key that also proves its issuer in TLS.

use rcgen::{KeyPair, SigningKey as _};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::credentials::provider;
use super::{Credentials, IdentityError, Role};

/// What precedes a statement under the signature, so that it can't be taken for anything else that the key signs.
const CONTEXT: &[u8] = b"sterna statement 1\n";

/// A statement with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What is stated, as JSON.
    statement: String,
    /// ECDSA over P-256 with SHA-256, in ASN.1.
    signature: Vec<u8>,
    /// Certificate of who signed, PEM.
    signer: String,
}

impl Credentials {
    /// States something under one's own name.
    ///
    /// # Errors
    /// When it can't be written as JSON or the key is unusable.
    pub fn seal(&self, statement: &impl Serialize) -> Result<Sealed, IdentityError> {
        let statement = serde_json::to_string(statement).map_err(IdentityError::seal)?;
        let key = KeyPair::from_pem(&self.key_pem)?;
        let signature = key.sign(&signed(&statement))?;
        Ok(Sealed { statement, signature, signer: self.cert_pem.clone() })
    }

    /// What is stated, and by whom. The signer's certificate must come from the same authority as one's own.
    ///
    /// # Errors
    /// When the signer is not of this authority, the signature is not theirs, or the statement is something else.
    pub fn unseal<T: DeserializeOwned>(&self, sealed: &Sealed) -> Result<(Role, T), IdentityError> {
        let signer = CertificateDer::from_pem_slice(sealed.signer.as_bytes()).map_err(IdentityError::seal)?;
        WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .build()
            .map_err(IdentityError::seal)?
            .verify_client_cert(&signer, &[], UnixTime::now())
            .map_err(IdentityError::seal)?;
        let (_, certificate) = X509Certificate::from_der(&signer).map_err(IdentityError::seal)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &certificate.public_key().subject_public_key.data)
            .verify(&signed(&sealed.statement), &sealed.signature)
            .map_err(|_| IdentityError::Seal("the signature is not the signer's".to_owned()))?;
        let statement = serde_json::from_str(&sealed.statement).map_err(IdentityError::seal)?;
        Ok((Role::of_certificate(&signer)?, statement))
    }

    /// A secret that follows from one's own key, for a purpose: nobody else can compute it.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.key_pem.as_bytes())
    }
}

fn signed(statement: &str) -> Vec<u8> {
    [CONTEXT, statement.as_bytes()].concat()
}

impl IdentityError {
    fn seal(error: impl std::fmt::Display) -> Self {
        Self::Seal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::NodeName;

    use super::*;
    use crate::identity::Authority;

    fn agent(authority: &Authority, name: &str) -> Credentials {
        authority.issue(&Role::Agent(NodeName::from(name))).unwrap()
    }

    #[test]
    fn a_statement_is_known_to_be_its_signers() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let (a, b) = (agent(&authority, "a"), agent(&authority, "b"));
        let sealed = a.seal(&"b may run it").unwrap();
        let carried: Sealed = serde_json::from_str(&serde_json::to_string(&sealed).unwrap()).unwrap();
        let (who, what) = b.unseal::<String>(&carried).unwrap();
        assert_eq!((who, what.as_str()), (Role::Agent("a".into()), "b may run it"));
    }

    #[test]
    fn a_changed_word_a_borrowed_name_and_a_stranger_are_noticed() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let stranger = Authority::open(&elsewhere.path().join("authority")).unwrap();
        let (a, b) = (agent(&authority, "a"), agent(&authority, "b"));
        let sealed = a.seal(&"abort").unwrap();
        let changed = Sealed { statement: "\"commit\"".into(), ..sealed.clone() };
        let borrowed = Sealed { signer: b.cert_pem.clone(), ..sealed.clone() };
        let strange = agent(&stranger, "a").seal(&"abort").unwrap();
        for bad in [changed, borrowed, strange] {
            assert!(matches!(b.unseal::<String>(&bad), Err(IdentityError::Seal(_))), "{bad:?}");
        }
        assert!(b.unseal::<u32>(&sealed).is_err(), "another kind of statement");
    }

    #[test]
    fn a_derived_secret_is_ones_own() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let (a, b) = (agent(&authority, "a"), agent(&authority, "b"));
        assert_eq!(a.derive("x"), a.derive("x"));
        assert_ne!(a.derive("x"), a.derive("y"));
        assert_ne!(a.derive("x"), b.derive("x"));
    }
}
