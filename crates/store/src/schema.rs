//! The tables, and opening the file that holds them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::error::Error;

/// The version of the tables that this Volutus writes.
const VERSION: u32 = 4;

/// How long a write waits for another process's: their transactions take milliseconds, so one
/// that lasts longer than this is a process that hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Version 1 of the tables. Times are text in RFC 3339; documents are JSON as they were written.
const TABLES: &str = "
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE plan (
    id TEXT PRIMARY KEY, cloud TEXT NOT NULL, series_from TEXT NOT NULL, series_to TEXT NOT NULL,
    created_at TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE approval (
    plan TEXT PRIMARY KEY REFERENCES plan (id), actor TEXT NOT NULL, at TEXT NOT NULL,
    consents TEXT NOT NULL
) STRICT;
CREATE TABLE run (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL REFERENCES plan (id), cloud TEXT NOT NULL, created_at TEXT NOT NULL,
    next_seq INTEGER NOT NULL DEFAULT 0, head_hash TEXT NOT NULL DEFAULT '',
    ended INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX run_cloud ON run (cloud, position);
CREATE TABLE journal (
    run TEXT NOT NULL REFERENCES run (id), seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease (
    cloud TEXT PRIMARY KEY, epoch INTEGER NOT NULL, holder TEXT NOT NULL, held INTEGER NOT NULL,
    since TEXT NOT NULL, heartbeat TEXT NOT NULL, ttl_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE command (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES run (id),
    command TEXT NOT NULL, actor TEXT NOT NULL, at TEXT NOT NULL, answer TEXT
) STRICT;
CREATE INDEX command_open ON command (run, id) WHERE answer IS NULL;
CREATE TABLE sample (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES run (id),
    due_us INTEGER NOT NULL, failed INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX sample_run ON sample (run, due_us);
CREATE TABLE observation (
    id INTEGER PRIMARY KEY AUTOINCREMENT, cloud TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX observation_cloud ON observation (cloud, id);
CREATE TABLE verdict (
    run TEXT PRIMARY KEY REFERENCES run (id), body TEXT NOT NULL
) STRICT;
";

/// What version 2 adds: standing documents (advisories, schedules), by kind and key.
const DOCUMENTS: &str = "
CREATE TABLE document (
    kind TEXT NOT NULL, key TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
";

/// What version 3 adds: notices that wait to be sent, and those that were. Times are microseconds
/// since 1970, since they are compared.
const NOTICES: &str = "
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT, cloud TEXT NOT NULL, key TEXT NOT NULL UNIQUE,
    moment TEXT NOT NULL, channel TEXT NOT NULL, recipient TEXT NOT NULL, address TEXT NOT NULL,
    subject TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, queued_us INTEGER NOT NULL, due_us INTEGER NOT NULL,
    changed_us INTEGER NOT NULL, error TEXT
) STRICT;
CREATE INDEX notice_due ON notice (cloud, state, due_us);
";

/// What version 4 adds: what owners answered to notices; of each instance and announcement the last answer.
/// Times are microseconds since 1970.
const CONFIRMATIONS: &str = "
CREATE TABLE confirmation (
    cloud TEXT NOT NULL, plan TEXT NOT NULL, begins_us INTEGER NOT NULL, instance TEXT NOT NULL,
    project TEXT NOT NULL, answer TEXT NOT NULL, announced_stop INTEGER NOT NULL, at_us INTEGER NOT NULL,
    PRIMARY KEY (cloud, plan, begins_us, instance)
) STRICT, WITHOUT ROWID;
";

/// What leads to each version from the one before it.
const STEPS: [&str; VERSION as usize] = [TABLES, DOCUMENTS, NOTICES, CONFIRMATIONS];

pub(crate) fn open(directory: &Path, path: &Path) -> Result<Connection, Error> {
    // What a cloud is made of is nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| Error::Io {
        what: "make the state directory",
        path: directory.to_owned(),
        source,
    })?;
    let located = |source: rusqlite::Error| Error::from(source).at(path, "open the store");
    let mut connection = Connection::open(path).map_err(located)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(located)?;
    // WAL lets other processes read while a run writes. FULL makes every commit durable against
    // a loss of power, which is what "recorded before it is done" rests on.
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(located)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(located)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(located)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let located = |source: rusqlite::Error| Error::from(source).at(path, "open the store");
    if version(connection).map_err(located)? == VERSION {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(located)?;
    // Another process may have made the tables between the first look and the lock.
    let found = version(&transaction).map_err(located)?;
    if found > VERSION {
        return Err(Error::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    for (step, number) in STEPS.iter().zip(1..).skip(found as usize) {
        transaction.execute_batch(step).map_err(located)?;
        let statement = match number {
            1 => "INSERT INTO schema_version (version) VALUES (?1)",
            _ => "UPDATE schema_version SET version = ?1",
        };
        transaction.execute(statement, [number]).map_err(located)?;
    }
    transaction.commit().map_err(located)
}

/// The version that the file has; 0 where it has no tables yet.
fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let made: Option<u32> = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let found: Option<u32> = match made {
        None => None,
        Some(_) => {
            connection.query_row("SELECT version FROM schema_version", [], |row| row.get(0)).optional()?
        }
    };
    Ok(found.unwrap_or(0))
}
