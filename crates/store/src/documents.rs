//! Standing documents: what is kept until it is replaced or removed, such as advisories and
//! schedules. What is in them, their owners know.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::{Store, records};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    /// Its key; unique among its kind.
    pub key: String,
    /// When it was last kept.
    pub at: Timestamp,
    /// What it says.
    pub body: T,
}

impl Store {
    /// Keeps documents, all or none, each in place of an earlier one of the same kind and key.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put_documents<T: Serialize>(
        &self,
        kind: &str,
        documents: &[(String, T)],
        at: Timestamp,
    ) -> Result<(), Error> {
        let bodies = documents
            .iter()
            .map(|(key, body)| Ok((key, records::encode(kind, body)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        self.write("keep documents", |transaction| {
            let mut statement = transaction.prepare(
                "INSERT INTO document (kind, key, at, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, key) DO UPDATE SET at = excluded.at, body = excluded.body",
            )?;
            for (key, body) in bodies {
                statement.execute(params![kind, key, at.to_string(), body])?;
            }
            Ok(())
        })
    }

    /// All documents of a kind, by key.
    ///
    /// # Errors
    /// Where the file cannot be read, or a document is not what it should be.
    pub fn documents<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<Document<T>>, Error> {
        let rows: Vec<(String, String, String)> = self.read("read documents", |transaction| {
            let mut statement =
                transaction.prepare("SELECT key, at, body FROM document WHERE kind = ?1 ORDER BY key")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        rows.into_iter()
            .map(|(key, at, body)| {
                let what = format!("{kind} {key}");
                Ok(Document { at: records::name("time", &at)?, body: records::decode(&what, &body)?, key })
            })
            .collect()
    }

    /// Removes a document; tells whether there was one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn remove_document(&self, kind: &str, key: &str) -> Result<bool, Error> {
        self.write("remove a document", |transaction| {
            let removed = transaction
                .execute("DELETE FROM document WHERE kind = ?1 AND key = ?2", params![kind, key])?;
            Ok(removed > 0)
        })
    }
}
