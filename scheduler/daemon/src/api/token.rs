//! Who may change something: whoever has the token.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use super::Api;
use super::error::ApiError;

/// Name of the file in the continuum's state folder, where the settings name none.
pub const FILE: &str = "api-token";
/// A shorter one could be guessed.
const SHORTEST: usize = 16;

/// A token, as its hash: comparing hashes takes the same time wherever they differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token that can't be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Its file can't be read or made.
    #[error("can't use the token file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It is too short.
    #[error(
        "the token in {path} has fewer than {SHORTEST} characters; write a longer one, such as 32 random bytes in hexadecimal"
    )]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// There is no randomness.
    #[error("the system gives no random bytes for a token")]
    Random,
}

impl Token {
    /// From its text.
    pub fn new(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }
}

/// Reads a token's text from its file.
///
/// # Errors
/// When it can't be read or is too short.
pub fn read(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let text = text.trim();
    if text.len() < SHORTEST {
        return Err(TokenError::Short { path: path.to_owned() });
    }
    Ok(text.to_owned())
}

/// The token of a state folder, made on first use, for its owner alone to read.
///
/// # Errors
/// When it can't be read or made.
pub fn of_state(folder: &Path) -> Result<String, TokenError> {
    let path = folder.join(FILE);
    match read(&path) {
        Err(TokenError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        found => return found,
    }
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let failed = |source| TokenError::File { path: path.clone(), source };
    // Whole or not at all: a full disk leaves no file that is too short.
    let unfinished = folder.join(format!("{FILE}.new"));
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let mut file = open.map_err(failed)?;
    writeln!(file, "{text}").and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&unfinished, &path).map_err(failed)?;
    Ok(text)
}

/// Proof that a request has the token.
#[derive(Debug, Clone, Copy)]
pub struct Allowed(());

impl FromRequestParts<Api> for Allowed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Some(token) = &api.token else { return Err(ApiError::read_only()) };
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = given.and_then(|given| {
            let (scheme, rest) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(rest.trim()))
        });
        match bearer {
            Some(bearer) if bearer == *token => Ok(Self(())),
            other => Err(ApiError::unauthorized(other.is_some())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = of_state(folder.path()).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(of_state(folder.path()).unwrap(), first);
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(of_state(other.path()).unwrap(), first);
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "secret\n").unwrap();
        assert!(matches!(read(&path), Err(TokenError::Short { .. })));
        assert!(matches!(of_state(folder.path()), Err(TokenError::Short { .. })));
        assert!(matches!(read(Path::new("/nowhere/token")), Err(TokenError::File { .. })));
    }
}
