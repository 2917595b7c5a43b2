//! What the tokens of migrations are made from.

use crate::identity::Credentials;
use crate::migration::order::MigrationId;

use super::{Store, StoreError, failed};

/// Has to stay as it is: tokens of migrations that are under way are made from it.
const PURPOSE: &str = "sterna migration token 1";

/// What the tokens of migrations that leave this node are made from. It lies beside the register and not with the agent's identity: a
/// node that is made anew on its old register goes on with what it finds there under a new key.
#[derive(Clone, Copy)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// The token of a migration at an epoch: nobody else can make it.
    pub fn token(&self, id: MigrationId, epoch: u64) -> String {
        blake3::keyed_hash(&self.0, format!("{id} {epoch}").as_bytes()).to_hex().to_string()
    }
}

impl Store {
    /// The key of this register; made on first use, from the agent's own.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn token_key(&self, credentials: &Credentials) -> Result<TokenKey, StoreError> {
        let failed = failed("written");
        let connection = self.lock();
        connection
            .execute(
                "INSERT OR IGNORE INTO token_key (one, value) VALUES (1, ?1)",
                [credentials.derive(PURPOSE).as_slice()],
            )
            .map_err(&failed)?;
        let value = connection.query_row("SELECT value FROM token_key", [], |row| row.get(0));
        value.map(TokenKey).map_err(&failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Authority, Role};

    #[test]
    fn tokens_outlast_the_identity_that_they_were_first_made_with_and_are_each_registers_own() {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::open(&home.path().join("authority")).unwrap();
        let identity = || authority.issue(&Role::Agent("a".into())).unwrap();
        let key = |folder: &str, identity: &Credentials| {
            Store::open(&home.path().join(folder)).unwrap().token_key(identity).unwrap()
        };
        let (first, second, id) = (identity(), identity(), MigrationId::new());
        let token = key("register", &first).token(id, 3);
        // The pod of a node was made anew on the volume that it had.
        assert_eq!(key("register", &second).token(id, 3), token);
        assert_ne!(key("other", &second).token(id, 3), token);
        assert_ne!(key("register", &first).token(id, 4), token);
        assert_ne!(key("register", &first).token(MigrationId::new(), 3), token);
        // A register of a version that did not keep it.
        assert_eq!(key("earlier", &first).token(id, 3), token);
    }
}
