//! The queue of notices: what people are to be told, and whether they were.
//!
//! A notice is queued once for its key, and claimed before it is sent. One that was claimed and not
//! settled may have left: it is never sent again by itself.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;

use crate::Store;
use crate::error::Error;

/// The channel of notices that are read where they are kept, and are never sent.
pub const FEED: &str = "feed";

/// A notice to be queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewNotice {
    /// What makes it one notice and not two: what it is about, the moment, and to whom.
    pub key: String,
    /// The moment of a run's life that it tells of.
    pub moment: String,
    /// The way that it goes: `email`, `webhook` or [`FEED`].
    pub channel: String,
    /// What the configuration calls those who get it.
    pub recipient: String,
    /// The e-mail address; empty for a webhook, whose address may be a secret.
    pub address: String,
    /// Its subject.
    pub subject: String,
    /// Its text, or a webhook's JSON.
    pub body: String,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeState {
    /// It waits for its time.
    Queued,
    /// A process is sending it.
    Sending,
    /// It was taken.
    Sent,
    /// It was refused, or not taken in many tries.
    Failed,
    /// It may have left, or not: nobody saw the end.
    Unsure,
}

impl NoticeState {
    /// Its name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Unsure => "unsure",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Queued, Self::Sending, Self::Sent, Self::Failed, Self::Unsure];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A notice in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its number.
    pub id: i64,
    /// What it is.
    #[serde(flatten)]
    pub notice: NewNotice,
    /// What became of it.
    pub state: NoticeState,
    /// Tries so far.
    pub attempts: u32,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When it is to be tried next.
    pub due_at: Timestamp,
    /// When its state last changed.
    pub changed_at: Timestamp,
    /// Why it was not sent.
    pub error: Option<String>,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// It was taken.
    Sent,
    /// It has not left, and is tried again then.
    Later {
        /// When.
        at: Timestamp,
        /// Why it was not taken.
        why: String,
    },
    /// It is not tried again.
    Failed {
        /// Why.
        why: String,
    },
    /// It may have left.
    Unsure {
        /// What was seen last.
        why: String,
    },
}

/// No try takes longer; who claimed a notice before that and did not settle it is gone.
pub const SENDING_MAX: SignedDuration = SignedDuration::from_mins(5);

const COLUMNS: &str = "id, key, moment, channel, recipient, address, subject, body, state, attempts, queued_us, \
                       due_us, changed_us, error";

impl Store {
    /// Queues notices about a cloud. One of a key that was ever queued before is left out. Tells how
    /// many are new.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn queue_notices(&self, cloud: &str, notices: &[NewNotice], now: Timestamp) -> Result<usize, Error> {
        self.write("queue notices", |transaction| {
            let mut statement = transaction.prepare(
                "INSERT OR IGNORE INTO notice (cloud, key, moment, channel, recipient, address, subject, body, state,
                 queued_us, due_us, changed_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10, ?9, ?9, ?9)",
            )?;
            let mut new = 0;
            for one in notices {
                new += statement.execute(params![
                    cloud,
                    one.key,
                    one.moment,
                    one.channel,
                    one.recipient,
                    one.address,
                    one.subject,
                    one.body,
                    now.as_microsecond(),
                    if one.channel == FEED { NoticeState::Sent } else { NoticeState::Queued }.as_str(),
                ])?;
            }
            Ok(new)
        })
    }

    /// Takes the notice that has been due for longest, so that no other process sends it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn claim_notice(&self, cloud: &str, now: Timestamp) -> Result<Option<Notice>, Error> {
        let gone = now.checked_sub(SENDING_MAX).unwrap_or(Timestamp::MIN);
        self.write("claim a notice", |transaction| {
            transaction.execute(
                "UPDATE notice SET state = 'unsure', changed_us = ?1,
                 error = 'the process that was sending it ended before it knew'
                 WHERE state = 'sending' AND changed_us < ?2",
                params![now.as_microsecond(), gone.as_microsecond()],
            )?;
            let sql = format!(
                "UPDATE notice SET state = 'sending', attempts = attempts + 1, changed_us = ?2 WHERE id =
                 (SELECT id FROM notice WHERE cloud = ?1 AND state = 'queued' AND due_us <= ?2 ORDER BY due_us, id
                  LIMIT 1) RETURNING {COLUMNS}"
            );
            let found = transaction
                .query_row(&sql, params![cloud, now.as_microsecond()], |row| Ok(read(row)))
                .optional()?;
            found.transpose()
        })
    }

    /// Whether a notice about a cloud is due to be sent.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn is_notice_due(&self, cloud: &str, now: Timestamp) -> Result<bool, Error> {
        self.read("look for notices", |transaction| {
            let sql =
                "SELECT EXISTS (SELECT 1 FROM notice WHERE cloud = ?1 AND state = 'queued' AND due_us <= ?2)";
            Ok(transaction.query_row(sql, params![cloud, now.as_microsecond()], |row| row.get(0))?)
        })
    }

    /// Records how a try ended. A notice that is not being sent any more is left alone.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn settle_notice(&self, id: i64, how: &Sending, now: Timestamp) -> Result<(), Error> {
        let (state, due, why) = match how {
            Sending::Sent => (NoticeState::Sent, None, None),
            Sending::Later { at, why } => (NoticeState::Queued, Some(at.as_microsecond()), Some(why)),
            Sending::Failed { why } => (NoticeState::Failed, None, Some(why)),
            Sending::Unsure { why } => (NoticeState::Unsure, None, Some(why)),
        };
        self.write("settle a notice", |transaction| {
            transaction.execute(
                "UPDATE notice SET state = ?2, due_us = COALESCE(?3, due_us), error = ?4, changed_us = ?5
                 WHERE id = ?1 AND state = 'sending'",
                params![id, state.as_str(), due, why, now.as_microsecond()],
            )?;
            Ok(())
        })
    }

    /// Queues a notice again that failed, or of which it is not known whether it left; tells whether
    /// there was such a one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn requeue_notice(&self, id: i64, now: Timestamp) -> Result<bool, Error> {
        self.write("queue a notice again", |transaction| {
            let changed = transaction.execute(
                "UPDATE notice SET state = 'queued', due_us = ?2, changed_us = ?2, attempts = 0
                 WHERE id = ?1 AND state IN ('failed', 'unsure')",
                params![id, now.as_microsecond()],
            )?;
            Ok(changed > 0)
        })
    }

    /// The latest notices about a cloud that everybody may read, newest first, however many were sent to
    /// people besides.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn public_notices(&self, cloud: &str, count_max: u32) -> Result<Vec<Notice>, Error> {
        self.read("read notices", |transaction| {
            let sql = format!(
                "SELECT {COLUMNS} FROM notice WHERE cloud = ?1 AND channel = ?3 ORDER BY id DESC LIMIT ?2"
            );
            let mut statement = transaction.prepare(&sql)?;
            let rows = statement.query_map(params![cloud, count_max, FEED], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// The latest notices about a cloud, newest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn notices(&self, cloud: &str, count_max: u32) -> Result<Vec<Notice>, Error> {
        self.read("read notices", |transaction| {
            let sql = format!("SELECT {COLUMNS} FROM notice WHERE cloud = ?1 ORDER BY id DESC LIMIT ?2");
            let mut statement = transaction.prepare(&sql)?;
            let rows = statement.query_map(params![cloud, count_max], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
    }
}

fn read(row: &Row<'_>) -> Result<Notice, Error> {
    let time = |index: usize| -> Result<Timestamp, Error> {
        let us: i64 = row.get(index)?;
        Timestamp::from_microsecond(us)
            .map_err(|error| unreadable(format!("time {us} of a notice"), error.to_string()))
    };
    let state: String = row.get(8)?;
    Ok(Notice {
        id: row.get(0)?,
        notice: NewNotice {
            key: row.get(1)?,
            moment: row.get(2)?,
            channel: row.get(3)?,
            recipient: row.get(4)?,
            address: row.get(5)?,
            subject: row.get(6)?,
            body: row.get(7)?,
        },
        state: NoticeState::parse(&state).ok_or_else(|| {
            unreadable(format!("state `{state}` of a notice"), "there is none such".to_owned())
        })?,
        attempts: row.get(9)?,
        queued_at: time(10)?,
        due_at: time(11)?,
        changed_at: time(12)?,
        error: row.get(13)?,
    })
}

fn unreadable(what: String, why: String) -> Error {
    Error::Unreadable { what, why }
}
