//! Commands of operators to the process that carries out a run, and its answers.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use volutus_engine::Command;
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::name::RunId;

use crate::error::Error;
use crate::journal::append_events;
use crate::lease::{Lease, check_lease};
use crate::runs::read_run;
use crate::{Store, records};

/// A command that has not been answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCommand {
    /// Its number.
    pub id: i64,
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
    /// Since when.
    pub at: Timestamp,
}

/// The answer to a command that was carried out.
const ACCEPTED: &str = "accepted";

impl Store {
    /// Leaves a command for whoever carries out the run, and returns its number.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such run.
    pub fn push_command(
        &self,
        run: &RunId,
        command: Command,
        actor: &Actor,
        at: Timestamp,
    ) -> Result<i64, Error> {
        let text = records::encode("a command", &command)?;
        self.write("leave a command", |transaction| {
            read_run(transaction, run)?;
            transaction.execute(
                "INSERT INTO command (run, command, actor, at) VALUES (?1, ?2, ?3, ?4)",
                params![run.as_str(), text, actor.0, at.to_string()],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// The commands for a run that have not been answered, in the order in which they came.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn pending_commands(&self, run: &RunId) -> Result<Vec<PendingCommand>, Error> {
        self.read("read commands", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT id, command, actor, at FROM command WHERE run = ?1 AND answer IS NULL ORDER BY id",
            )?;
            let mut rows = statement.query([run.as_str()])?;
            let mut commands = Vec::new();
            while let Some(row) = rows.next()? {
                commands.push(PendingCommand {
                    id: row.get(0)?,
                    command: records::decode("a command", &row.get::<_, String>(1)?)?,
                    actor: Actor(row.get(2)?),
                    at: records::name("time", &row.get::<_, String>(3)?)?,
                });
            }
            Ok(commands)
        })
    }

    /// Records what a command led to, and that it was carried out, in one transaction: a crash
    /// neither loses a command nor carries it out twice.
    ///
    /// # Errors
    /// [`Error::Fenced`] as [`Store::append`].
    pub fn append_command(
        &self,
        lease: &Lease,
        run: &RunId,
        command: &PendingCommand,
        at: Timestamp,
        events: &[Event],
    ) -> Result<Vec<JournalEntry>, Error> {
        self.write("append a command to a journal", |transaction| {
            check_lease(transaction, lease)?;
            let entries = append_events(transaction, lease, run, &command.actor, at, events)?;
            transaction
                .execute("UPDATE command SET answer = ?2 WHERE id = ?1", params![command.id, ACCEPTED])?;
            Ok(entries)
        })
    }

    /// Answers a command that is not carried out, with the reason.
    ///
    /// # Errors
    /// [`Error::Fenced`] as [`Store::append`].
    pub fn refuse_command(&self, lease: &Lease, command: &PendingCommand, why: &str) -> Result<(), Error> {
        self.write("refuse a command", |transaction| {
            check_lease(transaction, lease)?;
            transaction.execute("UPDATE command SET answer = ?2 WHERE id = ?1", params![command.id, why])?;
            Ok(())
        })
    }

    /// What became of a command: `None` as long as nobody has answered, `Some(Ok(()))` where it
    /// was carried out, `Some(Err(why))` where it was refused.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such command.
    pub fn command_answer(&self, id: i64) -> Result<Option<Result<(), String>>, Error> {
        let answer: Option<Option<String>> = self.read("read an answer", |transaction| {
            Ok(transaction
                .query_row("SELECT answer FROM command WHERE id = ?1", [id], |row| row.get(0))
                .optional()?)
        })?;
        let answer = answer.ok_or_else(|| Error::NotFound {
            kind: "command",
            sought: id.to_string(),
            known: Vec::new(),
        })?;
        Ok(answer.map(|text| if text == ACCEPTED { Ok(()) } else { Err(text) }))
    }
}
