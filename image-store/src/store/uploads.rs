//! Uploads that were begun, so that a push goes on where a killed one ended.

use super::{Store, now};
use crate::digest::Digest;
use crate::error::Result;
use rusqlite::{OptionalExtension, params};

impl Store {
    /// The address of a begun upload of a blob to `target`, a repository's address.
    pub fn begun_upload(&self, target: &str, digest: &Digest) -> Result<Option<String>> {
        let query = "SELECT session FROM upload WHERE target = ? AND digest = ?";
        let database = self.database();
        let found = database.query_row(query, params![target, digest], |row| row.get(0));
        Ok(found.optional()?)
    }

    /// Keeps the address of an upload, or forgets it when it is over.
    pub fn note_upload(&self, target: &str, digest: &Digest, session: Option<&str>) -> Result<()> {
        self.transaction(|t| {
            match session {
                Some(session) => t.execute(
                    "INSERT OR REPLACE INTO upload (target, digest, session, updated) VALUES (?, ?, ?, ?)",
                    params![target, digest, session, now()],
                )?,
                None => t.execute(
                    "DELETE FROM upload WHERE target = ? AND digest = ?",
                    params![target, digest],
                )?,
            };
            Ok(())
        })
    }
}
