//! Observations and verdicts, and the reading and writing of documents that all files share.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use volutus_model::Observation;
use volutus_model::name::{HostName, RunId};
use volutus_model::verdict::Verdict;

use crate::Store;
use crate::error::Error;

impl Store {
    /// Keeps what one look at a cloud saw.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put_observation(&self, cloud: &HostName, observation: &Observation) -> Result<(), Error> {
        let body = encode("an observation", observation)?;
        self.write("keep an observation", |transaction| {
            transaction.execute(
                "INSERT INTO observation (cloud, at, body) VALUES (?1, ?2, ?3)",
                params![cloud.as_str(), observation.at.to_string(), body],
            )?;
            Ok(())
        })
    }

    /// The latest look at a cloud, where there was one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn latest_observation(&self, cloud: &HostName) -> Result<Option<Observation>, Error> {
        let body: Option<String> = self.read("read an observation", |transaction| {
            Ok(transaction
                .query_row(
                    "SELECT body FROM observation WHERE cloud = ?1 ORDER BY id DESC LIMIT 1",
                    [cloud.as_str()],
                    |row| row.get(0),
                )
                .optional()?)
        })?;
        body.map(|body| decode("the observation", &body)).transpose()
    }

    /// Keeps a run's verdict in place of an earlier one.
    ///
    /// # Errors
    /// Where the file cannot be written, or there is no such run.
    pub fn put_verdict(&self, verdict: &Verdict) -> Result<(), Error> {
        let body = encode("a verdict", verdict)?;
        self.write("keep a verdict", |transaction| {
            transaction.execute(
                "INSERT INTO verdict (run, body) VALUES (?1, ?2)
                 ON CONFLICT (run) DO UPDATE SET body = excluded.body",
                params![verdict.run.as_str(), body],
            )?;
            Ok(())
        })
    }

    /// A run's verdict, where there is one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn verdict(&self, run: &RunId) -> Result<Option<Verdict>, Error> {
        let body: Option<String> = self.read("read a verdict", |transaction| {
            Ok(transaction
                .query_row("SELECT body FROM verdict WHERE run = ?1", [run.as_str()], |row| row.get(0))
                .optional()?)
        })?;
        body.map(|body| decode("the verdict", &body)).transpose()
    }
}

pub(crate) fn encode(what: &str, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Unreadable { what: what.to_owned(), why: error.to_string() })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, body: &str) -> Result<T, Error> {
    serde_json::from_str(body)
        .map_err(|error| Error::Unreadable { what: what.to_owned(), why: error.to_string() })
}

pub(crate) fn name<T: FromStr<Err: Display>>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| Error::Unreadable {
        what: format!("{what} `{text}`"),
        why: error.to_string(),
    })
}

/// The one of `ids` (the latest first) that begins with `prefix`.
pub(crate) fn only_match(kind: &'static str, prefix: &str, ids: Vec<String>) -> Result<String, Error> {
    let mut fits: Vec<&String> =
        ids.iter().filter(|id| !prefix.is_empty() && id.starts_with(prefix)).collect();
    if let Some(exact) = fits.iter().find(|id| id.as_str() == prefix) {
        fits = vec![exact];
    }
    match fits.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            Err(Error::NotFound { kind, sought: prefix.to_owned(), known: ids.into_iter().take(5).collect() })
        }
        several => Err(Error::Ambiguous {
            sought: prefix.to_owned(),
            fits: several.iter().take(5).map(|id| (*id).clone()).collect(),
        }),
    }
}
