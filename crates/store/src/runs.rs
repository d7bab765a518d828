//! Runs: which plan, which cloud, since when.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use volutus_model::name::{HostName, PlanId, RunId};

use crate::error::Error;
use crate::plans::read_approval;
use crate::{Store, records};

/// A run's id becomes part of the names of units on hosts, of which systemd allows 255
/// characters in all.
const RUN_ID_CHARS_MAX: usize = 64;

/// What is known of a run besides its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// Its plan.
    pub plan: PlanId,
    /// Its cloud.
    pub cloud: HostName,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether its journal says that it is at its end.
    pub ended: bool,
    /// Entries in its journal.
    pub entries: u64,
}

const COLUMNS: &str = "id, plan, cloud, created_at, ended, next_seq";

type RawRun = (String, String, String, String, bool, u64);

fn raw(row: &Row<'_>) -> rusqlite::Result<RawRun> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn record((id, plan, cloud, created_at, ended, entries): RawRun) -> Result<RunRecord, Error> {
    Ok(RunRecord {
        id: records::name("run id", &id)?,
        plan: records::name("plan id", &plan)?,
        cloud: records::name("cloud", &cloud)?,
        created_at: records::name("time", &created_at)?,
        ended,
        entries,
    })
}

impl Store {
    /// Creates a run of an approved plan. Its journal is empty.
    ///
    /// # Errors
    /// [`Error::NotApproved`]; [`Error::RunUnfinished`] while another run of the cloud has not
    /// ended; [`Error::RunId`]; [`Error::PlanAltered`] and [`Error::NotFound`] of the plan.
    pub fn create_run(
        &self,
        run: &RunId,
        plan: &PlanId,
        cloud: &HostName,
        at: Timestamp,
    ) -> Result<(), Error> {
        let fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if run.as_str().len() > RUN_ID_CHARS_MAX || !run.as_str().chars().all(fit) {
            let why =
                "it becomes part of unit names: at most 64 letters, digits, dashes, dots and underscores";
            return Err(Error::RunId { run: run.clone(), why });
        }
        self.any_plan(plan)?;
        self.write("create a run", |transaction| {
            if read_approval(transaction, plan)?.is_none() {
                return Err(Error::NotApproved { plan: plan.clone() });
            }
            let open: Option<String> = transaction
                .query_row("SELECT id FROM run WHERE cloud = ?1 AND ended = 0", [cloud.as_str()], |row| {
                    row.get(0)
                })
                .optional()?;
            if let Some(open) = open {
                let open = records::name("run id", &open)?;
                return Err(Error::RunUnfinished { cloud: cloud.clone(), run: open });
            }
            let created = transaction.execute(
                "INSERT INTO run (id, plan, cloud, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO NOTHING",
                params![run.as_str(), plan.as_str(), cloud.as_str(), at.to_string()],
            )?;
            if created == 0 {
                return Err(Error::RunId { run: run.clone(), why: "another run has it" });
            }
            Ok(())
        })
    }

    /// All runs, the latest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRecord>, Error> {
        self.read("list runs", |transaction| {
            let mut statement =
                transaction.prepare(&format!("SELECT {COLUMNS} FROM run ORDER BY position DESC"))?;
            let rows = statement.query_map([], raw)?;
            rows.map(|row| record(row?)).collect()
        })
    }

    /// The run of that id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn run(&self, id: &RunId) -> Result<RunRecord, Error> {
        self.read("read a run", |transaction| read_run(transaction, id))
    }

    /// The run whose id begins like this.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the latest runs, [`Error::Ambiguous`].
    pub fn find_run(&self, prefix: &str) -> Result<RunRecord, Error> {
        let ids = self.runs()?.into_iter().map(|run| run.id.to_string()).collect();
        let id = records::only_match("run", prefix, ids)?;
        self.run(&records::name("run id", &id)?)
    }

    /// The latest run of a cloud, where there is one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn latest_run(&self, cloud: &HostName) -> Result<Option<RunRecord>, Error> {
        self.read("read a run", |transaction| {
            transaction
                .query_row(
                    &format!("SELECT {COLUMNS} FROM run WHERE cloud = ?1 ORDER BY position DESC LIMIT 1"),
                    [cloud.as_str()],
                    raw,
                )
                .optional()?
                .map(record)
                .transpose()
        })
    }
}

pub(crate) fn read_run(transaction: &Transaction<'_>, id: &RunId) -> Result<RunRecord, Error> {
    transaction
        .query_row(&format!("SELECT {COLUMNS} FROM run WHERE id = ?1"), [id.as_str()], raw)
        .optional()?
        .map(record)
        .transpose()?
        .ok_or_else(|| Error::NotFound { kind: "run", sought: id.to_string(), known: Vec::new() })
}
