//! What the synthetic user saw, one row per request.

use rusqlite::params;
use volutus_model::name::RunId;
use volutus_model::probe::{DATA_PLANE, Sample};

use crate::error::Error;
use crate::{Store, records};

impl Store {
    /// Keeps samples of a run, all of them or none.
    ///
    /// # Errors
    /// Where the file cannot be written, or there is no such run.
    pub fn append_samples(&self, run: &RunId, samples: &[Sample]) -> Result<(), Error> {
        self.write("keep samples", |transaction| {
            let mut insert = transaction
                .prepare_cached("INSERT INTO sample (run, due_us, failed, body) VALUES (?1, ?2, ?3, ?4)")?;
            for sample in samples {
                let body = records::encode("a sample", sample)?;
                insert.execute(params![run.as_str(), sample.due_us, sample.failed(), body])?;
            }
            Ok(())
        })
    }

    /// All samples of a run, by the time when they were due.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for a sample that is none.
    pub fn samples(&self, run: &RunId) -> Result<Vec<Sample>, Error> {
        self.read("read samples", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT body FROM sample WHERE run = ?1 ORDER BY due_us, id")?;
            let mut rows = statement.query([run.as_str()])?;
            let mut samples = Vec::new();
            while let Some(row) = rows.next()? {
                let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                samples.push(records::decode("a sample", body)?);
            }
            Ok(samples)
        })
    }

    /// Samples of a run that were kept after the position `after`, and the position of the last
    /// one: for somebody who follows a run. Positions start above 0.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for a sample that is none.
    pub fn samples_after(&self, run: &RunId, after: i64) -> Result<(Vec<Sample>, i64), Error> {
        self.read("follow samples", |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT id, body FROM sample WHERE run = ?1 AND id > ?2 ORDER BY id")?;
            let mut rows = statement.query(params![run.as_str(), after])?;
            let (mut samples, mut last) = (Vec::new(), after);
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                samples.push(records::decode("a sample", body)?);
            }
            Ok((samples, last))
        })
    }

    /// How many samples of a run that were due from `since_us` on (microseconds since the Unix
    /// epoch) failed, and how many there are.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn count_samples(&self, run: &RunId, since_us: i64) -> Result<(u64, u64), Error> {
        self.read("count samples", |transaction| {
            Ok(transaction
                .prepare_cached(
                    "SELECT coalesce(sum(failed), 0), count(*) FROM sample WHERE run = ?1 AND due_us >= ?2 \
                     AND json_extract(body, '$.service') <> ?3",
                )?
                .query_row(params![run.as_str(), since_us, DATA_PLANE], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?)
        })
    }
}
