//! What owners answered to notices.

use jiff::Timestamp;
use rusqlite::{Transaction, params};
use volutus_model::fleet::{Answer, Confirmation};

use crate::Store;
use crate::error::Error;

impl Store {
    /// Records answers to the announcement of a reboot plan, each in place of an earlier one to the same
    /// announcement. Tells whether it did: once a run of the plan has been created, or the announced begin
    /// has come, it is too late for all of them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn record_confirmations(&self, cloud: &str, given: &[Confirmation]) -> Result<bool, Error> {
        self.write("record answers of owners", |transaction| {
            let mut insert = transaction.prepare(
                "INSERT OR REPLACE INTO confirmation (cloud, plan, begins_us, instance, project, answer,
                 announced_stop, at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut plan = "";
            for one in given {
                if one.at >= one.begins {
                    return Ok(false);
                }
                if plan != one.plan {
                    plan = &one.plan;
                    if has_run(transaction, cloud, plan)? {
                        return Ok(false);
                    }
                }
            }
            for one in given {
                insert.execute(params![
                    cloud,
                    one.plan,
                    one.begins.as_microsecond(),
                    one.instance,
                    one.project,
                    one.answer.as_str(),
                    one.announced_stop,
                    one.at.as_microsecond(),
                ])?;
            }
            Ok(true)
        })
    }

    /// Whether there is a run of a plan of a reboot.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn has_run_of(&self, cloud: &str, plan: &str) -> Result<bool, Error> {
        self.read("look for a run", |transaction| has_run(transaction, cloud, plan))
    }

    /// The answers of owners in a cloud, the latest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn confirmations(&self, cloud: &str) -> Result<Vec<Confirmation>, Error> {
        self.read("read answers of owners", |transaction| {
            let mut statement = transaction.prepare(
                "SELECT plan, begins_us, project, instance, answer, announced_stop, at_us FROM confirmation
                 WHERE cloud = ?1 ORDER BY at_us DESC, instance",
            )?;
            let mut rows = statement.query([cloud])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let time = |us: i64| {
                    Timestamp::from_microsecond(us)
                        .map_err(|error| unreadable(format!("time {us} of an answer"), error.to_string()))
                };
                let answer: String = row.get(4)?;
                all.push(Confirmation {
                    plan: row.get(0)?,
                    begins: time(row.get(1)?)?,
                    project: row.get(2)?,
                    instance: row.get(3)?,
                    answer: Answer::parse(&answer).ok_or_else(|| {
                        unreadable(format!("answer `{answer}`"), "there is none such".to_owned())
                    })?,
                    announced_stop: row.get(5)?,
                    at: time(row.get(6)?)?,
                });
            }
            Ok(all)
        })
    }
}

/// The steps of a reboot are a plan of their own, whose kind names the reboot plan; they stay in their series,
/// which saves looking into plans of upgrades.
fn has_run(transaction: &Transaction<'_>, cloud: &str, plan: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM run JOIN plan ON plan.id = run.plan WHERE run.cloud = ?1
               AND plan.series_from = plan.series_to
               AND (plan.id = ?2 OR json_extract(plan.body, '$.kind.of') = ?2))";
    Ok(transaction.query_row(sql, params![cloud, plan], |row| row.get(0))?)
}

fn unreadable(what: String, why: String) -> Error {
    Error::Unreadable { what, why }
}
